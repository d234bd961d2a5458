//! Another store in the place of one, whatever state that is in. The other one is made beside it, whole, and then the
//! two change places in one step: a crash leaves the one or the other, and none is ever removed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::OpenError;
use super::lock::Lock;
use super::{LocalStore, Options, layout, open};

/// A store that is going to be replaced: nobody can open it meanwhile.
pub struct Replacement {
    dir: PathBuf,
    lock: Lock,
}

impl Replacement {
    /// Takes the store in `dir`, which need not be one, nor be there.
    pub fn begin(dir: &Path) -> Result<Replacement, OpenError> {
        layout::make_dir(dir)?;
        Ok(Replacement { dir: dir.into(), lock: Lock::take(dir)? })
    }

    /// Puts another store there, with what `fill` writes into it. What was there is at `aside` then, which must not
    /// exist before; `false` if there was nothing. If anything fails, all is as it was.
    pub fn finish<E: From<OpenError>>(
        self,
        aside: &Path,
        fill: impl FnOnce(&LocalStore) -> Result<(), E>,
    ) -> Result<bool, E> {
        // Left by one that was killed before it was whole.
        let new = beside(&self.dir, "rebuilding");
        remove(&new).map_err(|source| OpenError::from_io(&new, source))?;
        let store = open(&new, Options::default())?;
        let filled = fill(&store);
        store.close();
        drop(store);
        let done = filled.and_then(|()| self.exchange(&new, aside).map_err(E::from));
        if done.is_err() {
            // Of no use to anybody, and made anew the next time.
            let _ = remove(&new);
        }
        done
    }

    fn exchange(&self, new: &Path, aside: &Path) -> Result<bool, OpenError> {
        let io = |path: &Path, source: io::Error| OpenError::from_io(path, source);
        let empty = layout::is_new(&self.dir).unwrap_or(false);
        // The name of what was there is taken before it is there, so that one step does all.
        renameat_with(CWD, new, CWD, aside, RenameFlags::NOREPLACE).map_err(|errno| io(aside, errno.into()))?;
        renameat_with(CWD, aside, CWD, &self.dir, RenameFlags::EXCHANGE)
            .map_err(|errno| io(&self.dir, errno.into()))?;
        if let Some(parent) = self.dir.parent() {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(|source| io(parent, source))?;
        }
        if empty {
            remove(aside).map_err(|source| io(aside, source))?;
        }
        // Held until here: who opens the store from now on opens the other one.
        let _ = &self.lock;
        Ok(!empty)
    }
}

fn beside(dir: &Path, what: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{what}"));
    dir.with_file_name(name)
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        ended => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, Txn};

    fn write(store: &LocalStore, key: &str) {
        store.txn(Txn::default().put(key, &1)).wait().unwrap();
    }

    fn filled(dir: &Path, aside: &Path) -> Result<bool, OpenError> {
        Replacement::begin(dir)?.finish(aside, |store| {
            write(store, "new");
            Ok(())
        })
    }

    fn keys(dir: &Path) -> Vec<String> {
        let store = open(dir, Options::default()).unwrap();
        store.list("").unwrap().0.into_iter().map(|kv| kv.key).collect()
    }

    #[test]
    fn a_damaged_store_is_moved_aside_as_it_is_and_another_is_in_its_place() {
        let tmp = tempfile::tempdir().unwrap();
        let (dir, aside) = (tmp.path().join("store"), tmp.path().join("aside"));
        write(&open(&dir, Options::default()).unwrap(), "old");
        fs::write(dir.join("data/format"), "damage").unwrap();
        assert!(open(&dir, Options::default()).is_err());
        // As one that was killed leaves it.
        fs::create_dir_all(tmp.path().join("store.rebuilding/data")).unwrap();
        assert!(filled(&dir, &aside).unwrap());
        assert_eq!(keys(&dir), ["new"]);
        assert_eq!(fs::read(aside.join("data/format")).unwrap(), b"damage");
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn where_there_was_none_nothing_is_moved() {
        let tmp = tempfile::tempdir().unwrap();
        let (dir, aside) = (tmp.path().join("store"), tmp.path().join("aside"));
        assert!(!filled(&dir, &aside).unwrap());
        assert_eq!(keys(&dir), ["new"]);
        assert!(!aside.exists());
    }

    #[test]
    fn one_that_is_open_or_whose_replacement_fails_stays_as_it_is() {
        let tmp = tempfile::tempdir().unwrap();
        let (dir, aside) = (tmp.path().join("store"), tmp.path().join("aside"));
        let store = open(&dir, Options::default()).unwrap();
        write(&store, "old");
        assert!(matches!(filled(&dir, &aside), Err(OpenError::Locked { pid: Some(_), .. })));
        store.close();
        drop(store);
        let failed = Replacement::begin(&dir).unwrap().finish(&aside, |_| {
            assert!(matches!(open(&dir, Options::default()), Err(OpenError::Locked { .. })), "it is not held");
            Err(OpenError::NotAStore { dir: dir.clone(), found: "x".into() })
        });
        assert!(failed.is_err());
        fs::create_dir(&aside).unwrap();
        assert!(filled(&dir, &aside).is_err(), "what is aside already is replaced");
        assert_eq!(keys(&dir), ["old"]);
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 2, "something is left");
    }
}
