//! What happens inside a machine and on the way to it: the endpoint shell, the forwards, and the reference image.
//!
//! # The guest contract
//!
//! An image boots, takes an address by DHCP, and runs an SSH server on port 22 with the account `endpoint`
//! (password `endpoint`), which may run `sudo /bin/anweddol_container_setup.sh USER PASSWORD PORT`. The script
//! creates USER with PASSWORD, sets the SSH server's port, locks `endpoint`, and prints nothing when all went well. The SSH
//! server keeps its host key from the first login on.
//!
//! A kernel that panics restarts (`panic=-1`, which machines from a kernel get), or has the driver `pvpanic`: either ends its
//! machine at once. One that stands still in a panic looks like one that works: while it waits for a client it is found by its
//! probes and replaced; in use, it stays until its user gives it back or its time is over.

pub mod fake;
pub mod forward;
pub mod image;
mod opened;
pub mod ssh;

pub use opened::{Credentials, EndpointShellInstance, Exit, InstanceError, OpenShell, Opened, Output, ShellObserver};

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use secrecy::SecretString;
use uuid::Uuid;

use crate::model::{Egress, Listing, Trace};

/// The port of every guest's SSH server, before and after set-up: the port that clients use is the host's.
pub const GUEST_SSH_PORT: u16 = 22;

/// Gives a machine to its future user.
pub trait Shell: Send + Sync + 'static {
    /// Opens the endpoint shell at `at`, runs the set-up script, and makes sure that `endpoint` is locked and the
    /// user can log in. A machine that is personalised already (a crash came between) is success too.
    ///
    /// Takes no longer than the patience; a guest that does not answer until then is [`ShellError::NotAnswering`].
    ///
    /// An observer is shown the endpoint shell before the script runs; one that closes it makes this
    /// [`ShellError::Closed`]. It is shown every one that is opened: another if the first broke.
    fn personalise(
        &self,
        at: SocketAddr,
        who: &Login,
        patience: Patience<'_>,
        observer: Option<&dyn ShellObserver>,
    ) -> Result<(), ShellError>;

    /// Lets a public key log in as the user of a personalised machine, besides the password. One that may already is
    /// success. It costs one call to the guest, over the connection that set-up left open where that still stands.
    fn authorize(&self, at: SocketAddr, who: &Login, key: &str, patience: Patience<'_>) -> Result<(), ShellError>;

    /// Whether an SSH server answers at `at`, which leads to this container: its first words are waited for, on one
    /// connection, and nobody logs in.
    fn probe(&self, at: SocketAddr, container: Uuid, patience: Patience<'_>) -> Result<(), ShellError>;

    /// Hints that a machine which is waited for will answer soon.
    fn soon(&self, container: Uuid);

    /// Closes what is kept open to a machine, and forgets what was known of it: it is its user's now, or about to end, or
    /// did. Without a default: who passes calls on would swallow it.
    fn forget(&self, container: Uuid);
}

/// How long somebody waits for a guest: a boot may take minutes, and may have become pointless meanwhile.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// No longer than this.
    pub at_most: Duration,
    /// And only while this says so. Asked now and then; cheap.
    pub wanted: &'a (dyn Fn() -> bool + Sync),
    /// Called when the guest answered what was asked of it first: the endpoint account was let in, or turned away.
    pub answered: &'a (dyn Fn() + Sync),
}

impl<'a> Patience<'a> {
    /// As long as this, while somebody waits; nobody wants to know when the guest answered.
    pub fn new(at_most: Duration, wanted: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Patience { at_most, wanted, answered: &|| () }
    }
}

impl From<Duration> for Patience<'static> {
    fn from(at_most: Duration) -> Self {
        Patience::new(at_most, &|| true)
    }
}

/// The login a machine is personalised with.
#[derive(Clone, Debug)]
pub struct Login {
    /// The container's UUID, for messages and for fakes.
    pub uuid: Uuid,
    /// `user_` and five digits.
    pub username: String,
    /// 120 letters and digits.
    pub password: SecretString,
}

