//! Files for one user only, such as keys: made whole or not at all, and not believed if others may have touched them.
//! The same of directories. What stands in their place and leads elsewhere is refused: who put it there chose what is read.
//!
//! Kept for every one that a daemon has by `a_secret_that_others_can_reach_is_refused_whichever_it_is` (tests/daemon).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::failpoint::failpoint;

/// What group and others may do with such a file: nothing.
const FORBIDDEN: u32 = 0o077;

/// Why a private file cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// Others may read or change it.
    #[error("{} has mode {mode:04o}, but only its owner may have access: run 'chmod 600 {}'", path.display(), path.display())]
    Mode {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is somebody else's.
    #[error("{} belongs to user {owner}, but this program runs as user {user}: give it to that user", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        user: u32,
    },
    /// Others may look into a directory, or change what is in it.
    #[error("{} has mode {mode:04o}, but only its owner may have access: run 'chmod 700 {}'", path.display(), path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It leads elsewhere.
    #[error("{} is a symbolic link: put what it leads to into its place", path.display())]
    Link {
        /// Which.
        path: PathBuf,
    },
    /// It is a directory, a pipe, or the like.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// It is too large for what it should hold.
    #[error("{} is larger than {limit} bytes: it is not what it should be", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// Reading or making it failed.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
}

/// Reads a file of at most `limit` bytes, or makes it first. If two processes make it at once, one of them does,
/// and both get that one's content.
pub(crate) fn read_or_create(
    path: &Path,
    limit: usize,
    make: impl FnOnce() -> Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    if let Some(content) = read(path, limit)? {
        return Ok(content);
    }
    let content = make();
    match create(path, &content) {
        Ok(()) => return Ok(content),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(PrivateFileError::Io { path: path.into(), source }),
    }
    let gone = || PrivateFileError::Io { path: path.into(), source: io::ErrorKind::NotFound.into() };
    read(path, limit)?.ok_or_else(gone)
}

/// Reads a file of at most `limit` bytes; `None` if there is none.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Option<Zeroizing<Vec<u8>>>, PrivateFileError> {
    let io = |source| PrivateFileError::Io { path: path.into(), source };
    let mut file = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(PrivateFileError::Link { path: path.into() });
        }
        opened => opened.map_err(io)?,
    };
    // Of the open file, not of the path: what is judged is what is read.
    let found = file.metadata().map_err(io)?;
    if !found.is_file() {
        return Err(PrivateFileError::NotAFile { path: path.into() });
    }
    owned(path, &found)?;
    if found.mode() & FORBIDDEN != 0 {
        return Err(PrivateFileError::Mode { path: path.into(), mode: found.mode() & 0o7777 });
    }
    // Room for everything at once, so that growing leaves no copy behind.
    let mut content = Zeroizing::new(Vec::with_capacity(limit + 1));
    (&mut file).take(limit as u64 + 1).read_to_end(&mut content).map_err(io)?;
    if content.len() > limit {
        return Err(PrivateFileError::TooLarge { path: path.into(), limit });
    }
    Ok(Some(content))
}

/// That a directory is this user's only, if it is there.
pub(crate) fn check_directory(path: &Path) -> Result<(), PrivateFileError> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|source| PrivateFileError::Io { path: path.into(), source })?,
    };
    if found.is_symlink() {
        return Err(PrivateFileError::Link { path: path.into() });
    }
    owned(path, &found)?;
    if found.mode() & FORBIDDEN != 0 {
        return Err(PrivateFileError::Open { path: path.into(), mode: found.mode() & 0o7777 });
    }
    Ok(())
}

fn owned(path: &Path, found: &fs::Metadata) -> Result<(), PrivateFileError> {
    let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner == user { Ok(()) } else { Err(PrivateFileError::Owner { path: path.into(), owner, user }) }
}

/// Opens what is there itself, and without waiting: a pipe in its place would never answer.
fn open(path: &Path) -> io::Result<File> {
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW).bits();
    File::options().read(true).custom_flags(flags.cast_signed()).open(path)
}

/// Makes a file that is not there yet, whole and durable, or fails and leaves nothing.
pub(crate) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    put(path, content, RenameFlags::NOREPLACE)
}

/// Makes a file, in place of one that may be there, or fails and leaves that one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    put(path, content, RenameFlags::empty())
}

fn put(path: &Path, content: &[u8], flags: RenameFlags) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let new = dir.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
    // Only a killed process that had our number can have left it.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let made = write_new(&new, content).and_then(|()| match renameat_with(CWD, &new, CWD, path, flags) {
        Ok(()) => {
            failpoint!("file-named");
            File::open(dir)?.sync_all()
        }
        Err(Errno::EXIST) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) => Err(error.into()),
    });
    if made.is_err() {
        let _ = fs::remove_file(&new);
    }
    made
}

