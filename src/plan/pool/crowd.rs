//! A pool's containers, counted in one look at each.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::{Outlook, end, hash, is_ready, template_hash};
use crate::model::{Container, ContainerPool, Phase};

/// A pool's containers, by what they are to it: how many, and of those that may have to go the one that goes first.
pub(super) struct Crowd<'a> {
    pub(super) pool: &'a ContainerPool,
    /// Names template and image as they are now; as they were, while the image cannot be seen.
    pub(super) hash: String,
    /// Unclaimed, on their way or Ready.
    pub(super) rising: u32,
    /// Those of them that are Ready.
    pub(super) ready: u32,
    /// Those of them that are of an earlier template or image.
    pub(super) outdated: u32,
    /// Those of them that are made from another image than the one that is seen.
    pub(super) of_other_image: u32,
    pub(super) first: First<'a>,
    pub(super) first_outdated: First<'a>,
    /// Of those that have waited for a claim for as long as they may.
    pub(super) first_over: First<'a>,
    /// When the next one has.
    pub(super) next_end: Option<Timestamp>,
    /// Unclaimed and going away.
    pub(super) going: u32,
    /// Whether some of them are of an earlier template or image.
    pub(super) outdated_going: bool,
    /// Those of a claim, of any phase.
    pub(super) claimed: u32,
    /// Those of them that are in use.
    pub(super) bound: u32,
    /// When the last one of this template, claimed or not, became Ready.
    pub(super) last_ready: Option<Timestamp>,
    /// How many members there can be: `replicas`, as far as claims leave room for them.
    pub(super) wanted: u32,
}

impl<'a> Crowd<'a> {
    pub(super) fn new(
        pool: &'a ContainerPool,
        members: impl IntoIterator<Item = &'a Container>,
        outlook: &Outlook<'_>,
        now: Timestamp,
    ) -> Self {
        let hash = match outlook.image {
            Ok(sha256) => template_hash(&pool.spec.template, sha256),
            Err(_) => pool.status.template_hash.clone(),
        };
        let mut crowd = Crowd {
            pool,
            hash,
            rising: 0,
            ready: 0,
            outdated: 0,
            of_other_image: 0,
            first: First::default(),
            first_outdated: First::default(),
            first_over: First::default(),
            next_end: None,
            going: 0,
            outdated_going: false,
            claimed: 0,
            bound: 0,
            last_ready: None,
            wanted: 0,
        };
        members.into_iter().for_each(|c| crowd.add(c, outlook, now));
        let room = pool.spec.max_containers.saturating_sub(crowd.claimed);
        crowd.wanted = if pool.metadata.deleting() { 0 } else { pool.spec.replicas.min(room) };
        crowd
    }

    fn add(&mut self, c: &'a Container, outlook: &Outlook<'_>, now: Timestamp) {
        let (current, deleting) = (hash::bears(c, &self.hash), c.metadata.deleting());
        if c.spec.claim.is_some() {
            self.claimed += 1;
            self.bound += u32::from(c.status.phase == Phase::Bound && !deleting);
        } else if deleting || !matches!(c.status.phase, Phase::Pending | Phase::Booting | Phase::Ready) {
            self.going += 1;
            self.outdated_going |= !current;
            return;
        } else {
            self.add_rising(c, current, outlook, now);
        }
        if current {
            self.last_ready = self.last_ready.max(c.status.ready_at);
        }
    }

    fn add_rising(&mut self, c: &'a Container, current: bool, outlook: &Outlook<'_>, now: Timestamp) {
        self.rising += 1;
        self.ready += u32::from(is_ready(c));
        self.of_other_image += u32::from(outlook.image.is_ok_and(|sha256| *c.spec.machine.image_sha256 != sha256));
        self.first.offer(c, current);
        if !current {
            self.outdated += 1;
            self.first_outdated.offer(c, current);
        }
        match end(c) {
            Some(at) if at <= now => self.first_over.offer(c, current),
            Some(at) => self.next_end = Some(self.next_end.map_or(at, |next| next.min(at))),
            None => {}
        }
    }
}

/// The one of some containers that goes first: one that is not Ready, then one of an earlier template, then the newest.
/// What took longest to get stays.
#[derive(Default)]
pub(super) struct First<'a>(Option<(Order<'a>, &'a Container)>);

type Order<'a> = (bool, bool, Reverse<Timestamp>, &'a str);

impl<'a> First<'a> {
    fn offer(&mut self, c: &'a Container, current: bool) {
        let order = (is_ready(c), current, Reverse(c.metadata.creation_timestamp), c.metadata.name.as_str());
        if self.0.is_none_or(|(least, _)| order < least) {
            self.0 = Some((order, c));
        }
    }

    pub(super) fn container(&self) -> Option<&'a Container> {
        self.0.map(|(_, c)| c)
    }
}
