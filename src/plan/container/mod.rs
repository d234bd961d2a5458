//! One container: from what is recorded and seen to what is committed and the one next step.
//!
//! ```text
//! record ─┐
//! claim  ─┼─► decide ─► status, claim, events (one commit) ─► Next::Step ─► outcome ─► note ─► status, events
//! seen   ─┘                                                  └ Wait / Release / Remove
//! ```
//!
//! A container is **somebody's** from the moment a claim is named in it, or, without a pool, from Ready on. How long it
//! may be used is [`super::lifetime`]'s arithmetic; `stay.rs` acts on it.
//!
//! Rules kept here, each by a test in `tests.rs` and over random histories in `operator/tests`:
//!
//! - Nothing is destroyed on doubt: with the domain or the forward *unknown*, the only answer is to wait. The record says
//!   so, once, and says once that it is over: `one_condition_says_that_nothing_can_be_seen_and_one_change_that_it_can`.
//! - What stands still is given to nobody, and what somebody uses is not ended for it:
//!   `a_paused_member_is_replaced_and_a_paused_machine_in_use_stays_and_is_told_once`. One that found no room for its
//!   disk goes on when there is some: `a_machine_in_use_that_finds_no_room_says_where_and_goes_on_by_itself`.
//! - A member that does not answer its probes is not given to a client: `a_member_that_answers_no_probe_is_replaced`.
//! - A deleted container gets no step that starts or opens anything.
//! - A gated container is not started, and nothing else of it is held up. Nor is one whose turn to boot has not come; if
//!   somebody waits for it, not for ever: `a_machine_that_may_not_boot_yet_says_so_and_its_client_does_not_wait_for_ever`.
//! - A port is closed before its machine is ended, and opened only after the endpoint account is locked. One that is
//!   inside the machine's own QEMU ends with it at the latest:
//!   `a_machine_that_does_not_tell_of_its_port_can_be_ended_where_the_port_ends_with_it`.
//! - A claim that came to an end stays as it ended, and its machine ends with it. One that is not bound yet and waits
//!   on no connection outlives its machine: `a_claim_nobody_waits_on_outlives_the_machine_it_was_promised`.
//! - A container without pool is not removed before it is deleted: it ends as Failed, with nothing left of it but its
//!   record, or a manifest that still names it would make another machine.
//! - The domain of a machine in use bears what its records say ([`Keepsake`](crate::model::Keepsake)); that it cannot be written there ends no
//!   machine and delays no deadline.
//! - At the fixed point there is no step: deciding again on the same input changes nothing.

mod deadline;
mod note;
mod sight;
mod stay;
mod step;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

use super::{backoff, claim};
use crate::model::{
    ClaimPhase, ClaimStatus, Client, Container, ContainerClaim, ContainerStatus, DomainState, Event, EventKind, Mark,
    Object, Observed, Origin, Phase, Rare, Seen, condition, set_condition,
};

/// Failed steps in a row, on the way up, after which a container is given up.
pub const MOST_FAILURES: u32 = 5;
/// How soon a machine without address is looked at again, where nobody tells of leases.
pub const ADDRESS_POLL: SignedDuration = SignedDuration::from_millis(100);
/// How soon something unknown is looked at again; a restored connection wakes it earlier.
pub const UNKNOWN_POLL: SignedDuration = SignedDuration::from_secs(1);

/// Why a container is not [started](conditions::STARTED) yet that could be.
pub const IN_LINE: &str = "HostBusy";

/// Conditions of a container.
pub mod conditions {
    /// Its domain was started.
    pub const STARTED: &str = "Started";
    /// Its user exists and `endpoint` is locked.
    pub const PERSONALISED: &str = "Personalised";
    /// Its port leads to it.
    pub const PUBLISHED: &str = "Published";
    /// The public key of its claim may log in.
    pub const AUTHORIZED: &str = "Authorized";
    /// It can be used.
    pub const READY: &str = "Ready";
    /// What is outside can be looked at. Absent until it once could not be.
    pub const SEEN: &str = "Seen";
    /// Its domain stands still: somebody paused it from outside, or the host has no room for its disk.
    pub const PAUSED: &str = "Paused";
    /// Its end is near.
    pub const EXPIRING: &str = "Expiring";
    /// Nothing is left of it but its record.
    pub const RELEASED: &str = "Released";
}

use conditions::{PERSONALISED, PUBLISHED, READY, RELEASED, STARTED};
pub use step::{Next, Outcome, Step};

