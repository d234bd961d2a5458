//! One pool: how many machines to make, which to let go.
//!
//! ```text
//! pool ────┐                                        ┌ Make ─► made, or hindered: decide again, told why
//! members ─┼─► decide ─► status, events (one commit) ┤ Release
//! outlook ─┘                                        └ Look / Rest / Remove
//! ```
//!
//! Rules kept here, each by a test in `tests` and over random histories in `operator/tests`:
//!
//! - It never makes one too many: members on their way count as if they were there, and those that go away hold their
//!   place until they are gone.
//! - It lets go of nothing that a claim has.
//! - An update lets the Ready ones never become fewer than `replicas - maxUnavailable`.
//! - What hinders it (an image, the host, boots that fail) is told in a condition, and makes it wait.
//! - At the fixed point there is no step: deciding again on the same input changes nothing.

mod conditions;
mod count;
mod crowd;
mod hash;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

use super::backoff;
use crate::model::{Container, ContainerPool, Event, EventKind, Object, Phase, PoolStatus, RefillWindow, UpdateKind};

use crowd::Crowd;

pub use count::{count_in, count_out, counted};
pub use hash::template_hash;

/// How soon a pool that something outside hinders looks again: nobody tells it of a file or of free memory.
pub const HINDERED_POLL: SignedDuration = SignedDuration::from_secs(5);
/// The most members that are made before it is decided again: what changed meanwhile has to be seen.
pub const MOST_MADE: u32 = 64;
/// What `refill.perMinute` counts in.
const MINUTE: SignedDuration = SignedDuration::from_secs(60);

/// What a pass for a pool commits and then does.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The pool's status from now on; its exact counter stays as it is.
    pub status: PoolStatus,
    /// What happened.
    pub events: Vec<Event>,
    /// What comes then.
    pub next: Next,
}

/// What comes after the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Make so many members, each in a commit of its own: at most [`MOST_MADE`].
    Make(u32),
    /// Let this member go.
    Release(String),
    /// Look again after this long.
    Look(SignedDuration),
    /// Nothing, until something changes.
    Rest,
    /// It was deleted and nothing is left of it: remove its record.
    Remove,
}

/// What is seen besides the records.
#[derive(Clone, Copy, Debug)]
pub struct Outlook<'a> {
    /// The SHA-256 of the template's image, or why there is none.
    pub image: Result<&'a str, &'a str>,
    /// Why no member could be made just now, though it was decided.
    pub hindrance: Option<&'a Hindrance>,
}

/// Why no member can be made, though the pool wants one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindrance {
    /// One CamelCase word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Decides for one pool, given all its containers. They are looked at one by one, once, and none is kept but those who
/// may have to go: a large pool costs no more memory than a small one
/// (`a_pass_of_a_large_pool_decodes_and_allocates_as_much_as_one_of_a_small_pool`).
pub fn decide<'a>(
    pool: &'a ContainerPool,
    members: impl IntoIterator<Item = &'a Container>,
    outlook: &Outlook<'_>,
    now: Timestamp,
) -> Decision {
    let crowd = Crowd::new(pool, members, outlook, now);
    let mut status = crowd.numbers(now);
    let next = crowd.next(&status, outlook, now);
    let events = crowd.tell_update(&mut status, now);
    let deadline = conditions::write(&crowd, &mut status, outlook, &next, now);
    // Whatever else it waits for, it looks when a member's time is over or its own has run out.
    let look = |at: Timestamp| at.duration_since(now).max(SignedDuration::ZERO);
    let times = [crowd.first_end(), deadline].into_iter().flatten().map(look);
    let next = match next {
        Next::Look(after) => Next::Look(times.fold(after, Ord::min)),
        Next::Rest => times.min().map_or(Next::Rest, Next::Look),
        step => step,
    };
    Decision { status, events, next }
}

