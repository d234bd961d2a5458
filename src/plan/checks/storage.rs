//! What machines are made of, and where they are recorded.

use super::{Check, Group, Seen, size};

const GROUP: Group = Group::Storage;

/// What is known of it.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Who looked: permissions are this user's.
    pub user: String,
    /// Where the state directory is.
    pub dir: String,
    /// How it is.
    pub state: StateDir,
    /// The files of the image.
    pub image: Vec<ImageFile>,
    /// Bytes that are free for this user where the state directory is, or is going to be.
    pub free: Seen<u64>,
    /// Bytes that have to stay free.
    pub reserve: u64,
}

/// A state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateDir {
    /// There is none yet; whether this user may make it.
    Missing {
        /// Whether.
        may_make: bool,
    },
    /// It is there.
    There {
        /// Its mode bits.
        mode: u32,
        /// Whether this user may write to it.
        writable: bool,
        /// Files in it that hold secrets and that others can read.
        open: Vec<String>,
    },
    /// It is no directory, or cannot be looked at.
    Wrong(String),
}

/// A file of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Which.
    pub path: String,
    /// Why it cannot be read, if so.
    pub unreadable: Option<String>,
    /// The user that runs QEMU, and the part of the path that mode bits close to it.
    pub closed: Option<(String, String)>,
    /// Whether it is as `anweddol image build` wrote it; absent: it was not made so, or nobody looked.
    pub as_built: Option<bool>,
}

/// Judges it.
pub fn judge(facts: &Storage) -> Vec<Check> {
    let mut checks = vec![state(facts)];
    checks.extend(secrets(facts));
    checks.extend(image(facts));
    checks.push(disk(facts));
    checks
}

fn state(facts: &Storage) -> Check {
    let (name, Storage { dir, user, .. }) = ("state directory", facts);
    let other = "choose another with --state or 'state_dir', or look as the user that runs the daemon";
    match &facts.state {
        StateDir::Missing { may_make: true } => {
            Check::ok(GROUP, name, format!("'{dir}' is not there yet; {user} may make it"))
        }
        StateDir::Missing { may_make: false } => {
            Check::fail(GROUP, name, format!("'{dir}' is not there, and {user} may not make it"), other).stopping()
        }
        StateDir::Wrong(why) => Check::fail(GROUP, name, format!("'{dir}': {why}"), other).stopping(),
        StateDir::There { mode, .. } if mode & 0o022 != 0 => {
            let message = format!("'{dir}' has mode {mode:04o}, but only its owner may write to it");
            Check::fail(GROUP, name, message, format!("run 'chmod go-w {dir}'")).stopping()
        }
        StateDir::There { writable: false, .. } => {
            Check::fail(GROUP, name, format!("{user} may not write to '{dir}'"), other).stopping()
        }
        StateDir::There { .. } => Check::ok(GROUP, name, format!("'{dir}' is {user}'s to write")),
    }
}

fn secrets(facts: &Storage) -> Option<Check> {
    match &facts.state {
        StateDir::There { open, .. } if !open.is_empty() => {
            let message = format!("others can read {}", open.join(", "));
            let remedy = format!("run 'chmod 600 {}'; what was read is known", open.join(" "));
            Some(Check::fail(GROUP, "secrets", message, remedy))
        }
        StateDir::There { .. } => Some(Check::ok(GROUP, "secrets", "key files are for their owner only")),
        StateDir::Missing { .. } | StateDir::Wrong(_) => None,
    }
}

fn image(facts: &Storage) -> Vec<Check> {
    let name = "image";
    let judge = |file: &ImageFile| {
        let path = &file.path;
        if let Some(why) = &file.unreadable {
            let message = format!("image file '{path}' cannot be read: {why}");
            let remedy = "build one with 'anweddol image build', or name another in 'container.image'";
            return Check::fail(GROUP, name, message, remedy).stopping();
        }
        if let Some((user, part)) = &file.closed {
            let message = format!("'{path}' is closed to '{user}', who runs QEMU, by the mode of '{part}'");
            return Check::fail(GROUP, name, message, format!("run 'chmod o+rX {part}', or put the image elsewhere"));
        }
        match file.as_built {
            Some(false) => {
                let message = format!("'{path}' is not what 'anweddol image build' wrote");
                Check::fail(GROUP, name, message, "run 'anweddol image build' again, unless you changed it yourself")
            }
            Some(true) => Check::ok(GROUP, name, format!("'{path}' is as it was built")),
            None => Check::ok(GROUP, name, format!("'{path}' can be read")),
        }
    };
    facts.image.iter().map(judge).collect()
}

fn disk(facts: &Storage) -> Check {
    let name = "disk";
    match &facts.free {
        Err(why) => Check::unknown(GROUP, name, why),
        Ok(free) if *free < facts.reserve => {
            let message =
                format!("{} free, but {} have to stay free: no machine is started", size(*free), size(facts.reserve));
            Check::fail(
                GROUP,
                name,
                message,
                format!("make room on the file system of '{}', or lower 'host.disk_reserve'", facts.dir),
            )
        }
        Ok(free) if *free < facts.reserve.saturating_mul(2) => {
            let message = format!("{} free; below {} no machine is started", size(*free), size(facts.reserve));
            Check::warn(GROUP, name, message, format!("make room on the file system of '{}'", facts.dir))
        }
        Ok(free) => Check::ok(GROUP, name, format!("{} free", size(*free))),
    }
}
