//! The steps a pass can take, and how they end.

use jiff::SignedDuration;

/// One effect on the world. Each may be taken again without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Start the domain.
    CreateDomain,
    /// Make the user, lock the endpoint account.
    Personalise,
    /// Open the port.
    Publish,
    /// Let the claim's public key log in.
    Authorize,
    /// Have its domain bear what its records say now.
    Remember,
    /// Have its domain go on, which found no room for its disk.
    Resume,
    /// Close the port.
    Withdraw,
    /// End the domain.
    DestroyDomain,
    /// Remove its disk overlay.
    RemoveDisk,
}

impl Step {
    /// Its name in events and logs.
    pub fn name(self) -> &'static str {
        match self {
            Step::CreateDomain => "create domain",
            Step::Personalise => "personalise",
            Step::Publish => "publish",
            Step::Authorize => "authorize key",
            Step::Remember => "remember records",
            Step::Resume => "resume",
            Step::Withdraw => "withdraw",
            Step::DestroyDomain => "destroy domain",
            Step::RemoveDisk => "remove disk",
        }
    }

    /// Whether it brings a machine up, rather than down.
    pub(super) fn going_up(self) -> bool {
        match self {
            Step::CreateDomain | Step::Personalise | Step::Publish | Step::Authorize => true,
            Step::Remember | Step::Resume | Step::Withdraw | Step::DestroyDomain | Step::RemoveDisk => false,
        }
    }

    /// Whether it works on a machine that is Ready already, so that one that is not ready for it is no machine that
    /// still boots.
    pub(super) fn on_ready(self) -> bool {
        match self {
            Step::Authorize | Step::Remember | Step::Resume => true,
            Step::CreateDomain | Step::Personalise | Step::Publish => false,
            Step::Withdraw | Step::DestroyDomain | Step::RemoveDisk => false,
        }
    }
}

/// What comes after the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Take this step.
    Step(Step),
    /// Look again after this long.
    Look(SignedDuration),
    /// Nothing, until something changes.
    Rest,
    /// Nothing is left of it: remove its records, in the same commit as the events.
    Remove,
    /// Nothing is left of it, but whoever wrote it wants to read how it ended: remove its port and its credentials, and
    /// keep its record.
    Release,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The world is not ready for it: no failure, to be tried again soon.
    NotYet(String),
    /// It failed and may be tried again.
    Failed(String),
    /// It can never succeed.
    Impossible(String),
}
