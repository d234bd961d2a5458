//! Taking one step. No decisions here: what an error means for the container, `plan::container::note` says.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::SignedDuration;

use crate::guest::{ForwardError, Login, Patience, ShellError};
use crate::hypervisor::{DomainSpec, HypervisorError};
use crate::model::{Container, ContainerClaim, Keepsake};
use crate::plan::container::{Outcome, Step};
use crate::store::records::{self, RecordError};

use super::Operator;
use super::observe::forward;

/// While a guest boots, its domain is looked for as often as its waiter asks so many times whether it is wanted:
/// records are read at no cost, the hypervisor is not.
const LOOK_EVERY: u32 = 5;
/// How long installing a key may take: one call to a guest that runs.
const AUTHORIZE: Duration = Duration::from_secs(10);

impl Operator {
    pub(super) fn apply(&self, c: &Container, step: Step) -> Outcome {
        match step {
            Step::CreateDomain => self.hypervisor.create(&self.domain(c)).map_or_else(hypervisor_outcome, done),
            Step::DestroyDomain => {
                self.shell.forget(c.uuid());
                self.hypervisor.destroy(&self.mark(c)).map_or_else(hypervisor_outcome, done)
            }
            Step::Personalise => self.personalise(c),
            Step::Publish => self.forwarder.publish(&forward(c)).map_or_else(forward_outcome, done),
            Step::Authorize => self.authorize(c),
            Step::RemoveDisk => self.hypervisor.remove_disk(c.uuid()).map_or_else(hypervisor_outcome, done),
            Step::Resume => self.hypervisor.resume(&self.mark(c)).map_or_else(hypervisor_outcome, done),
            Step::Remember => self.remember(c),
            Step::Withdraw => {
                // First: what it closes is among the connections that are cut.
                self.shell.forget(c.uuid());
                self.forwarder.withdraw(&forward(c)).map_or_else(forward_outcome, done)
            }
        }
    }

    fn domain(&self, c: &Container) -> DomainSpec {
        let template = &c.spec.template;
        DomainSpec {
            mark: self.mark(c),
            mac: c.spec.machine.mac.to_string(),
            image: template.image.clone(),
            memory: template.memory,
            vcpus: template.vcpus,
            domain_type: template.domain_type,
            network: template.network,
        }
    }

    fn personalise(&self, c: &Container) -> Outcome {
        let login = match self.login(c) {
            Ok(login) => login,
            Err(outcome) => return outcome,
        };
        let at = match self.forwarder.admin(&forward(c)) {
            Ok(at) => at,
            Err(error) => return forward_outcome(error),
        };
        let asked = AtomicU32::new(0);
        let wanted = || {
            let look = asked.fetch_add(1, Ordering::Relaxed) % LOOK_EVERY == LOOK_EVERY - 1;
            self.still_wanted(c) && !(look && self.is_gone(c))
        };
        let patience = Patience::new(self.boot_time_left(c), &wanted);
        shell_outcome(self.shell.personalise(at, &login, patience, self.observer.as_deref()))
    }

