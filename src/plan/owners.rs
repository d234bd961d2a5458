//! Who goes with whom: objects that name their owners go when the last of them is gone.
//!
//! | the owner is deleted | what it waits for | what becomes of its dependents |
//! | --- | --- | --- |
//! | in the background | nothing | they go once it is gone |
//! | in the foreground | those with `blockOwnerDeletion` | they go first ([`FOREGROUND`]) |
//! | and orphans them | that none names it any more | they stay ([`ORPHAN`]) |
//!
//! A pool's members name it as their owner too, but only [`super::pool`] ends them: one that is in use stays until it
//! is given back, and its pool waits for it, whichever way it is deleted.
//!
//! An owner of a kind that is not known here may be there: nothing goes on doubt.

use crate::model::{API_VERSION, Kind, ObjectMeta, ObjectRef, OwnerReference};

/// Finalizer of an owner that is deleted in the foreground: it goes after its dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an owner whose dependents stay: it goes when none of them names it any more.
pub const ORPHAN: &str = "orphan";

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It is there, and stays or goes before its dependents.
    Present,
    /// It waits until its dependents are gone.
    Waiting,
    /// It is gone for good.
    Gone,
    /// It cannot be known.
    Unknown,
}

/// What becomes of a dependent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Stay,
    /// It goes.
    Go,
    /// It stays, with these owners alone: the others are gone, or wait for it in vain.
    Keep(Vec<OwnerReference>),
}

/// Decides for one object, which is no pool's member.
pub fn decide(meta: &ObjectMeta, owner: impl Fn(&OwnerReference) -> Owner) -> Verdict {
    if meta.deleting() || meta.owner_references.is_empty() {
        return Verdict::Stay;
    }
    let solid = |reference: &&OwnerReference| match owner(reference) {
        Owner::Present | Owner::Unknown => true,
        Owner::Waiting | Owner::Gone => false,
    };
    let kept: Vec<OwnerReference> = meta.owner_references.iter().filter(solid).cloned().collect();
    match kept.len() {
        0 => Verdict::Go,
        all if all == meta.owner_references.len() => Verdict::Stay,
        _ => Verdict::Keep(kept),
    }
}

/// The owner's name among all objects, if it can be one of ours.
pub fn owner_ref(namespace: &str, reference: &OwnerReference) -> Option<ObjectRef> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.to_string() == reference.kind)?;
    let group = |version: &str| version.split('/').next().map(str::to_owned);
    let ours = group(&reference.api_version) == group(API_VERSION);
    ours.then(|| ObjectRef { kind, namespace: namespace.into(), name: reference.name.clone() })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn owned_by(owners: &[&str]) -> ObjectMeta {
        let reference = |name: &&str| OwnerReference {
            api_version: API_VERSION.into(),
            kind: "ContainerClaim".into(),
            name: (*name).into(),
            uid: (*name).into(),
            controller: None,
            block_owner_deletion: None,
        };
        let meta = ObjectMeta::new("default", "a", Uuid::nil(), Timestamp::UNIX_EPOCH);
        ObjectMeta { owner_references: owners.iter().map(reference).collect::<Vec<_>>().into(), ..meta }
    }

    #[test]
    fn an_object_goes_when_its_last_owner_is_gone_and_never_on_doubt() {
        use Owner::{Gone, Present, Unknown, Waiting};
        for (owners, goes, kept) in [
            (vec![], false, 0),
            (vec![Gone], true, 0),
            (vec![Waiting], true, 0),
            (vec![Gone, Waiting], true, 0),
            (vec![Unknown], false, 1),
            (vec![Present, Gone], false, 1),
            (vec![Gone, Unknown, Waiting], false, 1),
            (vec![Present, Present], false, 2),
        ] {
            let names: Vec<String> = (0..owners.len()).map(|index| index.to_string()).collect();
            let meta = owned_by(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let verdict = decide(&meta, |reference| owners[reference.name.parse::<usize>().unwrap()]);
            let expected = match (goes, kept) {
                (true, _) => Verdict::Go,
                (false, kept) if kept == owners.len() => Verdict::Stay,
                (false, _) => {
                    let solid = |index: &usize| matches!(owners[*index], Present | Unknown);
                    let kept = (0..owners.len()).filter(solid).map(|index| meta.owner_references[index].clone());
                    Verdict::Keep(kept.collect())
                }
            };
            assert_eq!(verdict, expected, "{owners:?}");
        }
    }
}
