use super::open::hint;
use super::*;

#[test]
fn each_mode_has_its_network() {
    assert_eq!(Config::embedded("/x").network(), Network::User);
    assert_eq!(Config::system().network(), Network::Nat);
    assert_eq!(Config::embedded("/x").uri(), "qemu:///embed?root=/x");
}

#[test]
fn an_open_that_fails_says_what_to_do() {
    let (embedded, system) = (Config::embedded("/run/x").mode, Config::system().mode);
    for (mode, reason, advice) in [
        (&system, "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file", "is libvirtd running"),
        (&system, "Failed to connect socket: Permission denied", "in the group libvirt"),
        (&system, "authentication unavailable: no polkit agent", "in the group libvirt"),
        (&embedded, "Failed to acquire pid file '/run/x/run/qemu/driver.pid'", "another process has /run/x open"),
        (&embedded, "no connection driver available", "libvirt-daemon"),
    ] {
        let text = hint(mode, reason);
        assert!(text.contains(advice) && text.contains(reason), "{text}");
    }
}

#[test]
fn where_other_threads_run_the_environment_is_left_alone() {
    std::thread::scope(|scope| {
        let (end, wait) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || wait.recv());
        assert!(!quiet());
        drop(end);
    });
    assert_eq!(std::env::var_os("LIBVIRT_LOG_OUTPUTS"), None);
}