    /// Lets the public key of its claim log in.
    fn authorize(&self, c: &Container) -> Outcome {
        let login = match self.login(c) {
            Ok(login) => login,
            Err(outcome) => return outcome,
        };
        let key = match self.key(c) {
            Ok(Some(key)) => key,
            Ok(None) => return Outcome::Done,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let at = match self.forwarder.admin(&forward(c)) {
            Ok(at) => at,
            Err(error) => return forward_outcome(error),
        };
        let wanted = || self.still_wanted(c);
        shell_outcome(self.shell.authorize(at, &login, &key, Patience::new(AUTHORIZE, &wanted)))
    }

    /// Has its domain bear what its records say.
    fn remember(&self, c: &Container) -> Outcome {
        let (namespace, name) = (&c.metadata.namespace, &c.metadata.name);
        let records = || -> Result<_, RecordError> {
            let claim = match &*c.spec.claim {
                Some(claim) => records::get::<ContainerClaim>(&*self.store, namespace, claim)?,
                None => None,
            };
            Ok((claim.map(|read| read.object), records::credentials(&*self.store, namespace, name)?))
        };
        let (claim, credentials) = match records() {
            Ok((claim, Some(credentials))) => (claim, credentials),
            Ok((_, None)) => return Outcome::Failed("its credentials are not recorded".into()),
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let text = Keepsake::of(c, claim.as_ref(), credentials).text();
        let digest = Keepsake::digest(c, claim.as_ref());
        self.hypervisor.remember(&self.mark(c), &digest, &text).map_or_else(hypervisor_outcome, done)
    }

    fn key(&self, c: &Container) -> Result<Option<String>, RecordError> {
        let Some(claim) = &*c.spec.claim else { return Ok(None) };
        let claim = records::get::<ContainerClaim>(&*self.store, &c.metadata.namespace, claim)?;
        Ok(claim.and_then(|claim| claim.object.spec.ssh_public_key))
    }

    /// Until its boot deadline, where `decide` gives it up; at least a moment.
    fn boot_time_left(&self, c: &Container) -> Duration {
        let deadline = SignedDuration::from_secs(c.spec.template.boot_deadline_seconds.into());
        let waited = c.status.started_at.map_or(SignedDuration::ZERO, |started| self.now().duration_since(started));
        (deadline - waited).max(SignedDuration::from_secs(1)).unsigned_abs()
    }

    /// Whether its record still stands as it was and wishes for no end, and this daemon goes on. On doubt it is
    /// wanted.
    fn still_wanted(&self, c: &Container) -> bool {
        if self.quit.is_cancelled() {
            return false;
        }
        match records::get::<Container>(&*self.store, &c.metadata.namespace, &c.metadata.name) {
            Ok(Some(read)) => !read.object.metadata.deleting(),
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// Whether there surely is no domain to wait for. Its wake came while this pass waited, and is served after it.
    fn is_gone(&self, c: &Container) -> bool {
        matches!(self.hypervisor.find(c.uuid()), Ok(None))
    }

    fn login(&self, c: &Container) -> Result<Login, Outcome> {
        let (namespace, name) = (&c.metadata.namespace, &c.metadata.name);
        let credentials = records::credentials(&*self.store, namespace, name)
            .map_err(|error| Outcome::Failed(error.to_string()))?
            .ok_or_else(|| Outcome::Impossible("its credentials are not recorded".into()))?;
        let password = self
            .births
            .sealer()
            .open(c.uuid(), &credentials.sealed_password)
            .map_err(|error| Outcome::Impossible(error.to_string()))?;
        Ok(Login { uuid: c.uuid(), username: credentials.username, password })
    }
}

fn shell_outcome(ended: Result<(), ShellError>) -> Outcome {
    match ended {
        Ok(()) => Outcome::Done,
        Err(error @ (ShellError::NotAnswering { .. } | ShellError::Unwanted { .. })) => {
            Outcome::NotYet(error.to_string())
        }
        // A machine that broke off in the middle may have been set up or not; the next attempt finds out.
        Err(error @ (ShellError::Broken { .. } | ShellError::SetUp { .. })) => Outcome::Failed(error.to_string()),
        Err(
            error @ (ShellError::Refused { .. }
            | ShellError::NotLocked { .. }
            | ShellError::OtherKey { .. }
            | ShellError::Closed { .. }),
        ) => Outcome::Impossible(error.to_string()),
    }
}

fn done(_: ()) -> Outcome {
    Outcome::Done
}

fn hypervisor_outcome(error: HypervisorError) -> Outcome {
    match error {
        // Not the container's fault: the next look says what is.
        HypervisorError::Unreachable { .. } => Outcome::NotYet(error.to_string()),
        HypervisorError::Failed { .. } => Outcome::Failed(error.to_string()),
        HypervisorError::NotOurs { .. } | HypervisorError::Invalid { .. } => Outcome::Impossible(error.to_string()),
    }
}

fn forward_outcome(error: ForwardError) -> Outcome {
    match error {
        ForwardError::NoAddress { .. } => Outcome::NotYet(error.to_string()),
        ForwardError::Taken { .. } | ForwardError::Failed { .. } => Outcome::Failed(error.to_string()),
    }
}