/// What a pass commits, and what it does then.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The container's status from now on.
    pub status: ContainerStatus,
    /// Its claim's status from now on, where it changes.
    pub claim: Option<ClaimStatus>,
    /// What happened.
    pub events: Vec<Event>,
    /// What comes then.
    pub next: Next,
}

/// Decides for one container. `claim` is the record its `spec.claim` names, if there is one.
pub fn decide(c: &Container, claim: Option<&ContainerClaim>, mark: &Mark, seen: &Observed, now: Timestamp) -> Decision {
    let mut d = Draft::new(c, claim, now);
    let next = d.decide(mark, seen);
    d.finish(next)
}

/// Records how a step ended. `next` says only when to look again.
pub fn note(c: &Container, claim: Option<&ContainerClaim>, step: Step, outcome: &Outcome, now: Timestamp) -> Decision {
    let mut d = Draft::new(c, claim, now);
    let next = d.note(step, outcome);
    d.finish(next)
}

struct Draft<'a> {
    c: &'a Container,
    claim: Option<&'a ContainerClaim>,
    now: Timestamp,
    status: ContainerStatus,
    claim_status: Option<ClaimStatus>,
    events: Vec<Event>,
}

impl<'a> Draft<'a> {
    fn new(c: &'a Container, claim: Option<&'a ContainerClaim>, now: Timestamp) -> Self {
        Draft { c, claim, now, status: c.status.clone(), claim_status: None, events: Vec::new() }
    }

    fn finish(self, next: Next) -> Decision {
        let claim = self.claim_status.filter(|status| self.claim.is_some_and(|claim| claim.status != *status));
        Decision { status: self.status, claim, events: self.events, next }
    }

    fn decide(&mut self, mark: &Mark, seen: &Observed) -> Next {
        // Its port may be another one's by now: nothing of it is looked at any more.
        if released(self.c) {
            let over = self.c.metadata.deleting() && self.c.metadata.finalizers.is_empty();
            return if over { Next::Remove } else { Next::Rest };
        }
        self.note_sight(seen);
        self.end_if_wished();
        match self.status.phase {
            Phase::Failed | Phase::Terminating => self.go_down(mark, seen),
            Phase::Pending | Phase::Booting => self.go_up(mark, seen),
            Phase::Ready | Phase::Bound => self.stay(mark, seen),
        }
    }

    fn end_if_wished(&mut self) {
        if self.status.phase == Phase::Terminating {
            return;
        }
        let failed = self.status.phase == Phase::Failed;
        // One that failed by itself says so; its claim may wait for another one by now.
        let over = |claim: Option<&ContainerClaim>| match claim {
            Some(claim) => claim.metadata.deleting() || (claim::finished(claim.status.phase) && !failed),
            None => !failed,
        };
        if self.c.metadata.deleting() {
            let message = "its end was asked for";
            self.claim_ends(message);
            self.terminate("Deleted", message);
        } else if self.c.spec.claim.is_some() && over(self.claim) {
            let message = "its claim was withdrawn";
            self.claim_ends(message);
            self.terminate("ClaimGone", message);
        }
    }

    /// Whether it belongs to no pool, and so to whoever wrote it.
    fn standalone(&self) -> bool {
        standalone(self.c)
    }

    // --- down ---

    fn go_down(&mut self, mark: &Mark, seen: &Observed) -> Next {
        let ours = matches!(&seen.domain, Seen::Present(domain) if domain.mark.as_ref() == Some(mark));
        match &seen.forward {
            Seen::Present(()) => return self.step(Step::Withdraw),
            // Without an address of its own its forward is inside its QEMU, which does not answer, and ends with it.
            Seen::Unknown(_) if ours && seen.address == Seen::Present(None) => return self.step(Step::DestroyDomain),
            Seen::Unknown(_) => return Next::Look(UNKNOWN_POLL),
            Seen::Absent => {}
        }
        if condition(&self.status.conditions, PUBLISHED) {
            set_condition(&mut self.status.conditions, PUBLISHED, false, "Withdrawn", "", self.now);
            let event = self.event(EventKind::ForwardRemoved).detail("port", self.c.spec.machine.port);
            self.events.push(event);
        }
        match &seen.domain {
            Seen::Present(_) if ours => return self.step(Step::DestroyDomain),
            Seen::Unknown(_) => return Next::Look(UNKNOWN_POLL),
            // Somebody else's domain with our UUID was never ours to end, so nothing of ours is left either.
            Seen::Present(_) | Seen::Absent => {}
        }
        match &seen.disk {
            Seen::Present(()) => return self.step(Step::RemoveDisk),
            Seen::Unknown(_) => return Next::Look(UNKNOWN_POLL),
            Seen::Absent => {}
        }
        // One that a client was told of, or that ran. The rest nobody ever knew.
        if self.status.started_at.is_some() || self.c.spec.claim.is_some() {
            let event = self.event(EventKind::DestroyedContainer).message(self.status.message.to_string());
            self.events.push(event.detail("reason", self.status.reason.to_string()));
        }
        // Somebody wants to see how it ended: its user, or whoever's finalizer it bears.
        let kept = self.standalone() && !self.c.metadata.deleting();
        if kept || !self.c.metadata.finalizers.is_empty() {
            set_condition(&mut self.status.conditions, RELEASED, true, &self.status.reason, "", self.now);
            return Next::Release;
        }
        Next::Remove
    }

