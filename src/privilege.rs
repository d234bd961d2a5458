//! What the kernel lets this process do besides what its user may: a daemon need not be root for nftables.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{self, CapabilitySet};

use crate::hypervisor::account::Account;

/// Those that programs which this process starts get too, where it has them: `nft`, `ip` and `conntrack` need the first,
/// and libvirt's logs of machines, which only root may read, the second.
const INHERITED: [CapabilitySet; 2] = [CapabilitySet::NET_ADMIN, CapabilitySet::DAC_OVERRIDE];

/// Whether it may change networks, and nftables with them.
pub(crate) fn may_administer_networks() -> bool {
    has(CapabilitySet::NET_ADMIN)
}

/// Whether it may give a file to another user.
pub(crate) fn may_give_files_away() -> bool {
    has(CapabilitySet::CHOWN)
}

fn has(capability: CapabilitySet) -> bool {
    thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// Where this process is root and a directory is somebody else's, it goes on as that user, with what it may as root:
/// what it makes there is theirs, as if their daemon had made it. To be called before there is a second thread.
pub(crate) fn act_as_owner_of(directory: &Path) -> io::Result<()> {
    let Some(owner) = stranger(directory)? else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gids[0]));
    let gids: Vec<Gid> = owner.gids.iter().copied().map(Gid::from_raw).collect();
    let before = thread::capabilities(None)?;
    thread::set_thread_groups(&gids)?;
    thread::set_thread_res_gid(gid, gid, gid)?;
    thread::set_keep_capabilities(true)?;
    thread::set_thread_res_uid(uid, uid, uid)?;
    let inheritable = INHERITED.into_iter().collect::<CapabilitySet>() & before.permitted;
    let sets = thread::CapabilitySets { effective: before.permitted, permitted: before.permitted, inheritable };
    thread::set_capabilities(None, sets)?;
    for capability in inheritable.iter() {
        thread::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// The owner of a directory, where this process is root and they are not. What is not there will be root's.
fn stranger(directory: &Path) -> io::Result<Option<Account>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    // Why it cannot be looked at is told by whoever needs it.
    let Ok(found) = fs::metadata(directory) else { return Ok(None) };
    if found.uid() == 0 {
        return Ok(None);
    }
    let nameless = || Account {
        name: found.uid().to_string(),
        uid: found.uid(),
        group: found.gid().to_string(),
        gids: vec![found.gid()],
    };
    Ok(Some(Account::of_uid(found.uid()).unwrap_or_else(nameless)))
}

#[cfg(test)]
mod tests;