/// Why a machine could not be personalised.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ShellError {
    /// Nothing that speaks SSH answers (yet).
    #[error("no SSH server answers at {at}: {reason}")]
    NotAnswering {
        /// Where.
        at: SocketAddr,
        /// What was seen.
        reason: String,
    },
    /// Nobody waits for it any more.
    #[error("the guest at {at} is not wanted any more")]
    Unwanted {
        /// Where.
        at: SocketAddr,
    },
    /// It answers, but takes neither the endpoint's login nor the user's.
    #[error("the guest at {at} refuses the account 'endpoint': the image does not keep the guest contract")]
    Refused {
        /// Where.
        at: SocketAddr,
    },
    /// A command failed. What it printed comes from the guest: bounded and stripped of control characters.
    #[error("{what} in the guest at {at} ended with {status}: {output}")]
    SetUp {
        /// Which: the set-up script, or the installation of a key.
        what: &'static str,
        /// Where.
        at: SocketAddr,
        /// `status 7`, `signal TERM`, or `no status`.
        status: String,
        /// What it printed, at most 1 KiB.
        output: String,
    },
    /// After set-up, `endpoint` can still log in.
    #[error("the guest at {at} did not lock the account 'endpoint': the image does not keep the guest contract")]
    NotLocked {
        /// Where.
        at: SocketAddr,
    },
    /// Its host key is not the one that this machine had at its first login.
    #[error("the guest at {at} shows another host key than before: it is not taken for the machine that was set up")]
    OtherKey {
        /// Where.
        at: SocketAddr,
    },
    /// Whoever was shown the endpoint shell closed it.
    #[error("the endpoint shell of the guest at {at} was closed by its handler")]
    Closed {
        /// Where.
        at: SocketAddr,
    },
    /// The connection broke.
    #[error("the connection to the guest at {at} broke: {reason}")]
    Broken {
        /// Where.
        at: SocketAddr,
        /// How.
        reason: String,
    },
}

/// A machine's way to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Its domain.
    pub uuid: Uuid,
    /// The host's port that leads to it.
    pub port: u16,
    /// Its address, where the network gives one.
    pub address: Option<Ipv4Addr>,
    /// Its card's address.
    pub mac: String,
    /// What it may open connections to, where that is the forwarder's to see to (on a network).
    pub egress: Egress,
}

impl Forward {
    /// A port of which nothing else is known: enough for its withdrawal.
    pub fn of_port(port: u16) -> Forward {
        Forward { uuid: Uuid::nil(), port, address: None, mac: String::new(), egress: Egress::None }
    }
}

/// Makes a port of the host lead to a machine's SSH server, and no further than the machine lives.
pub trait Forwarder: Send + Sync + 'static {
    /// Where this host reaches the machine's SSH server for set-up; nobody else need reach it there yet. On a network,
    /// from here on its address is its own, and it has its egress.
    fn admin(&self, forward: &Forward) -> Result<SocketAddr, ForwardError>;

    /// Where this host reaches the machine by its published port: by the way that clients take.
    fn public(&self, forward: &Forward) -> SocketAddr;

    /// Makes the port lead to the machine. If it does already, that is success.
    fn publish(&self, forward: &Forward) -> Result<(), ForwardError>;

    /// Makes the port lead nowhere, and takes away what else [`Forwarder::admin`] and [`Forwarder::publish`] made, found
    /// by the port alone. If nothing is there, that is success.
    fn withdraw(&self, forward: &Forward) -> Result<(), ForwardError>;

    /// Whether the port leads to this machine.
    fn is_published(&self, forward: &Forward) -> Result<bool, ForwardError>;

    /// How many connections through the port are open; ours, at [`Forwarder::admin`] before it was published, do not
    /// count. An error means *unknown*, never *none*.
    fn connections(&self, forward: &Forward) -> Result<u32, ForwardError>;

    /// Every port of ours that leads somewhere, or whose machine something else was made for.
    fn list(&self) -> Result<Vec<u16>, ForwardError>;

    /// What else there is on the ways to machines, kind by kind, besides the ports that [`Forwarder::list`] tells.
    /// Forwards that are all there is have none.
    fn traces(&self) -> Vec<Listing> {
        Vec::new()
    }

    /// Removes one of the traces that no machine has. If it is gone, or a machine's by now, that is success.
    fn remove_trace(&self, _trace: &Trace) -> Result<(), ForwardError> {
        Ok(())
    }

    /// Whether a port of the host is free to be published.
    fn is_free(&self, port: u16) -> bool;
}

/// Why a forward could not be made, seen or removed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ForwardError {
    /// Something else listens on the port.
    #[error("port {port} of the host is taken by something else")]
    Taken {
        /// Which.
        port: u16,
    },
    /// The machine has no address yet.
    #[error("the machine behind port {port} has no address")]
    NoAddress {
        /// Which.
        port: u16,
    },
    /// It did not work.
    #[error("forward on port {port}: {reason}")]
    Failed {
        /// Which.
        port: u16,
        /// Why.
        reason: String,
    },
}
