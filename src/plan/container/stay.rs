//! A machine that is Ready: bound to its claim, kept reachable, ended when its time is over or when it dies; replaced,
//! while nobody has it, when it cannot be given to anybody.

use jiff::{SignedDuration, Timestamp};

use super::conditions::{AUTHORIZED, EXPIRING, PAUSED, READY};
use super::{Draft, Next, Step, UNKNOWN_POLL, in_use, sooner};
use crate::model::{
    ClaimPhase, Condition, Container, ContainerClaim, DomainState, EventKind, Keepsake, Lifetime, Mark, Observed,
    Pause, Phase, Rare, Seen, condition, set_condition,
};
use crate::plan::{claim, lifetime, probe};

/// How long a machine that found no room stands still at least: room that is taken at once by the next write of many
/// is none.
const RESUME_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// The reason of one that found no room for its disk.
const DISK_FULL: &str = "DiskFull";

/// Why a machine stands still, as reason and in words.
fn paused(why: Pause) -> (&'static str, &'static str) {
    match why {
        Pause::Asked => ("Paused", "its machine stands still: it was paused from outside"),
        Pause::DiskFull => {
            (DISK_FULL, "its machine stands still: the host has no room for its disk; it goes on when there is some")
        }
    }
}

/// Whether it stands still only because it found no room.
fn starved(seen: &Observed) -> bool {
    matches!(&seen.domain, Seen::Present(domain) if domain.state == DomainState::Paused(Pause::DiskFull))
}

