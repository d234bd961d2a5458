//! Which machines boot at once: as many as the host bears. Boots share its processors, so more of them at once are all
//! later, and some too late. Where one's turn comes, those that a client waits for go first, then the oldest.
//!
//! It is all derived from the records; a start begins with [`Boots::reset`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::model::{Container, Object, ObjectRef, Phase};

/// The machines that boot and those that are about to.
#[derive(Default)]
pub struct Boots {
    line: Mutex<Line>,
    widened: Notify,
}

#[derive(Default)]
struct Line {
    /// Without it as many as want to.
    most: Option<NonZeroUsize>,
    booting: HashSet<Uuid>,
    waiting: BTreeMap<Turn, ObjectRef>,
    turns: HashMap<Uuid, Turn>,
}

/// A place in the line: the least one goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    unclaimed: bool,
    since: Timestamp,
    uuid: Uuid,
}

impl Boots {
    /// So many at once; `None` is no limit.
    pub fn at_most(most: Option<NonZeroUsize>) -> Self {
        let boots = Boots::default();
        boots.set(most);
        boots
    }

    /// From now on so many at once. Those that boot go on.
    pub fn set(&self, most: Option<NonZeroUsize>) {
        self.lock().most = most;
        self.widened.notify_one();
    }

    /// Waits for another limit, or for another count; whose turn it is then.
    pub(super) async fn changed(&self) -> Vec<ObjectRef> {
        self.widened.notified().await;
        self.lock().next()
    }

    /// Whether this container may boot now.
    pub(super) fn may(&self, container: Uuid) -> bool {
        self.lock().may(container)
    }

    /// Takes a place for this container, if it still may boot, until [`Boots::note`] is told that it is up or gone.
    /// (`the_pass_that_starts_a_machine_takes_the_last_place_to_boot`).
    pub(super) fn take(&self, container: Uuid) -> bool {
        let mut line = self.lock();
        let may = line.may(container);
        if may && line.leave(container) {
            line.booting.insert(container);
        }
        may
    }

    /// Takes note of a container's record as it is now, or was before it was removed. Whose turn it is, where that freed
    /// a place or shortened the line.
    pub(super) fn note(&self, c: &Container, gone: bool) -> Vec<ObjectRef> {
        let mut line = self.lock();
        match c.status.phase {
            Phase::Booting if !gone => {
                line.leave(c.uuid());
                line.booting.insert(c.uuid());
            }
            Phase::Pending if !gone && may_want(c) => line.wait(c),
            _ if line.leave(c.uuid()) | line.booting.remove(&c.uuid()) => return line.next(),
            _ => {}
        }
        vec![]
    }

    /// These are all containers there are. A place that was taken and is not recorded yet stays taken. They may be ahead of
    /// what [`Boots::note`] was told: a place that is free by now is told of to nobody else (`a_new_count_wakes_those_whose_turn_it_is_then`).
    pub(super) fn reset<'a>(&self, all: impl IntoIterator<Item = &'a Container>) {
        let mut line = self.lock();
        let taken = std::mem::take(&mut *line);
        line.most = taken.most;
        for c in all {
            match c.status.phase {
                Phase::Pending if !taken.booting.contains(&c.uuid()) => {
                    if may_want(c) {
                        line.wait(c);
                    }
                }
                Phase::Pending | Phase::Booting => {
                    line.booting.insert(c.uuid());
                }
                Phase::Ready | Phase::Bound | Phase::Failed | Phase::Terminating => {}
            }
        }
        self.widened.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// One that has no place and is not in the line has ended since, and would never give a place back.
    fn may(&self, container: Uuid) -> bool {
        let in_line = || self.turns.contains_key(&container);
        self.most.is_none() || self.booting.contains(&container) || (self.free() > 0 && in_line())
    }

    fn free(&self) -> usize {
        self.most.map_or(usize::MAX, |most| most.get().saturating_sub(self.booting.len()))
    }

    fn wait(&mut self, c: &Container) {
        if self.booting.contains(&c.uuid()) {
            return;
        }
        // It may have been claimed since.
        self.leave(c.uuid());
        let turn = Turn { unclaimed: c.spec.claim.is_none(), since: c.metadata.creation_timestamp, uuid: c.uuid() };
        self.turns.insert(turn.uuid, turn);
        self.waiting.insert(turn, c.object_ref());
    }

    fn leave(&mut self, container: Uuid) -> bool {
        let turn = self.turns.remove(&container);
        turn.is_some_and(|turn| self.waiting.remove(&turn).is_some())
    }

    /// Whose turn it is now.
    fn next(&self) -> Vec<ObjectRef> {
        self.waiting.values().take(self.free()).cloned().collect()
    }
}

