//! The reference image on a real guest: built, booted under QEMU's software emulation, set up and logged into.

mod debian;
mod machine;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anweddol::guest::image::{BuildOptions, Built, build};
use anweddol::guest::ssh::{EndpointShell, Exit, Output, SETUP_SCRIPT, SshShell};
use anweddol::guest::{Login, Shell, ShellError};
use machine::{Boot, Machine};
use secrecy::ExposeSecret;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

/// Generous: other suites may run at the same time.
const PATIENCE: Duration = Duration::from_secs(120);

fn runtime() -> Runtime {
    Builder::new_multi_thread().enable_all().build().unwrap()
}

fn login() -> Login {
    let (username, password) = EndpointShell::generate_credentials();
    Login { uuid: Uuid::new_v4(), username, password }
}

/// The image, out of a cache that outlives the test: only the first run fetches packages.
fn image(out: &Path) -> Built {
    let cache_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image-cache");
    build(&BuildOptions { out_dir: out.into(), cache_dir }, &mut |_| {}).unwrap()
}

fn told(what: &str, since: Instant) {
    eprintln!("{what}: {:.2} s", since.elapsed().as_secs_f64());
}

#[test]
#[ignore = "needs apt and qemu: builds the image and boots it"]
fn the_same_packages_give_the_same_image_and_a_second_build_is_cached() {
    let scratch = tempfile::tempdir().unwrap();
    let mut images = Vec::new();
    // What a build that was killed has left.
    let left = scratch.path().join("cache/b/images/.x-999999999");
    fs::create_dir_all(&left).unwrap();
    for name in ["a", "a", "b"] {
        let options =
            BuildOptions { out_dir: scratch.path().join("out"), cache_dir: scratch.path().join("cache").join(name) };
        let start = Instant::now();
        let mut lines = Vec::new();
        let built = build(&options, &mut |line| lines.push(line.to_owned())).unwrap();
        told(&lines.join(", "), start);
        images.push(built);
    }
    let hashes =
        |built: &Built| [&built.kernel, &built.initrd, &built.iso, &built.disk].map(|file| file.sha256.clone());
    assert_eq!([false, true, false], [images[0].cached, images[1].cached, images[2].cached]);
    assert_eq!(hashes(&images[0]), hashes(&images[1]));
    assert_eq!(hashes(&images[0]), hashes(&images[2]));
    assert_eq!(images[0].key, images[2].key);
    assert!(!left.exists());
    for file in [&images[0].kernel, &images[0].initrd, &images[0].iso, &images[0].disk] {
        let name = file.path.file_name().unwrap().to_string_lossy();
        eprintln!("{name}: {} bytes, SHA-256 {}", file.size, file.sha256);
    }
}

#[test]
#[ignore = "needs apt and qemu: builds the image and boots it"]
fn a_guest_of_the_kernel_is_given_to_its_user() {
    let scratch = tempfile::tempdir().unwrap();
    is_given_to_its_user(Boot::Kernel(&image(scratch.path())));
}

#[test]
#[ignore = "needs apt and qemu: builds the image and boots it"]
fn a_guest_of_the_iso_is_given_to_its_user() {
    let scratch = tempfile::tempdir().unwrap();
    is_given_to_its_user(Boot::Iso(&image(scratch.path())));
}

#[test]
#[ignore = "needs apt and qemu: builds the image and boots it"]
fn a_guest_of_the_disk_is_given_to_its_user_and_finds_a_disk() {
    let scratch = tempfile::tempdir().unwrap();
    is_given_to_its_user(Boot::Disk(&image(scratch.path()).disk.path));
}

fn is_given_to_its_user(boot: Boot<'_>) {
    let runtime = runtime();
    let shell = SshShell::new(runtime.handle().clone());
    let who = login();
    let start = Instant::now();
    let machine = Machine::boot(boot);
    shell.personalise(machine.at, &who, PATIENCE.into(), None).unwrap();
    told("set up", start);

    runtime.block_on(async {
        let start = Instant::now();
        let refused = EndpointShell::connect(machine.at, PATIENCE).await.err();
        assert!(matches!(refused, Some(ShellError::Refused { .. })), "{refused:?}");
        told("endpoint refused", start);

        let start = Instant::now();
        let mut user = EndpointShell::connect_as(machine.at, &who.username, &who.password, PATIENCE).await.unwrap();
        told("user logged in", start);
        let output = user.execute("sudo -n id -u; id -un; pwd; command -v sudo", PATIENCE).await;
        let output = String::from_utf8(output.unwrap().stdout).unwrap();
        assert_eq!(output, format!("0\n{0}\n/home/{0}\n/usr/bin/sudo\n", who.username));
        // A login in an emulated guest starts no program anew.
        let output = user.execute("tr '\\0' ' ' < /proc/$(cat /run/sshd.pid)/cmdline", PATIENCE).await.unwrap();
        let listener = String::from_utf8(output.stdout).unwrap();
        assert!(listener.contains("/usr/sbin/sshd -D -r "), "{listener}");
        let output = user.execute("kill -9 $$", PATIENCE).await.unwrap();
        assert_eq!(output.exit, Exit::Signal("KILL".into()));
        user.close().await;
    });

    let start = Instant::now();
    shell.personalise(machine.at, &who, PATIENCE.into(), None).unwrap();
    told("set up again", start);
    let stranger = shell.personalise(machine.at, &login(), PATIENCE.into(), None);
    assert!(matches!(stranger, Err(ShellError::Refused { .. })), "{stranger:?}");

    let powered_off = runtime.block_on(async {
        let mut user = EndpointShell::connect_as(machine.at, &who.username, &who.password, PATIENCE).await.unwrap();
        user.execute("sudo -n poweroff", PATIENCE).await.ok();
        machine.ended(PATIENCE)
    });
    assert!(powered_off, "the guest did not power off");
}

