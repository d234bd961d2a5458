//! Who is at the other end, and what it may do there.
//!
//! Two rules, whoever the guest is:
//!
//! - **A machine keeps its host key.** The first login pins the key that it showed; a connection on which another one is
//!   shown later ends before anything secret is said on it. So nobody else is taken for the machine that was set up, by
//!   whatever way somebody else came to answer at its address:
//!   `whoever_shows_another_host_key_later_is_told_no_password`.
//! - **A guest opens nothing.** SSH lets a server open channels to its client: forwarded connections, agents, X11. None was
//!   asked for, so the first one ends the connection. Taken, or only answered, each would cost memory or time for as long
//!   as the connection stands: `a_guest_that_opens_channels_to_us_is_cut_off`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use russh::client::{self, ChannelOpenHandle, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::public::KeyData;
use russh::{Channel, Error};
use tokio::sync::Notify;
use uuid::Uuid;

/// A machine's host key, from its first login on.
#[derive(Clone, Debug, Default)]
pub(super) struct Pin(Arc<OnceLock<KeyData>>);

impl Pin {
    /// Pins what was shown on a connection that was logged in, unless something is. Whether it is what is pinned.
    pub(super) fn settle(&self, shown: &Pin) -> bool {
        shown.0.get().is_some_and(|shown| self.0.get_or_init(|| shown.clone()) == shown)
    }

    fn admits(&self, key: &KeyData) -> bool {
        self.0.get().is_none_or(|pinned| pinned == key)
    }
}

/// What is known of a machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) pin: Pin,
    /// It will answer soon.
    pub(super) soon: Arc<Notify>,
}

/// What is known of machines, for as long as this process has anything to say to them.
#[derive(Clone, Debug, Default)]
pub(super) struct Machines(Arc<Mutex<HashMap<Uuid, Known>>>);

impl Machines {
    pub(super) fn of(&self, machine: Uuid) -> Known {
        self.lock().entry(machine).or_default().clone()
    }

    pub(super) fn forget(&self, machine: Uuid) {
        self.lock().remove(&machine);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Our side of one connection.
pub(super) struct Peer {
    pub(super) pin: Pin,
    /// What is shown on this connection.
    pub(super) shown: Pin,
}

impl client::Handler for Peer {
    type Error = Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Error> {
        let key = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.key_data(),
            PublicKeyOrCertificate::Certificate(certificate) => certificate.public_key(),
        };
        // A second exchange of keys on one connection is with the same machine, too.
        Ok(self.pin.admits(key) && self.shown.settle(&Pin(Arc::new(key.clone().into()))))
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        unasked()
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        unasked()
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        unasked()
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        unasked()
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        unasked()
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        unasked()
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        unasked()
    }

    /// Of a kind that nobody knows: it is taken, so that the next call can end the connection.
    async fn should_accept_unknown_server_channel(&mut self, _: russh::ChannelId, _: &str) -> bool {
        true
    }

    async fn server_channel_open_unknown(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        unasked()
    }
}

/// Ends the connection.
fn unasked() -> Result<(), Error> {
    Err(Error::Inconsistent)
}