/// Whether a container that is not started is to be.
fn may_want(c: &Container) -> bool {
    !c.metadata.deleting() && c.spec.scheduling_gates.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::tests::container as member;

    fn container(number: u32, claimed: bool, phase: Phase) -> Container {
        let mut c = member(number);
        (c.spec.claim, c.status.phase) = (claimed.then(|| "claim".to_owned()).into(), phase);
        c
    }

    fn names(woken: Vec<ObjectRef>) -> Vec<String> {
        woken.into_iter().map(|object| object.name).collect()
    }

    /// `most` machines at once, and so many that wait, the oldest first.
    fn line(most: usize, waiting: u32) -> (Boots, Vec<Container>) {
        let boots = Boots::at_most(NonZeroUsize::new(most));
        let all: Vec<Container> = (0..waiting).map(|number| container(number, false, Phase::Pending)).collect();
        all.iter().for_each(|c| assert_eq!(boots.note(c, false), []));
        (boots, all)
    }

    #[test]
    fn as_many_boot_as_may_and_the_next_one_is_woken_when_one_is_up_or_gone() {
        for (phase, gone) in [(Phase::Ready, false), (Phase::Failed, false), (Phase::Booting, true)] {
            let (boots, all) = line(2, 4);
            assert!(all.iter().all(|c| boots.may(c.uuid())), "a look takes no place");
            let taken: Vec<bool> = all.iter().map(|c| boots.take(c.uuid())).collect();
            assert_eq!(taken, [true, true, false, false]);
            assert_eq!(all.iter().map(|c| boots.may(c.uuid())).collect::<Vec<_>>(), taken);
            assert!(boots.take(all[0].uuid()), "it asks again");
            assert_eq!(boots.note(&container(0, false, Phase::Booting), false), []);
            assert_eq!(names(boots.note(&container(0, false, phase), gone)), ["2"], "{phase:?}");
            assert!(boots.take(all[3].uuid()), "whoever comes first");
            assert!(!boots.take(all[2].uuid()));
        }
    }

    #[test]
    fn one_that_a_client_waits_for_is_woken_before_older_ones() {
        let (boots, all) = line(1, 3);
        assert!(boots.take(all[0].uuid()));
        boots.note(&container(2, true, Phase::Pending), false);
        assert_eq!(names(boots.note(&container(0, false, Phase::Ready), false)), ["2"]);
    }

    #[test]
    fn one_that_is_not_to_be_started_keeps_nobody_from_it() {
        let (boots, all) = line(1, 2);
        let mut deleted = all[0].clone();
        deleted.metadata.deletion_timestamp = Some(Timestamp::UNIX_EPOCH).into();
        let mut gated = all[0].clone();
        gated.spec.scheduling_gates.push("one".into());
        for over in [deleted, gated] {
            boots.note(&all[0], false);
            assert_eq!(names(boots.note(&over, false)), ["1"]);
            // A pass that read its record before.
            assert!(!boots.take(all[0].uuid()));
        }
        assert!(boots.take(all[1].uuid()));
    }

    #[test]
    fn what_is_recorded_is_what_counts_and_a_place_just_taken_besides() {
        let (boots, all) = line(2, 2);
        assert!(boots.take(all[0].uuid()));
        let booting = container(9, false, Phase::Booting);
        boots.reset(all.iter().chain([&booting]));
        assert!(!boots.take(all[1].uuid()));
        assert_eq!(names(boots.note(&booting, true)), ["1"]);
        boots.reset([&all[1]]);
        assert!(boots.take(all[1].uuid()), "the other one is gone");
    }

    #[tokio::test]
    async fn a_new_count_wakes_those_whose_turn_it_is_then() {
        let (boots, all) = line(1, 2);
        boots.changed().await;
        assert!(boots.take(all[0].uuid()));
        let ready = container(0, false, Phase::Ready);
        boots.reset([&ready, &all[1]]);
        assert_eq!(boots.note(&ready, false), [], "it was counted already");
        assert_eq!(names(boots.changed().await), ["1"]);
    }

    #[tokio::test]
    async fn another_limit_wakes_those_whose_turn_it_is_then() {
        let (boots, all) = line(1, 4);
        boots.changed().await;
        assert!(boots.take(all[0].uuid()));
        boots.set(NonZeroUsize::new(3));
        assert_eq!(names(boots.changed().await), ["1", "2"]);
        boots.set(None);
        assert_eq!(names(boots.changed().await), ["1", "2", "3"]);
        assert!(boots.take(all[3].uuid()));
    }
}