impl Crowd<'_> {
    /// As many as wished for, Ready.
    fn filled(&self) -> bool {
        self.ready == self.wanted && self.rising == self.wanted
    }

    /// Whether members of an earlier template are to be replaced before somebody claims them.
    fn replaces(&self) -> bool {
        self.pool.spec.update_strategy.kind != UpdateKind::OnReplenish && self.outdated > 0
    }

    fn numbers(&self, now: Timestamp) -> PoolStatus {
        let before = &self.pool.status;
        let ready = self.ready;
        let mut status = PoolStatus {
            replicas: self.rising,
            ready_replicas: ready,
            updated_replicas: self.rising - self.outdated,
            bound_containers: self.bound,
            template_hash: self.hash.clone(),
            observed_generation: self.pool.metadata.generation,
            ..before.clone()
        };
        if ready < before.ready_replicas {
            status.taken_at = Some(now);
        }
        // Another template deserves another chance at once.
        if self.boots_again() || self.hash != before.template_hash {
            status.failures = 0;
            status.failed_at = None;
            status.retry_at = None;
            status.message.clear();
        }
        status
    }

    /// Whether one became Ready, of this template, after the last that failed.
    fn boots_again(&self) -> bool {
        self.last_ready.is_some_and(|at| self.pool.status.failed_at.is_none_or(|failed| at > failed))
    }

    // --- what to do ---

    fn next(&self, status: &PoolStatus, outlook: &Outlook<'_>, now: Timestamp) -> Next {
        let pool = self.pool;
        if pool.metadata.deleting() {
            return match self.first.container() {
                Some(member) => release(member),
                None if pool.status.containers == 0 && pool.metadata.finalizers.is_empty() => Next::Remove,
                None => Next::Rest,
            };
        }
        if pool.spec.paused {
            return Next::Rest;
        }
        if let Some(first) = self.first.container().filter(|_| self.rising > self.wanted) {
            return release(first);
        }
        if let Some(over) = self.first_over.container() {
            return release(over);
        }
        if outlook.image.is_err() {
            return Next::Look(HINDERED_POLL);
        }
        self.replace().unwrap_or_else(|| self.make(status, outlook, now))
    }

    /// Whom an update lets go now.
    fn replace(&self) -> Option<Next> {
        let strategy = self.pool.spec.update_strategy;
        let first = self.first_outdated.container()?;
        let spare = self.ready > self.wanted.saturating_sub(strategy.max_unavailable.max(1));
        let goes = match strategy.kind {
            UpdateKind::OnReplenish => false,
            UpdateKind::Recreate => true,
            UpdateKind::RollingUpdate => !is_ready(first) || spare,
        };
        goes.then(|| release(first))
    }

    fn make(&self, status: &PoolStatus, outlook: &Outlook<'_>, now: Timestamp) -> Next {
        let spec = &self.pool.spec;
        let held = self.rising + self.going;
        if held >= self.wanted || status.containers >= spec.max_containers {
            return Next::Rest;
        }
        if spec.update_strategy.kind == UpdateKind::Recreate && self.outdated_going {
            return Next::Rest;
        }
        let starting = self.rising - self.ready;
        let may_start = spec.refill.max_starting.max(1).saturating_sub(starting);
        if may_start == 0 {
            return Next::Rest;
        }
        if outlook.hindrance.is_some() {
            return Next::Look(HINDERED_POLL);
        }
        let debounce = SignedDuration::from_millis(spec.refill.debounce_milliseconds.into());
        let waits = [
            status.taken_at.and_then(|taken| left(taken, debounce, now)),
            // A clock that was set back keeps nobody waiting for longer than the longest wait.
            status.retry_at.map(|at| at.duration_since(now)).filter(|wait| *wait <= backoff::LONGEST),
            spec.refill.per_minute.and_then(|most| window_left(status.refill_window, most.max(1), now)),
        ];
        let in_minute = spec.refill.per_minute.map(|most| window_room(status.refill_window, most.max(1), now));
        let lacking = (self.wanted - held).min(spec.max_containers - status.containers).min(may_start);
        match waits.into_iter().flatten().max() {
            Some(wait) if wait > SignedDuration::ZERO => Next::Look(wait),
            _ => Next::Make(lacking.min(in_minute.unwrap_or(MOST_MADE)).min(MOST_MADE)),
        }
    }

    /// When the first member has waited for a claim for as long as it may.
    fn first_end(&self) -> Option<Timestamp> {
        self.next_end.filter(|_| !self.pool.spec.paused && !self.pool.metadata.deleting())
    }

    // --- what happened ---

    /// Tells once that members are being replaced for this hash, and once that all of them are.
    fn tell_update(&self, status: &mut PoolStatus, now: Timestamp) -> Vec<Event> {
        if self.pool.spec.paused || self.pool.metadata.deleting() {
            return Vec::new();
        }
        let outdated = self.outdated;
        let about = |kind| Event::new(kind, now).regarding(self.pool.object_ref()).detail("template_hash", &*self.hash);
        if outdated > 0 && status.updating.as_ref() != Some(&self.hash) {
            status.updating = Some(self.hash.clone());
            let kind = self.pool.spec.update_strategy.kind;
            let message =
                format!("{outdated} of {} members are of an earlier template or image ({kind:?})", status.replicas);
            return vec![about(EventKind::UpdatingPool).message(message)];
        }
        if outdated == 0 && status.updating.is_some() && self.filled() {
            status.updating = None;
            return vec![about(EventKind::UpdatedPool)];
        }
        Vec::new()
    }
}

fn is_ready(c: &Container) -> bool {
    c.status.phase == Phase::Ready
}

fn release(member: &Container) -> Next {
    Next::Release(member.metadata.name.clone())
}

/// When a Ready member has waited for a claim for as long as its template lets it.
fn end(c: &Container) -> Option<Timestamp> {
    let most = c.spec.template.lifetime.max_ready_seconds.filter(|_| is_ready(c))?;
    c.status.ready_at?.checked_add(SignedDuration::from_secs(most.into())).ok()
}

/// What is left of a time that began then. One that begins in the future was measured by a clock that was set back
/// since: it is over.
fn left(began: Timestamp, lasts: SignedDuration, now: Timestamp) -> Option<SignedDuration> {
    let passed = now.duration_since(began);
    (passed >= SignedDuration::ZERO && passed < lasts).then(|| lasts - passed)
}

/// What is left of a minute in which as many as allowed were begun.
fn window_left(window: Option<RefillWindow>, most: u32, now: Timestamp) -> Option<SignedDuration> {
    let window = window.filter(|window| window.made >= most)?;
    left(window.started_at, MINUTE, now)
}

/// How many may still be begun in this minute.
fn window_room(window: Option<RefillWindow>, most: u32, now: Timestamp) -> u32 {
    let runs = window.filter(|window| left(window.started_at, MINUTE, now).is_some());
    most.saturating_sub(runs.map_or(0, |window| window.made))
}
