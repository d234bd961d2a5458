//! What is kept between builds, and what is put where it is wanted.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Artifact, ImageError, file_sha256, io_error};

/// The modes of an image's files, of the directory that they are in, and of one above that.
const FILE: u32 = 0o644;
const DIRECTORY: u32 = 0o755;
const PASSAGE: u32 = 0o711;

/// One build at a time in a process.
static ALONE: Mutex<()> = Mutex::new(());

/// Removes what builds that were killed have left: their directories end in their process' number. One's own number is a dead
/// process' too: in a container every build may have the same. Until what this returns is dropped, no other build of this
/// process begins.
pub(super) fn sweep(cache: &Path) -> Result<MutexGuard<'static, ()>, ImageError> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let images = cache.join("images");
    for entry in fs::read_dir(&images).map_err(io_error(&images))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix('.').and_then(|name| name.rsplit_once('-')?.1.parse::<u32>().ok());
        if process.is_some_and(|it| it == std::process::id() || !Path::new("/proc").join(it.to_string()).exists()) {
            fs::remove_dir_all(entry.path()).map_err(io_error(&entry.path()))?;
        }
    }
    Ok(alone)
}

/// Moves a whole image into the cache.
pub(super) fn keep(aside: &Path, cache: &Path, key: &str) -> Result<(), ImageError> {
    let image = cache.join("images").join(key);
    match fs::rename(aside, &image) {
        // Another build was first: the same key is the same image.
        Err(_) if image.is_dir() => Ok(()),
        other => other.map_err(io_error(&image)),
    }
}

/// Puts one file of a cached image into `out`.
pub(super) fn put_file(cache: &Path, out: &Path, key: &str, name: &str) -> Result<Artifact, ImageError> {
    let from = cache.join("images").join(key).join(name);
    let path = out.join(name);
    let size = fs::metadata(&from).map_err(io_error(&from))?.len();
    let sha256 = file_sha256(&from).map_err(io_error(&from))?;
    let closed = fs::metadata(&path).is_ok_and(|found| found.mode() & FILE != FILE);
    // A running guest may have the old file open: it keeps it, since the new one gets its name by a rename.
    if closed || file_sha256(&path).ok().as_ref() != Some(&sha256) {
        let aside = out.join(format!(".{name}-{}", std::process::id()));
        let copied = fs::copy(&from, &aside).and_then(|_| open_file(&aside));
        copied.and_then(|()| fs::rename(&aside, &path)).map_err(|error| {
            fs::remove_file(&aside).ok();
            io_error(&path)(error)
        })?;
    }
    Ok(Artifact { path, size, sha256 })
}

/// Lets everybody read a file of an image, whatever the umask: QEMU may run as another user, and an image is no secret.
/// `an_image_is_readable_whatever_the_umask_and_a_directory_of_the_users_is_left_as_it_is`
pub(super) fn open_file(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(FILE))
}

/// Makes the directory of an image, for everybody to read. One that is there stays as it is: whoever closed it may have had a
/// reason, and `doctor` tells.
pub(super) fn make_out(out: &Path) -> Result<(), ImageError> {
    make_directory(out, DIRECTORY).map_err(io_error(out))
}

/// With those above it that are missing, which everybody may pass through, as through the state directory.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directory(parent, PASSAGE)?;
    }
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        // Another build was first.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NAMES, put};
    use super::*;
    use crate::model::Image;

    #[test]
    fn only_what_a_dead_build_left_is_swept() {
        let cache = tempfile::tempdir().unwrap();
        let images = cache.path().join("images");
        let [own, parents] = [std::process::id(), std::os::unix::process::parent_id()].map(|id| format!(".abc-{id}"));
        for name in ["abc", ".abc-999999999", &own, &parents] {
            fs::create_dir_all(images.join(name).join("debs")).unwrap();
        }
        drop(sweep(cache.path()).unwrap());
        let mut left: Vec<_> = fs::read_dir(&images).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [parents.as_str(), "abc"]);
    }

    #[test]
    fn an_image_is_readable_whatever_the_umask_and_a_directory_of_the_users_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        // Of this process alone: each test has one.
        rustix::process::umask(rustix::fs::Mode::from(0o077));
        let (cache, state, closed) = (dir.path().join("cache"), dir.path().join("state"), dir.path().join("closed"));
        fs::create_dir_all(cache.join("images/key")).unwrap();
        for name in NAMES {
            fs::write(cache.join("images/key").join(name), name).unwrap();
        }
        fs::create_dir(&closed).unwrap();

        let out = state.join("images");
        for _ in 0..2 {
            make_out(&out).unwrap();
            put(&cache, &out, "key", true).unwrap();
            assert_eq!([&out, &state].map(|path| mode(path)), [0o755, 0o711]);
            for name in NAMES.into_iter().chain([Image::SUMS]) {
                assert_eq!(mode(&out.join(name)), 0o644, "{name}");
                // As an earlier version has left it.
                fs::set_permissions(out.join(name), Permissions::from_mode(0o640)).unwrap();
            }
        }
        make_out(&closed).unwrap();
        assert_eq!(mode(&closed), 0o700);
    }
}
