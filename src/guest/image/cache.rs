//! What is kept between builds, and what is put where it is wanted.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{ImageError, io_error};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
