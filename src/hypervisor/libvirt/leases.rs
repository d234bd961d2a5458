//! Word of a lease. libvirt has no event for one, but writes a file anew with each, and the kernel tells of that. Where the file
//! may not be watched there is no word, and a machine's address is found by looking.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use inotify::{Event, EventMask, Inotify, WatchMask};
use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::broadcast;

use crate::model::Wake;

/// Where libvirt writes the leases of its networks, each in a file that is named after the bridge.
const DIRECTORY: &str = "/var/lib/libvirt/dnsmasq";
/// Bytes of inotify's events at once.
const BUFFER: usize = 4096;

/// Tells of leases, until it is dropped.
pub(super) struct Leases {
    /// The watching thread sees this end close.
    _end: UnixStream,
}

impl Leases {
    /// Tells of those on this bridge.
    pub(super) fn watch(bridge: &str, wakes: broadcast::Sender<Wake>) -> io::Result<Leases> {
        Leases::watch_in(Path::new(DIRECTORY), bridge, wakes)
    }

    fn watch_in(directory: &Path, bridge: &str, wakes: broadcast::Sender<Wake>) -> io::Result<Leases> {
        let inotify = Inotify::init()?;
        // Written aside, and then renamed.
        inotify.watches().add(directory, WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE)?;
        let (end, other) = UnixStream::pair()?;
        let file = format!("{bridge}.status");
        let watch = move || {
            if let Err(error) = tell(inotify, &other, &file, &wakes) {
                tracing::warn!(%error, "no word of leases any more");
            }
        };
        thread::Builder::new().name("leases".into()).spawn(watch)?;
        Ok(Leases { _end: end })
    }
}

fn tell(mut inotify: Inotify, end: &UnixStream, file: &str, wakes: &broadcast::Sender<Wake>) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    loop {
        let [written, ended] = {
            let mut either = [PollFd::new(&inotify, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
            match poll(&mut either, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            either.map(|one| !one.revents().is_empty())
        };
        // One that was lost may have been ours.
        let ours = |event: Event<&OsStr>| {
            event.mask.contains(EventMask::Q_OVERFLOW) || event.name.is_some_and(|name| name == file)
        };
        if written && inotify.read_events(&mut buffer)?.any(ours) {
            // Nobody listening is fine.
            let _ = wakes.send(Wake::Lease);
        }
        if ended {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_lease_on_the_bridge_is_told_of_and_one_on_another_is_not() {
        let mut told = ["anw1.status", "anw0.status"].map(|file| {
            let directory = tempfile::tempdir().unwrap();
            let path = |name: &str| directory.path().join(name);
            let (wakes, told) = broadcast::channel(8);
            let leases = Leases::watch_in(directory.path(), "anw0", wakes).unwrap();
            fs::write(path("aside"), "[]").unwrap();
            fs::rename(path("aside"), path(file)).unwrap();
            // The thread tells of what was before, and ends, and the last sender with it.
            drop(leases);
            told
        });
        let [other, ours] = told.each_mut().map(|told| told.blocking_recv());
        assert_eq!((other, ours), (Err(broadcast::error::RecvError::Closed), Ok(Wake::Lease)));
    }
}
