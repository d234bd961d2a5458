//! What the tests share: the lab, domains that boot nothing, child processes, and waiting for conditions.

// Each suite uses its part.
#[allow(dead_code)]
#[path = "../common/libvirtd.rs"]
pub(crate) mod libvirtd;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anweddol::hypervisor::libvirt::Libvirt;
use anweddol::hypervisor::{DomainSpec, Hypervisor, HypervisorError};
use anweddol::model::{DiskFormat, DomainSeen, DomainState, DomainType, Image, Mark, Memory, NetworkSpec, Wake};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::broadcast;
use uuid::Uuid;

/// Refuses to run outside of the lab, or in the wrong one.
pub(crate) fn lab(mode: &str) {
    let found = std::env::var("ANWEDDOL_LAB").unwrap_or_default();
    assert_eq!(found, mode, "this test changes its host: run it in tests/lab/run.sh (see tests/libvirt/main.rs)");
}

/// A directory in the lab that QEMU's user may read.
pub(crate) fn scratch() -> PathBuf {
    let dir = PathBuf::from(format!("/run/t{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A domain that finds nothing to boot, and stays.
pub(crate) fn spec() -> DomainSpec {
    let iso = scratch().join("empty.iso");
    fs::write(&iso, vec![0; 1 << 16]).unwrap();
    let uid = Uuid::new_v4();
    let [a, b, c, ..] = *uid.as_bytes();
    DomainSpec {
        mark: Mark { instance: Uuid::from_u128(7), namespace: "default".into(), name: "test-0".into(), uid },
        mac: format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"),
        image: Image::Iso(iso),
        memory: Memory::mebibytes(64),
        vcpus: 1,
        domain_type: DomainType::Auto,
        network: NetworkSpec::default(),
    }
}

/// What a hypervisor promises of disks, on a domain that finds nothing to boot on its own.
pub(crate) fn overlay_is_made_afresh_and_stays_as_long_as_its_domain(libvirt: &Libvirt, disks: &Path) {
    let base = scratch().join("base");
    fs::write(&base, vec![0; 1 << 20]).unwrap();
    let disk = |format| Image::Disk { path: base.clone(), format };
    let mut spec = DomainSpec { image: disk(DiskFormat::Qcow2), ..spec() };
    let uuid = spec.mark.uid;
    let wrong = libvirt.create(&spec).unwrap_err();
    assert!(matches!(wrong, HypervisorError::Invalid { .. }), "{wrong}");
    assert!(wrong.to_string().contains("base as a qcow2 disk"), "{wrong}");
    spec.image = Image::Disk { path: scratch().join("none"), format: DiskFormat::Raw };
    assert!(matches!(libvirt.create(&spec), Err(HypervisorError::Invalid { .. })));

    spec.image = disk(DiskFormat::Raw);
    let overlay = disks.join(format!("{uuid}.qcow2"));
    fs::write(&overlay, "half of one").unwrap();
    libvirt.create(&spec).unwrap();
    running(libvirt, &spec);
    let made = fs::metadata(&overlay).unwrap();
    assert!(fs::read(&overlay).unwrap().starts_with(b"QFI\xfb"));
    libvirt.create(&spec).unwrap();
    assert_eq!(fs::metadata(&overlay).unwrap().ino(), made.ino(), "a running machine's disk was replaced");
    assert!(libvirt.has_disk(uuid).unwrap() && libvirt.disks().unwrap() == [uuid]);
    assert!(libvirt.remove_disk(uuid).is_err() && overlay.exists());

    libvirt.destroy(&spec.mark).unwrap();
    assert!(libvirt.has_disk(uuid).unwrap());
    for _ in 0..2 {
        libvirt.remove_disk(uuid).unwrap();
        assert!(!libvirt.has_disk(uuid).unwrap() && libvirt.disks().unwrap().is_empty());
    }
    assert_eq!(fs::read(&base).unwrap(), vec![0; 1 << 20]);
}

/// Waits until something is so; a minute is far more than anything here takes.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for a wake; a lag counts as any.
pub(crate) fn until_wake(wakes: &mut broadcast::Receiver<Wake>, want: Wake) {
    until(&format!("{want:?}"), || match wakes.try_recv() {
        Ok(wake) => (wake == want).then_some(()),
        Err(broadcast::error::TryRecvError::Lagged(_)) => Some(()),
        Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => None,
    });
}

/// The domain, which has to run and bear its mark.
pub(crate) fn running(libvirt: &Libvirt, spec: &DomainSpec) -> DomainSeen {
    let seen = libvirt.find(spec.mark.uid).unwrap().expect("the domain is there");
    assert_eq!((seen.state, seen.mark.as_ref()), (DomainState::Running, Some(&spec.mark)));
    assert_eq!((seen.uuid, seen.name.as_str()), (spec.mark.uid, spec.domain_name().as_str()));
    seen
}

pub(crate) fn is_listed(libvirt: &Libvirt, spec: &DomainSpec) -> bool {
    libvirt.list().unwrap().iter().any(|domain| domain.uuid == spec.mark.uid)
}

/// Kills the process whose number is in a file, at once.
pub(crate) fn kill_by_file(file: &Path) {
    let pid: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// A program that is ended when the test is.
pub(crate) struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This test program again, in another role: `test` is the name of the ignored test that plays it. It is up when it
/// says `ready`.
pub(crate) fn role(before: &[&str], test: &str, argument: &str) -> Running {
    let me = std::env::current_exe().unwrap();
    let mut words: Vec<&str> = before.to_vec();
    words.extend([me.to_str().unwrap(), "--exact", test, "--ignored", "--nocapture"]);
    let child = Command::new(words[0])
        .args(&words[1..])
        .env("ANWEDDOL_TEST_ROLE", argument)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    // The harness prints lines of its own before, and the rest of one.
    let ready = lines.by_ref().map_while(Result::ok).any(|line| line.ends_with("ready"));
    assert!(ready, "{test} {argument} ended");
    std::thread::spawn(move || lines.map_while(Result::ok).count());
    running
}

/// What a role was started with; `None` where it is run as if it were a test.
pub(crate) fn argument() -> Option<String> {
    std::env::var("ANWEDDOL_TEST_ROLE").ok()
}
