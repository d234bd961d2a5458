//! What a directory of manifests asks for: from what was read of it, and what there is, to what is to be done.
//!
//! Level-triggered: the whole directory is looked at each time, and what is as it should be needs nothing. So a change
//! that was missed, a crash half way, or an object that somebody else edited are all the same case.
//!
//! - A file with an error changes nothing: none of its documents is applied.
//! - Nothing is deleted unless every file was read and is good: a document that cannot be read may be the one that
//!   keeps an object.
//! - Only what bears this directory's name is ever deleted, and what another directory keeps is not touched.

use std::collections::{BTreeMap, BTreeSet};

use super::{Located, Problem, Read, duplicates};
use crate::model::{Kind, ObjectRef};

/// In [`crate::model::MANAGED_BY`]: the daemon's configuration. Any directory may take such an object over. A directory is named
/// by its path, which begins with `/`.
pub const CONFIGURATION: &str = "configuration";

/// What was read of a directory at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Its files, in the order of their names.
    pub files: Vec<Read>,
    /// Whether all of its files could be read.
    pub complete: bool,
}

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Which.
    pub object: ObjectRef,
    /// Who keeps it applied.
    pub managed_by: Option<String>,
    /// Whether its end is wished for already.
    pub deleting: bool,
    /// Whether somebody wrote it as an object: a pool's member or a wire client's claim is nobody's to keep.
    pub written: bool,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Make these as they are described; what is so already stays untouched.
    pub apply: Vec<Located>,
    /// Delete these.
    pub prune: Vec<ObjectRef>,
    /// Tell these.
    pub problems: Vec<Problem>,
}

/// Decides. `directory` is the name in the annotation.
pub fn keep(directory: &str, scan: &Scan, present: &[Present]) -> Keeping {
    let mut keeping = Keeping::default();
    let mut good: Vec<&Located> = Vec::new();
    for file in &scan.files {
        keeping.problems.extend(file.problems.iter().cloned());
        if file.problems.is_empty() {
            good.extend(&file.manifests);
        }
    }
    // Within one file they are that file's problems already.
    let twice = duplicates(&good.iter().map(|located| (*located).clone()).collect::<Vec<_>>());
    let contested: BTreeSet<&ObjectRef> = twice.iter().filter_map(|problem| problem.object.as_ref()).collect();
    let whole = scan.complete && keeping.problems.is_empty() && twice.is_empty();

    let by_ref: BTreeMap<&ObjectRef, &Present> = present.iter().map(|present| (&present.object, present)).collect();
    let mut wanted = BTreeSet::new();
    for located in good {
        let object = located.manifest.object_ref();
        if !contested.contains(&object) {
            match by_ref.get(&object).and_then(|present| refusal(directory, present)) {
                Some(message) => keeping.problems.push(Problem {
                    place: located.place.clone(),
                    object: Some(object.clone()),
                    field: String::new(),
                    message,
                }),
                // Its end was wished for; it is made again once it is gone.
                None if by_ref.get(&object).is_some_and(|present| present.deleting) => {}
                None => keeping.apply.push(located.clone()),
            }
        }
        wanted.insert(object);
    }
    // Pools before what is made from them.
    keeping.apply.sort_by_key(|located| Kind::ALL.iter().position(|kind| *kind == located.manifest.kind()));
    if whole {
        let ours = |present: &&Present| present.managed_by.as_deref() == Some(directory) && !present.deleting;
        let unwanted = present.iter().filter(ours).filter(|present| !wanted.contains(&present.object));
        keeping.prune = unwanted.map(|present| present.object.clone()).collect();
    }
    keeping.problems.extend(twice);
    keeping
}

/// Why this directory may not touch an object.
fn refusal(directory: &str, present: &Present) -> Option<String> {
    let object = &present.object;
    match present.managed_by.as_deref() {
        Some(other) if other != directory && other != CONFIGURATION => Some(format!(
            "{object} is kept by the manifests in {other}: remove it there, or give this one another name"
        )),
        _ if !present.written => Some(format!("{object} belongs to a pool or to a client: give this one another name")),
        _ => None,
    }
}