/// Sets a machine up for four users at once, and tells whose it is. All but one must be refused.
fn set_up_at_once(runtime: &Runtime, at: SocketAddr) -> Login {
    let users = [(); 4].map(|()| login());
    let mut command = String::new();
    for Login { username, password, .. } in &users {
        command += &format!("sudo {SETUP_SCRIPT} {username} {} 22 & all=\"$all $!\"; ", password.expose_secret());
    }
    command += "for run in $all; do wait $run; echo $?; done";
    let output = runtime.block_on(async {
        let mut endpoint = EndpointShell::connect(at, PATIENCE).await.unwrap();
        endpoint.execute(&command, PATIENCE).await.unwrap()
    });
    let said = String::from_utf8(output.stdout).unwrap();
    let winner = said.lines().position(|status| status == "0").expect("one that went well");
    assert_eq!(said.lines().filter(|status| *status == "0").count(), 1, "{said}");
    let [who, ..] = &users[winner..] else { panic!("{said}") };
    runtime.block_on(async {
        let mut user = EndpointShell::connect_as(at, &who.username, &who.password, PATIENCE).await.unwrap();
        let others = "sudo -n grep -c '^user_[^:]*:[$]' /etc/shadow; grep ^sudo: /etc/group";
        let output = user.execute(others, PATIENCE).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("1\nsudo:x:27:{}\n", who.username));
        user.close().await;
    });
    who.clone()
}

#[test]
#[ignore = "needs apt and qemu: builds the image and boots it"]
fn one_of_several_set_ups_at_once_gives_the_machine_away() {
    let scratch = tempfile::tempdir().unwrap();
    let machine = Machine::boot(Boot::Kernel(&image(scratch.path())));
    set_up_at_once(&runtime(), machine.at);
}

/// As the daemon's second try is, after its connection was cut or it was started again.
#[test]
#[ignore = "needs apt and qemu: builds the image and boots it"]
fn a_set_up_that_meets_its_own_earlier_run_ends_well() {
    let scratch = tempfile::tempdir().unwrap();
    let machine = Machine::boot(Boot::Kernel(&image(scratch.path())));
    let runtime = runtime();
    let who = login();
    let command = format!("sudo {SETUP_SCRIPT} {} {} 22", who.username, who.password.expose_secret());
    let again = runtime.block_on(async {
        let mut first = EndpointShell::connect(machine.at, PATIENCE).await.unwrap();
        let mut second = EndpointShell::connect(machine.at, PATIENCE).await.unwrap();
        let cut = first.execute(&command, Duration::from_millis(50)).await;
        assert!(matches!(cut, Err(ShellError::Broken { .. })), "{cut:?}");
        second.execute(&command, PATIENCE).await
    });
    // Ended by the first one: what is broken is tried again. Any status but 0 would be the last word.
    assert!(matches!(again, Err(ShellError::Broken { .. }) | Ok(Output { exit: Exit::Status(0), .. })), "{again:?}");
    SshShell::new(runtime.handle().clone()).personalise(machine.at, &who, PATIENCE.into(), None).unwrap();
}

#[test]
#[ignore = "needs apt and qemu: builds the image and boots it"]
fn the_set_up_script_takes_no_bad_argument_and_the_endpoint_may_do_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let image = image(scratch.path());
    let start = Instant::now();
    let machine = Machine::boot(Boot::Kernel(&image));
    let runtime = runtime();
    runtime.block_on(async {
        let mut bystander = EndpointShell::connect(machine.at, PATIENCE).await.unwrap();
        told("endpoint logged in", start);
        let mut endpoint = EndpointShell::connect(machine.at, PATIENCE).await.unwrap();
        let script = "sudo /bin/anweddol_container_setup.sh";
        for arguments in [
            "",
            "user_12345 secret",
            "root secret 22",
            "endpoint secret 22",
            "'user:x' secret 22",
            "'../etc' secret 22",
            "user_12345 'a b' 22",
            "user_12345 '' 22",
            "user_12345 secret 0",
            "user_12345 secret 65536",
            "user_12345 secret 22x",
        ] {
            let output = endpoint.execute(&format!("{script} {arguments}"), PATIENCE).await.unwrap();
            assert_eq!(output.exit, Exit::Status(2), "{arguments}");
            assert!(output.stderr.starts_with(b"anweddol_container_setup.sh: "), "{arguments}");
        }
        let other = format!("{script}.bak");
        let real = format!("/usr/bin/{script} user_12345 secret 22");
        for command in ["sudo", "sudo -n id", "sudo /bin/sh", &other, &real, "cat /etc/shadow", "su -c id"] {
            let output = endpoint.execute(&format!("{command} </dev/null"), PATIENCE).await.unwrap();
            assert_eq!(output.exit, Exit::Status(1), "{command}");
        }

        // Another port restarts the server, and the session that asked for it ends with status 0 all the same.
        let output = endpoint.execute(&format!("{script} user_12345 secret 2022"), PATIENCE).await.unwrap();
        assert_eq!((output.exit, output.stdout, output.stderr), (Exit::Status(0), vec![], vec![]));
        assert!(bystander.execute("true", PATIENCE).await.is_err(), "another endpoint session outlived the set-up");
    });
    let password = "secret".into();
    runtime.block_on(async {
        let login = EndpointShell::connect_as(machine.second, "user_12345", &password, PATIENCE);
        let mut user = login.await.unwrap();
        // Nor is it given a second time, whoever was on the way to that.
        let output = user.execute("sudo /bin/anweddol_container_setup.sh user_54321 other 22", PATIENCE).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.exit == Exit::Status(2) && said.contains("set up already"), "{:?}: {said}", output.exit);
    });
}