impl Draft<'_> {
    pub(super) fn stay(&mut self, mark: &Mark, seen: &Observed) -> Next {
        // First of all: whatever else is wrong with it or cannot be seen, its time is over.
        if let Some(end) = self.reckon(seen) {
            return self.expire(end, mark, seen);
        }
        let domain = match &seen.domain {
            Seen::Unknown(_) => return Next::Look(UNKNOWN_POLL),
            Seen::Absent => return self.lose("DomainGone", "its machine ended", mark, seen),
            Seen::Present(domain) if domain.mark.as_ref() != Some(mark) => {
                return self.lose("DomainGone", "its machine was replaced by a domain that is not ours", mark, seen);
            }
            Seen::Present(domain) => domain,
        };
        match domain.state {
            DomainState::Off => return self.lose("DomainGone", "its machine was switched off", mark, seen),
            // Whoever paused it may resume it; a machine in use is not ended for that.
            DomainState::Paused(why) if in_use(self.c) => self.pause(why),
            DomainState::Paused(why) => {
                let (reason, message) = paused(why);
                return self.lose(reason, message, mark, seen);
            }
            DomainState::Running => self.go_on(),
        }
        // A machine in use is not asked: its user may have cut it off, and has it to themselves.
        if probe::wants(self.c) && seen.answers == Seen::Absent {
            let most = self.c.spec.template.readiness_probe.failure_threshold;
            let message = format!("its SSH server did not answer {most} probes in a row");
            return self.lose("NotAnswering", &message, mark, seen);
        }
        match &seen.forward {
            Seen::Unknown(_) => Next::Look(UNKNOWN_POLL),
            Seen::Absent => self.step(Step::Publish),
            Seen::Present(()) => {
                self.mark_published();
                self.serve(seen)
            }
        }
    }

    /// All is as it should be: it becomes its claim's, and then lives as long as it may.
    pub(super) fn serve(&mut self, seen: &Observed) -> Next {
        if let (Phase::Ready, Some(claim)) = (self.status.phase, self.claim) {
            if claim.spec.ssh_public_key.is_some() && !condition(&self.status.conditions, AUTHORIZED) {
                return self.step(Step::Authorize);
            }
            self.bind(claim);
        }
        self.status.message.clear();
        match self.reckon(seen) {
            // The next pass ends it.
            Some(_) => Next::Look(SignedDuration::ZERO),
            None if !self.remembered(seen) => sooner(self.step(Step::Remember), self.time_left()),
            None if starved(seen) => sooner(self.step(Step::Resume), self.time_left()),
            None => self.time_left(),
        }
    }

    /// Whether its domain bears what the records say from this pass on, as far as it has to: a machine that nobody
    /// uses is none that has to be found again.
    fn remembered(&self, seen: &Observed) -> bool {
        let Seen::Present(domain) = &seen.domain else { return true };
        let c = Container { status: self.status.clone(), ..self.c.clone() };
        let claim = self.claim.map(|claim| {
            let status = self.claim_status.clone().unwrap_or_else(|| claim.status.clone());
            ContainerClaim { status, ..claim.clone() }
        });
        !in_use(&c) || domain.keepsake.as_ref() == Some(&Keepsake::digest(&c, claim.as_ref()))
    }

    fn bind(&mut self, claim: &ContainerClaim) {
        self.status.phase = Phase::Bound;
        self.status.bound_at = Some(self.now).into();
        let expires_at = lifetime::deadline(self.lifetime(), claim.spec.ttl_seconds, self.now);
        self.status.expires_at = expires_at.into();
        let name = &self.c.metadata.name;
        self.claim_status = Some(claim::bound(&claim.status, name, expires_at, self.now));
        let event = self.event(EventKind::BoundClaim).detail("claim", claim.metadata.name.clone());
        self.events.push(event);
    }

    fn pause(&mut self, why: Pause) {
        let (reason, message) = paused(why);
        let said = |c: &&Condition| c.kind == PAUSED && c.status == "True";
        let before = self.status.conditions.iter().find(said).map(|c| c.reason.as_str());
        if before == Some(reason) {
            return;
        }
        let known = before.is_some();
        for (kind, status) in [(PAUSED, true), (READY, false)] {
            set_condition(&mut self.status.conditions, kind, status, reason, message, self.now);
        }
        if why == Pause::DiskFull {
            // Not at once: one that finds no room again would do nothing but stop and go.
            self.status.retry_at = Some(self.now + RESUME_PAUSE).into();
        }
        if !known {
            let event = self.event(EventKind::PausedContainer).message(message).detail("reason", reason);
            self.events.push(event);
        }
    }

    /// When to look again at one that may stand still for want of room, so that it goes on without anybody's tick.
    pub(super) fn soon_resumed(&self) -> Next {
        let starved = |c: &Condition| c.kind == PAUSED && c.status == "True" && c.reason == DISK_FULL;
        match self.status.conditions.iter().any(starved) {
            true => sooner(Next::Look(RESUME_PAUSE), self.time_left()),
            false => self.time_left(),
        }
    }

    /// There is no room for its disk yet, or it could not be told to go on.
    pub(super) fn stands_still(&mut self, why: &str) {
        set_condition(&mut self.status.conditions, PAUSED, true, DISK_FULL, why, self.now);
    }

    fn go_on(&mut self) {
        if !condition(&self.status.conditions, PAUSED) {
            return;
        }
        for (kind, status) in [(PAUSED, false), (READY, true)] {
            set_condition(&mut self.status.conditions, kind, status, "Resumed", "", self.now);
        }
        self.status.failures = 0;
        self.status.retry_at = Rare::nothing();
        let event = self.event(EventKind::ResumedContainer);
        self.events.push(event);
    }

    fn lose(&mut self, reason: &str, message: &str, mark: &Mark, seen: &Observed) -> Next {
        if self.standalone() {
            return self.fail(reason, message, mark, seen);
        }
        self.claim_ends(message);
        self.terminate(reason, message);
        self.go_down(mark, seen)
    }

    // --- its time ---

    /// Brings what is told of its time up to date, and announces its end ahead of it. The end, if that has come.
    fn reckon(&mut self, seen: &Observed) -> Option<lifetime::End> {
        let since = self.used_since()?;
        let (lifetime, asked) = (*self.lifetime(), self.claim.and_then(|claim| claim.spec.ttl_seconds));
        let idle_since = match (lifetime.idle_timeout_seconds, &seen.connections) {
            (Some(_), Seen::Present(Some(0))) => Some(self.status.idle_since.unwrap_or(self.now)),
            // What cannot be seen is not idle.
            _ => None,
        };
        let expires_at = lifetime::deadline(&lifetime, asked, since);
        (self.status.idle_since, self.status.expires_at) = (idle_since.into(), expires_at.into());
        if let Some(claim) = self.claim {
            let status = self.claim_status.get_or_insert_with(|| claim.status.clone());
            status.expires_at = expires_at;
        }
        let end = self.end(since);
        if let Some(end) = end.filter(|end| end.at <= self.now) {
            return Some(end);
        }
        let (near, told) =
            (end.filter(|end| end.announced_at() <= self.now), condition(&self.status.conditions, EXPIRING));
        match near {
            Some(end) if !told => {
                let (reason, message) = (end.reason.name(), format!("it ends at {}", end.at));
                set_condition(&mut self.status.conditions, EXPIRING, true, reason, &message, self.now);
                let event = self.event(EventKind::Expiring).message(message).detail("reason", reason);
                self.events.push(event);
            }
            None if told => {
                set_condition(&mut self.status.conditions, EXPIRING, false, "TimeLeft", "", self.now);
            }
            _ => {}
        }
        None
    }

    fn expire(&mut self, end: lifetime::End, mark: &Mark, seen: &Observed) -> Next {
        let message = match end.reason {
            lifetime::Reason::Expired => format!("its time to live of {} s is over", end.after.as_secs()),
            lifetime::Reason::Idle => format!("nobody was connected to it for {} s", end.after.as_secs()),
        };
        // With the deadline that was just reckoned.
        self.claim_status =
            self.claim_status.take().map(|status| claim::ended(&status, ClaimPhase::Expired, &message, self.now));
        // It ends as what it is: a record that stays says so for good.
        let phase = if self.standalone() { Phase::Failed } else { Phase::Terminating };
        self.leave(phase, end.reason.name(), &message);
        let event = self.event(EventKind::Expired).message(message).detail("reason", end.reason.name());
        self.events.push(event);
        self.go_down(mark, seen)
    }

    /// When to look again, so that nothing waits for anybody's tick.
    pub(super) fn time_left(&self) -> Next {
        let Some(since) = self.used_since() else { return Next::Rest };
        let end = self.end(since);
        let moments = end.into_iter().flat_map(|end| [end.announced_at(), end.at]);
        let moments = moments.filter(|moment| *moment > self.now).map(|moment| moment.duration_since(self.now));
        moments.chain(lifetime::poll(self.lifetime())).min().map_or(Next::Rest, Next::Look)
    }

    fn end(&self, since: Timestamp) -> Option<lifetime::End> {
        let asked = self.claim.and_then(|claim| claim.spec.ttl_seconds);
        lifetime::end(self.lifetime(), asked, since, *self.status.idle_since)
    }

    /// Since when somebody uses it.
    fn used_since(&self) -> Option<Timestamp> {
        match self.status.phase {
            Phase::Bound => *self.status.bound_at,
            Phase::Ready if self.standalone() => self.status.ready_at,
            _ => None,
        }
    }

    fn lifetime(&self) -> &Lifetime {
        &self.c.spec.template.lifetime
    }
}
