//! From its installation to its purge.

use std::fs;

use crate::common::ask::{create, destroy, grant, runtime, until_available};
use crate::host::{ADDRESS, Host, execute, log_in};

/// Files that are named like it, beside the package itself. What libvirt leaves of a network until the next boot is its own.
fn files(host: &Host) -> String {
    host.run("find / -xdev -name '*anweddol*' ! -path '/root/*' ! -path '/proc/*'; find /run /tmp -name '*anweddol*' ! -path '/run/libvirt/*'")
}

/// What of machines and networks is there.
fn machines(host: &Host) -> String {
    let libvirt = "virsh -q -c qemu:///system";
    host.run(&format!(
        "{libvirt} list --all --name; {libvirt} net-list --all --name; nft list tables; ls /var/log/libvirt/qemu"
    ))
}

fn with_a_disk(host: &Host) {
    let (path, key) = (host.path("/etc/anweddol/config.yaml"), "container:\n");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(key));
    let disk = "container:\n  image: {disk: {path: /var/lib/anweddol/images/disk.qcow2}}\n";
    fs::write(path, text.replacen(key, disk, 1)).unwrap();
}

#[test]
#[ignore = "needs qemu and prepare.sh: run through tests/lab/run.sh"]
fn a_session_lives_through_an_upgrade_a_removal_ends_its_machine_and_a_purge_leaves_nothing() {
    let host = Host::boot();
    assert_eq!(files(&host), "");
    let before = machines(&host);

    // Installed, it waits for an image, and says so.
    host.install("first.deb");
    assert_eq!((host.unit("ActiveState"), host.unit("Result")), ("inactive".into(), "exec-condition".into()));
    assert!(host.log().contains("build one with 'anweddol image build'"), "{}", host.log());
    assert!(host.run("id anweddol").contains("(libvirt)"));
    host.run("man=/usr/share/man/man1; test -s $man/anweddol.1.gz && test -s $man/anweddol-serve.1.gz");
    host.run("test -s /usr/share/bash-completion/completions/anweddol");

    // Its machines are of a disk: libvirtd gives QEMU what a daemon that is not root makes.
    host.add_image();
    with_a_disk(&host);
    host.run("systemctl start anweddol");
    let granted = grant(&create(ADDRESS));
    let key = host.run("anweddol fingerprint");
    let runtime = runtime();
    let mut session = runtime.block_on(log_in(&granted));
    assert_eq!(runtime.block_on(execute(&mut session, "id -un")).trim(), granted.username);

    let old = host.unit("MainPID");
    host.install("next.deb");
    assert_eq!(host.unit("ActiveState"), "active");
    assert_ne!(host.unit("MainPID"), old);
    assert!(host.log().contains("ADOPTED"));
    assert_eq!(runtime.block_on(execute(&mut session, "echo after")), "after\n");
    assert_eq!(host.run("anweddol fingerprint"), key);
    assert!(host.run("cat /etc/anweddol/config.yaml").contains("images/disk.qcow2"));
    host.run("anweddol doctor");

    // What root does meanwhile is the daemon's user's, and no obstacle to it.
    host.run("systemctl stop anweddol");
    assert_eq!(runtime.block_on(execute(&mut session, "echo without")), "without\n");
    host.run("anweddol doctor && anweddol store check");
    host.run("anweddol store export /root/kept && anweddol store import --replace /root/kept");
    assert_eq!(host.run("find /var/lib/anweddol -user root -printf '%p\\n' | grep -v /images || true"), "");
    host.run("systemctl start anweddol");

    host.run("dpkg --remove anweddol");
    assert_eq!(machines(&host), before);
    let ended = runtime.block_on(session.execute("true", std::time::Duration::from_secs(2)));
    assert!(ended.is_err());
    host.run("test -d /var/lib/anweddol/store && test -f /etc/anweddol/config.yaml && id anweddol");

    // Back again, it remembers, and its client's machine has ended.
    host.install("next.deb");
    assert_eq!(host.unit("ActiveState"), "active");
    assert_eq!(host.run("anweddol fingerprint"), key);
    until_available(ADDRESS, 6);
    assert!(!destroy(ADDRESS, &granted).success);

    host.run("dpkg --purge anweddol");
    assert_eq!(machines(&host), before);
    assert_eq!(files(&host), "");
    assert!(!host.tries("id anweddol").0);
    assert_eq!(host.run("grep -lx anweddol /proc/[0-9]*/comm || true"), "", "its processes");
}