    // --- up ---

    fn go_up(&mut self, mark: &Mark, seen: &Observed) -> Next {
        if let Some(message) = self.overdue() {
            return self.fail("BootDeadline", &message, mark, seen);
        }
        let domain = match &seen.domain {
            Seen::Unknown(_) => return Next::Look(UNKNOWN_POLL),
            Seen::Absent if condition(&self.status.conditions, STARTED) => {
                return self.fail("DomainGone", "its domain ended while it booted", mark, seen);
            }
            // Whoever put it there takes it away, and that is a change.
            Seen::Absent if !self.c.spec.scheduling_gates.is_empty() => return Next::Rest,
            Seen::Absent if self.status.phase == Phase::Pending && !seen.may_boot => return self.stand_in_line(),
            Seen::Absent => return self.start(),
            Seen::Present(domain) => domain,
        };
        if domain.mark.as_ref() != Some(mark) {
            return self.fail("UuidTaken", "a domain that is not ours bears its UUID", mark, seen);
        }
        if domain.state != DomainState::Running {
            return self.fail("DomainStopped", "its domain stopped while it booted", mark, seen);
        }
        self.status.phase = Phase::Booting;
        self.status.started_at.get_or_insert(self.now);
        if !condition(&self.status.conditions, STARTED) {
            // A crash came before its start was noted. From here on its end is an end, and not a start that is due.
            set_condition(&mut self.status.conditions, STARTED, true, "Seen", "", self.now);
        }
        match &seen.address {
            Seen::Unknown(_) => return Next::Look(UNKNOWN_POLL),
            Seen::Absent => return Next::Look(ADDRESS_POLL),
            Seen::Present(address) => self.status.address = *address,
        }
        if !condition(&self.status.conditions, PERSONALISED) {
            return self.step(Step::Personalise);
        }
        match &seen.forward {
            Seen::Unknown(_) => Next::Look(UNKNOWN_POLL),
            Seen::Absent => self.step(Step::Publish),
            Seen::Present(()) => {
                self.ready();
                self.serve(seen)
            }
        }
    }

    /// Woken when its turn comes; where somebody waits for it, it is given up when that takes too long.
    fn stand_in_line(&mut self) -> Next {
        let message = "as many machines boot as this host bears at once ('host.parallel_boots')";
        set_condition(&mut self.status.conditions, STARTED, false, IN_LINE, message, self.now);
        self.patience().map_or(Next::Rest, |left| Next::Look(left + SignedDuration::from_millis(1)))
    }

    fn start(&mut self) -> Next {
        if self.status.phase == Phase::Pending {
            self.status.phase = Phase::Booting;
            self.status.started_at = Some(self.now);
        }
        self.step(Step::CreateDomain)
    }

    fn ready(&mut self) {
        self.mark_published();
        self.status.ready_at = Some(self.now);
        self.status.reason.clear();
        self.status.message.clear();
        set_condition(&mut self.status.conditions, READY, true, "Answering", "", self.now);
        let event = self.event(EventKind::ReadyContainer);
        self.events.push(event);
        self.status.phase = Phase::Ready;
    }

    fn step(&mut self, step: Step) -> Next {
        backoff::left(*self.status.retry_at, self.now).map_or(Next::Step(step), Next::Look)
    }

    fn fail(&mut self, reason: &str, message: &str, mark: &Mark, seen: &Observed) -> Next {
        self.set_failed(reason, message);
        self.go_down(mark, seen)
    }

