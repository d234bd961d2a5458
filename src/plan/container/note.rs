//! How a step ended, and what follows from that.

use jiff::SignedDuration;

use super::conditions::{AUTHORIZED, PERSONALISED, STARTED};
use super::{ADDRESS_POLL, Draft, MOST_FAILURES, Next, Outcome, Step, sooner};
use crate::model::{EventKind, Phase, Rare, set_condition};
use crate::plan::backoff;

impl Draft<'_> {
    pub(super) fn note(&mut self, step: Step, outcome: &Outcome) -> Next {
        match outcome {
            Outcome::Done => {
                self.status.failures = 0;
                self.status.retry_at = Rare::nothing();
                match step {
                    Step::CreateDomain => {
                        set_condition(&mut self.status.conditions, STARTED, true, "Created", "", self.now)
                    }
                    Step::Personalise => {
                        self.status.message.clear();
                        set_condition(&mut self.status.conditions, PERSONALISED, true, "LoginChecked", "", self.now);
                        let event = self.event(EventKind::CreatedEndpointShell);
                        self.events.push(event);
                    }
                    Step::Publish => self.mark_published(),
                    Step::Authorize => {
                        set_condition(&mut self.status.conditions, AUTHORIZED, true, "KeyInstalled", "", self.now)
                    }
                    // What these did is told when it is seen.
                    Step::Withdraw | Step::DestroyDomain | Step::RemoveDisk => {}
                    // Looked at when something changes, or with everything else: whoever writes another one into it
                    // keeps nobody busy.
                    Step::Remember => return self.soon_resumed(),
                    // That it goes on is told when it is seen to.
                    Step::Resume => {}
                }
                Next::Look(SignedDuration::ZERO)
            }
            Outcome::NotYet(why) if !step.on_ready() => {
                self.status.message = why.clone().into();
                Next::Look(ADDRESS_POLL)
            }
            Outcome::NotYet(why) | Outcome::Failed(why) => {
                self.status.failures += 1;
                let wait = backoff::after(self.status.failures);
                self.status.retry_at = Some(self.now + wait).into();
                // Nothing failed: there is no room yet. Its record says where, and its time goes on.
                if step == Step::Resume {
                    self.stands_still(why);
                    return sooner(Next::Look(wait), self.time_left());
                }
                self.runtime_error(step, why);
                // Nothing is wrong with a machine whose records are not remembered, and its time goes on.
                if step == Step::Remember {
                    return sooner(Next::Look(wait), self.time_left());
                }
                self.status.message = why.clone().into();
                if step.going_up() && self.still_rising() && self.status.failures >= MOST_FAILURES {
                    self.give_up(step, why);
                    return Next::Look(SignedDuration::ZERO);
                }
                Next::Look(wait)
            }
            Outcome::Impossible(why) => {
                self.runtime_error(step, why);
                if self.still_rising() {
                    self.give_up(step, why);
                    return Next::Look(SignedDuration::ZERO);
                }
                self.status.failures += 1;
                let wait = backoff::after(self.status.failures);
                self.status.retry_at = Some(self.now + wait).into();
                Next::Look(wait)
            }
        }
    }

    /// A machine in use is not ended because a step failed; one on its way to its user is.
    fn still_rising(&self) -> bool {
        match self.status.phase {
            Phase::Pending | Phase::Booting => true,
            Phase::Ready => self.claim.is_some(),
            Phase::Bound | Phase::Failed | Phase::Terminating => false,
        }
    }

    fn give_up(&mut self, step: Step, why: &str) {
        let message = format!("{}: {why}", step.name());
        self.set_failed("StepFailed", &message);
    }
}
