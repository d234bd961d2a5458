//! Which records can be written anew from what domains bear, when the store is lost.
//!
//! Whatever is not among the records when the daemon starts next, it ends: so what is in somebody's use and cannot be
//! read is told apart from what nobody used.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::model::{DomainSeen, DomainState, Keepsake, KeepsakeError, Kind, Mark, Object, ObjectRef};

/// A domain with a mark, and what it bears of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The domain.
    pub domain: DomainSeen,
    /// What it bears, unread.
    pub text: Option<String>,
}

/// What comes of all domains.
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// The machines whose records can be written anew.
    pub machines: Vec<Keepsake>,
    /// The others of this installation.
    pub left: Vec<Left>,
}

/// A domain of this installation whose records cannot be written anew.
#[derive(Debug)]
pub struct Left {
    /// Whose machine it was.
    pub mark: Mark,
    /// Why it stays behind.
    pub why: Why,
}

/// Why a domain stays behind.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// Nobody used it, as far as its domain says.
    #[error("its domain bears no records: it waited for somebody, or was given to somebody in the last moment")]
    Unused,
    /// It ended.
    #[error("its domain does not run")]
    Off,
    /// What it bears is none of its records.
    #[error(transparent)]
    Unreadable(#[from] KeepsakeError),
    /// Another one bears the same.
    #[error("{what} is in the records of two domains; the other one's are kept")]
    Twice {
        /// What can be only once.
        what: String,
    },
}

impl Why {
    /// Whether somebody may be using it.
    pub fn in_use(&self) -> bool {
        match self {
            Why::Unused | Why::Off | Why::Unreadable(KeepsakeError::Unused(_)) => false,
            Why::Unreadable(KeepsakeError::Unreadable(_) | KeepsakeError::Another { .. } | KeepsakeError::Torn) => true,
            Why::Twice { .. } => true,
        }
    }
}

/// The installations that these domains belong to, and how many of them to each.
pub fn instances(found: &[Found]) -> BTreeMap<Uuid, usize> {
    let mut instances = BTreeMap::new();
    for mark in found.iter().filter_map(mark) {
        *instances.entry(mark.instance).or_default() += 1;
    }
    instances
}

/// The records of one installation. The same domains give the same records, in whatever order they come.
pub fn rebuild(instance: Uuid, mut found: Vec<Found>) -> Rebuilt {
    found.sort_by_key(|found| found.domain.uuid);
    let (mut rebuilt, mut taken) = (Rebuilt::default(), Taken::default());
    for found in found {
        let Some(mark) = mark(&found).filter(|mark| mark.instance == instance).cloned() else { continue };
        match read(&found, &mark).and_then(|keepsake| taken.take(keepsake)) {
            Ok(keepsake) => rebuilt.machines.push(keepsake),
            Err(why) => rebuilt.left.push(Left { mark, why }),
        }
    }
    rebuilt
}

/// Its mark, if that is its own: as nobody but its daemon would look at it.
fn mark(found: &Found) -> Option<&Mark> {
    found.domain.mark.as_ref().filter(|mark| mark.uid == found.domain.uuid)
}

fn read(found: &Found, mark: &Mark) -> Result<Keepsake, Why> {
    match found.domain.state {
        DomainState::Off => return Err(Why::Off),
        DomainState::Running | DomainState::Paused(_) => {}
    }
    let text = found.text.as_deref().ok_or(Why::Unused)?;
    Ok(Keepsake::read(text, mark)?)
}

/// What one machine has and no other can have.
#[derive(Default)]
struct Taken {
    objects: BTreeSet<ObjectRef>,
    ports: BTreeSet<u16>,
}

impl Taken {
    fn take(&mut self, keepsake: Keepsake) -> Result<Keepsake, Why> {
        let (c, claim) = (&keepsake.container, keepsake.claim.as_ref());
        let objects: Vec<ObjectRef> = std::iter::once(c.object_ref()).chain(claim.map(Object::object_ref)).collect();
        if let Some(object) = objects.iter().find(|object| self.objects.contains(object)) {
            let kind = match object.kind {
                Kind::Container => "container",
                Kind::ContainerClaim => "claim",
                Kind::ContainerPool => "pool",
            };
            return Err(Why::Twice { what: format!("{kind} {}/{}", object.namespace, object.name) });
        }
        if !self.ports.insert(c.spec.machine.port) {
            return Err(Why::Twice { what: format!("port {}", c.spec.machine.port) });
        }
        self.objects.extend(objects);
        Ok(keepsake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::keepsake_for_tests as keepsake;

    fn uuid(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn found(number: u128, text: Option<String>) -> Found {
        let mark =
            Mark { instance: uuid(1), namespace: "default".into(), name: uuid(number).to_string(), uid: uuid(number) };
        let (name, state) = (format!("d{number}"), DomainState::Running);
        Found { domain: DomainSeen { uuid: uuid(number), name, mark: Some(mark), state, keepsake: None }, text }
    }

    fn used(number: u128, claim: &str, port: u16) -> Found {
        found(number, Some(keepsake(uuid(number), Some(claim), port).text()))
    }

    #[test]
    fn machines_in_use_come_back_and_the_others_are_told_apart() {
        let mut off = used(6, "f", 10_006);
        off.domain.state = DomainState::Off;
        let mut paused = used(5, "e", 10_005);
        paused.domain.state = DomainState::Paused(crate::model::Pause::Asked);
        let mut theirs = used(7, "g", 10_007);
        theirs.domain.mark.as_mut().unwrap().instance = uuid(2);
        let mut borrowed = used(8, "h", 10_008);
        borrowed.domain.uuid = uuid(80);
        let mut unmarked = used(9, "i", 10_009);
        unmarked.domain.mark = None;
        let text = keepsake(uuid(3), Some("c"), 10_003).text();
        let all = vec![
            paused,
            found(2, None),
            used(1, "a", 10_001),
            found(3, Some(text.replace(&uuid(3).to_string(), &uuid(4).to_string()))),
            found(4, Some("{}".into())),
            off,
            theirs,
            borrowed,
            unmarked,
        ];
        assert_eq!(instances(&all), [(uuid(1), 6), (uuid(2), 1)].into());
        let rebuilt = rebuild(uuid(1), all);
        let machines: Vec<Uuid> = rebuilt.machines.iter().map(|keepsake| keepsake.container.uuid()).collect();
        assert_eq!(machines, [uuid(1), uuid(5)]);
        let left: Vec<(Uuid, bool)> = rebuilt.left.iter().map(|left| (left.mark.uid, left.why.in_use())).collect();
        assert_eq!(left, [(uuid(2), false), (uuid(3), true), (uuid(4), true), (uuid(6), false)]);
    }

    #[test]
    fn nothing_is_given_to_two_machines_and_the_order_of_domains_does_not_matter() {
        let all = vec![used(1, "a", 10_001), used(2, "a", 10_002), used(3, "c", 10_001), used(4, "d", 10_002)];
        let mut backwards = all.clone();
        backwards.reverse();
        for found in [all, backwards] {
            let rebuilt = rebuild(uuid(1), found);
            let machines: Vec<Uuid> = rebuilt.machines.iter().map(|keepsake| keepsake.container.uuid()).collect();
            // The second one's port is free: of its records none were kept.
            assert_eq!(machines, [uuid(1), uuid(4)]);
            let why: Vec<String> = rebuilt.left.iter().map(|left| left.why.to_string()).collect();
            assert!(why[0].contains("claim default/a") && why[1].contains("port 10001"), "{why:?}");
            assert!(rebuilt.left.iter().all(|left| left.why.in_use()));
        }
    }
}