    fn set_failed(&mut self, reason: &str, message: &str) {
        self.leave(Phase::Failed, reason, message);
        let event = self.event(EventKind::FailedContainer).message(message).detail("reason", reason);
        self.events.push(event);
        self.claim_ends(message);
    }

    fn terminate(&mut self, reason: &str, message: &str) {
        self.leave(Phase::Terminating, reason, message);
    }

    fn leave(&mut self, phase: Phase, reason: &str, message: &str) {
        self.status.phase = phase;
        self.status.reason = reason.into();
        self.status.message = message.into();
        self.status.failures = 0;
        self.status.retry_at = Rare::nothing();
        set_condition(&mut self.status.conditions, READY, false, reason, message, self.now);
    }

    /// Its claim ends with it, unless that ended before: one that was bound is Lost; another one waits for another machine,
    /// or is Failed where somebody waits for this one.
    ///
    /// One that is deleted goes with its machine, and whoever did it is told of no loss. Where a finalizer holds it, it names
    /// no machine as its own that is gone (`a_deleted_claim_that_is_held_is_not_bound_to_a_machine_that_ends`).
    fn claim_ends(&mut self, message: &str) {
        let Some(claim) = self.claim else { return };
        let before = self.claim_status.clone().unwrap_or_else(|| claim.status.clone());
        let ended = |phase| claim::ended(&before, phase, message, self.now);
        if claim.metadata.deleting() {
            if before.phase == ClaimPhase::Bound && !claim.metadata.finalizers.is_empty() {
                self.claim_status = Some(ended(ClaimPhase::Lost));
            }
            return;
        }
        let (status, kind) = match before.phase {
            ClaimPhase::Pending => match claim::requeued(claim, message, self.now) {
                Some(status) => (status, EventKind::RequeuedClaim),
                None => (ended(ClaimPhase::Failed), EventKind::FailedClaim),
            },
            ClaimPhase::Bound => (ended(ClaimPhase::Lost), EventKind::LostClaim),
            ClaimPhase::Failed | ClaimPhase::Lost | ClaimPhase::Expired => return,
        };
        self.claim_status = Some(status);
        let event = self.event(kind).regarding(claim.object_ref()).message(message);
        self.events.push(event);
    }

    fn mark_published(&mut self) {
        if !condition(&self.status.conditions, PUBLISHED) {
            set_condition(&mut self.status.conditions, PUBLISHED, true, "Forwarded", "", self.now);
            let event = self.event(EventKind::ForwardAdded).detail("port", self.c.spec.machine.port);
            self.events.push(event);
        }
    }

    fn runtime_error(&mut self, step: Step, why: &str) {
        let event = self.event(EventKind::RuntimeError).message(why).detail("name", step.name());
        self.events.push(event);
    }

    fn event(&self, kind: EventKind) -> Event {
        about(self.c, self.claim, kind, self.now)
    }
}

/// Of two times to look again, the one that comes first.
fn sooner(one: Next, other: Next) -> Next {
    match (one, other) {
        (Next::Look(one), Next::Look(other)) => Next::Look(one.min(other)),
        (Next::Rest, look @ Next::Look(_)) => look,
        // A step is taken now, and after it there is another look.
        (one, _) => one,
    }
}

/// Whether a container belongs to no pool, and so to whoever wrote it.
pub fn standalone(c: &Container) -> bool {
    c.spec.pool.is_none() && c.spec.claim.is_none()
}

/// Whether nothing is left of a container but its record: not its port either, which may be another one's by now.
pub fn released(c: &Container) -> bool {
    condition(&c.status.conditions, RELEASED)
}

/// Whether somebody uses a container, or could.
pub fn in_use(c: &Container) -> bool {
    c.status.phase == Phase::Bound || (c.status.phase == Phase::Ready && standalone(c))
}

/// An event about a container, with what every such event tells.
pub fn about(c: &Container, claim: Option<&ContainerClaim>, kind: EventKind, now: Timestamp) -> Event {
    let event = Event::new(kind, now).regarding(c.object_ref()).detail("container_uuid", c.uuid().to_string());
    match claim.and_then(client) {
        Some(client) => event.client(client),
        None => event,
    }
}

fn client(claim: &ContainerClaim) -> Option<&Client> {
    match &claim.spec.origin {
        Origin::Wire { client, .. } => Some(client),
        Origin::Embedder | Origin::Object => None,
    }
}