/// What [`create`] and [`replace`] were writing in a directory when their process was killed. One that a living process
/// may be writing is none.
pub(crate) fn abandoned(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let writer = path.file_name().and_then(|name| {
            let (_, pid) = name.to_str()?.strip_prefix('.')?.strip_suffix(".new")?.rsplit_once('.')?;
            pid.parse::<u32>().ok()
        });
        if writer.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            found.push(path);
        }
    }
    Ok(found)
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    failpoint!("file-written");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secret() -> Zeroizing<Vec<u8>> {
        Zeroizing::new(b"secret".to_vec())
    }

    #[test]
    fn what_is_made_is_private_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(read(&path, 6).unwrap().is_none());
        assert_eq!(read_or_create(&path, 6, secret).unwrap(), secret());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(read_or_create(&path, 6, || panic!("made twice")).unwrap(), secret());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_mode_that_lets_others_in_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        read_or_create(&path, 6, secret).unwrap();
        for mode in [0o644, 0o640, 0o601, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let text = read(&path, 6).unwrap_err().to_string();
            assert!(text.contains(&format!("{mode:04o}")), "{text}");
            assert!(text.contains(&format!("chmod 600 {}", path.display())), "{text}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(read(&path, 6).unwrap().is_some());
        }
    }

    #[test]
    fn only_what_a_process_that_is_gone_was_writing_is_abandoned() {
        let dir = tempfile::tempdir().unwrap();
        // No process has a number beyond the kernel's limit.
        let gone = dir.path().join(".key.pem.4194305.new");
        let living = format!(".key.{}.new", std::process::id());
        for name in [&living, "key.4194305.new", ".key.new", ".key.4194305.old", ".4194305.new"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::write(&gone, "").unwrap();
        assert_eq!(abandoned(dir.path()).unwrap(), [gone]);
        assert!(abandoned(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        // Only root can give a file away; another user's check is the same code.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"secret").unwrap();
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert!(matches!(read(&path, 6), Err(PrivateFileError::Owner { owner: 65_534, user: 0, .. })));
    }

    #[test]
    fn the_first_of_two_makers_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let other = || {
            create(&path, b"other").unwrap();
            secret()
        };
        assert_eq!(**read_or_create(&path, 6, other).unwrap(), *b"other");
        assert_eq!(create(&path, b"third").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"other");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_replaced_file_is_the_new_one_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for content in [b"first!".as_slice(), b"second"] {
            replace(&path, content).unwrap();
            assert_eq!(**read(&path, 6).unwrap().unwrap(), *content);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_cannot_be_such_a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"7 bytes").unwrap();
        assert!(matches!(read(&path, 6), Err(PrivateFileError::TooLarge { limit: 6, .. })));
        assert!(matches!(read(dir.path(), 6), Err(PrivateFileError::NotAFile { .. })));
        assert!(matches!(read(&path.join("below"), 6), Err(PrivateFileError::Io { .. })));
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(matches!(read(&pipe, 6), Err(PrivateFileError::NotAFile { .. })));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(read(&link, 7), Err(PrivateFileError::Link { .. })), "although what it leads to is good");
        assert!(read(&path, 7).is_ok());
    }

    #[test]
    fn a_directory_that_others_may_enter_or_that_leads_elsewhere_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let (dir, link) = (scratch.path().join("dir"), scratch.path().join("link"));
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        for (mode, good) in [(0o700, true), (0o500, true), (0o710, false), (0o701, false), (0o755, false)] {
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check_directory(&dir).is_ok(), good, "{mode:o}");
        }
        assert!(check_directory(&scratch.path().join("none")).is_ok(), "it is made for its owner");
        let said = check_directory(&dir).unwrap_err().to_string();
        assert!(said.contains("0755") && said.contains(&format!("chmod 700 {}", dir.display())), "{said}");
        assert!(matches!(check_directory(&link), Err(PrivateFileError::Link { .. })));
        if rustix::process::geteuid().is_root() {
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
            std::os::unix::fs::chown(&dir, Some(65_534), None).unwrap();
            assert!(matches!(check_directory(&dir), Err(PrivateFileError::Owner { owner: 65_534, .. })));
        }
    }

    #[test]
    fn what_a_killed_process_left_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(format!(".key.{}.new", std::process::id())), "half").unwrap();
        create(&dir.path().join("key"), b"whole").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
