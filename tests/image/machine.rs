//! A guest in a QEMU process of its own, without libvirt.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anweddol::guest::image::{Built, CMDLINE};

/// What it boots.
pub(crate) enum Boot<'a> {
    Kernel(&'a Built),
    Iso(&'a Built),
    Disk(&'a Path),
}

/// A running guest; killed when dropped.
pub(crate) struct Machine {
    /// Leads to its port 22.
    pub(crate) at: SocketAddr,
    /// Leads to its port 2022.
    pub(crate) second: SocketAddr,
    process: Mutex<Child>,
}

impl Machine {
    pub(crate) fn boot(boot: Boot<'_>) -> Self {
        let [at, second] = free_ports();
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-machine", "pc,accel=tcg", "-m", "256", "-smp", "1", "-nodefaults", "-no-user-config"]);
        command.args(["-display", "none", "-no-reboot"]);
        match boot {
            Boot::Kernel(image) => {
                command.arg("-kernel").arg(&image.kernel.path).arg("-initrd").arg(&image.initrd.path);
                command.args(["-append", CMDLINE]);
            }
            Boot::Iso(image) => {
                command.arg("-cdrom").arg(&image.iso.path);
            }
            Boot::Disk(disk) => {
                // Written nowhere: a snapshot is QEMU's own overlay.
                let disk = disk.display();
                command.arg("-drive").arg(format!("file={disk},format=qcow2,if=virtio,snapshot=on"));
            }
        }
        let (a, b) = (at.port(), second.port());
        command.arg("-netdev");
        command.arg(format!("user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{a}-:22,hostfwd=tcp:127.0.0.1:{b}-:2022"));
        command.args(["-device", "virtio-net-pci,netdev=n,romfile="]);
        // Without it the guest waits a second for randomness before it can make a host key.
        command.args(["-device", "virtio-rng-pci"]);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("qemu-system-x86_64");
        Machine { at, second, process: Mutex::new(process) }
    }

    /// Waits until it has powered off.
    pub(crate) fn ended(&self, patience: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < patience {
            if self.process.lock().unwrap().try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let mut process = self.process.lock().unwrap();
        process.kill().ok();
        process.wait().ok();
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}
