//! The user that QEMU runs as, and what that user may open.
//!
//! Where the daemon is root, QEMU is not: an image below a directory that only root may enter, or a `/dev/kvm` of
//! the wrong group, fails late and with a riddle for a message. Asked here, before, the answer has a name in it.
//! Mode bits only: access lists can allow more, so these answers are for messages and for choosing, never for
//! security.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Names that distributions give QEMU's user, in the order of preference; the last is everywhere.
const NAMES: [&str; 3] = ["libvirt-qemu", "qemu", "nobody"];

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The name of its first group.
    pub group: String,
    /// All its groups.
    pub gids: Vec<u32>,
}

/// What is wanted of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// To read it.
    Read,
    /// To read and write it.
    ReadWrite,
    /// To pass through it.
    Enter,
}

impl Want {
    fn bits(self) -> u32 {
        match self {
            Want::Read => 0o4,
            Want::ReadWrite => 0o6,
            Want::Enter => 0o1,
        }
    }
}

impl Account {
    /// The user that runs QEMU for a libvirt that is root.
    pub fn of_qemu() -> Option<Account> {
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        let group = fs::read_to_string("/etc/group").ok()?;
        NAMES.iter().find_map(|name| Account::parse(name, &passwd, &group))
    }

    /// The user with this number.
    pub fn of_uid(uid: u32) -> Option<Account> {
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        let group = fs::read_to_string("/etc/group").ok()?;
        let named = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.get(2)?.parse() == Ok(uid)).then(|| fields[0].to_owned())
        };
        Account::parse(&passwd.lines().find_map(named)?, &passwd, &group)
    }

    /// Finds a user in the texts of `/etc/passwd` and `/etc/group`.
    fn parse(name: &str, passwd: &str, group: &str) -> Option<Account> {
        let fields: Vec<&str> = passwd.lines().map(|l| l.split(':').collect()).find(|f: &Vec<_>| f[0] == name)?;
        let uid = fields.get(2)?.parse().ok()?;
        let first: u32 = fields.get(3)?.parse().ok()?;
        let mut account = Account { name: name.into(), uid, group: first.to_string(), gids: vec![first] };
        for line in group.lines() {
            let &[title, _, gid, members] = line.split(':').collect::<Vec<_>>().as_slice() else { continue };
            let Ok(gid) = gid.parse() else { continue };
            if gid == first {
                account.group = title.into();
            } else if members.split(',').any(|member| member == name) {
                account.gids.push(gid);
            }
        }
        Some(account)
    }

    /// Whether mode bits grant it this.
    fn may(&self, want: Want, owner: u32, group: u32, mode: u32) -> bool {
        let shift = if owner == self.uid {
            6
        } else if self.gids.contains(&group) {
            3
        } else {
            0
        };
        self.uid == 0 || (mode >> shift) & want.bits() == want.bits()
    }

    /// The first part of `path` that keeps it from getting there and doing what is wanted; `None` if none does.
    pub fn obstacle(&self, path: &Path, want: Want) -> io::Result<Option<PathBuf>> {
        let path = fs::canonicalize(path)?;
        let mut parts: Vec<&Path> = path.ancestors().collect();
        parts.reverse();
        for part in parts {
            let facts = fs::metadata(part)?;
            let want = if part == path { want } else { Want::Enter };
            if !self.may(want, facts.uid(), facts.gid(), facts.mode()) {
                return Ok(Some(part.to_owned()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\nlibvirt-qemu:x:64055:107:Q:/var:/bin/false\nbad:x:y:z\n";
    const GROUP: &str = "root:x:0:\nkvm:x:106:libvirt-qemu,other\nlibvirt-qemu:x:107:\nbroken\nx:x:9:libvirt-qemux\n";

    #[test]
    fn a_user_has_its_own_group_and_those_that_name_it() {
        let account = Account::parse("libvirt-qemu", PASSWD, GROUP).unwrap();
        assert_eq!(
            (account.uid, account.group.as_str(), account.gids.as_slice()),
            (64055, "libvirt-qemu", &[107, 106][..])
        );
        assert_eq!(Account::parse("bad", PASSWD, GROUP), None);
        assert_eq!(Account::parse("absent", PASSWD, GROUP), None);
    }

    #[test]
    fn the_most_specific_mode_bits_decide() {
        let account = Account::parse("libvirt-qemu", PASSWD, GROUP).unwrap();
        for (want, owner, group, mode, may) in [
            (Want::ReadWrite, 0, 106, 0o660, true),
            (Want::ReadWrite, 0, 0, 0o600, false),
            (Want::ReadWrite, 0, 0, 0o666, true),
            (Want::Read, 0, 106, 0o604, false),
            (Want::Read, 64055, 0, 0o400, true),
            (Want::Read, 64055, 0, 0o044, false),
            (Want::Enter, 0, 0, 0o700, false),
            (Want::Enter, 0, 0, 0o711, true),
        ] {
            assert_eq!(account.may(want, owner, group, mode), may, "{want:?} {owner}:{group} {mode:o}");
        }
    }

    #[test]
    fn the_obstacle_is_the_part_of_the_path_that_is_closed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("file"), "").unwrap();
        let stranger = Account { name: "stranger".into(), uid: 4_000_001, group: "g".into(), gids: vec![4_000_001] };
        for path in [dir.path(), &closed.join("file")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let found = stranger.obstacle(&closed.join("file"), Want::Read).unwrap();
        assert_eq!(found, Some(fs::canonicalize(&closed).unwrap()));
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(stranger.obstacle(&closed.join("file"), Want::Read).unwrap(), None);
        assert!(stranger.obstacle(&closed.join("none"), Want::Read).is_err());
    }
}
