//! The world as a daemon under test has it: every call goes to the suite's process, past a point before and one after.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use anweddol::guest::{Forward, ForwardError, Forwarder, Login, Patience, Shell, ShellError, ShellObserver};
use anweddol::hypervisor::{DomainSpec, Hypervisor, HypervisorError};
use anweddol::model::{DomainSeen, Mark, Wake};
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::link::{Answer, Ask, DEADLINE, Domain, Hint, PATIENCE, Refusal, receive, send};
use crate::points::Trap;

/// Wakes that a receiver may lag behind.
const WAKES: usize = 1024;

/// A world that somebody else keeps.
pub(crate) struct Remote {
    socket: PathBuf,
    trap: Arc<Trap>,
}

impl Remote {
    pub(crate) fn new(socket: PathBuf, trap: Arc<Trap>) -> Remote {
        Remote { socket, trap }
    }

    fn call<T: DeserializeOwned>(&self, name: &str, ask: &Ask) -> Result<T, Refusal> {
        let place = format!("call {name}");
        self.trap.before(&place);
        let answered = self.exchange(ask);
        self.trap.after(&place);
        let broken = |error: &dyn std::fmt::Display| Refusal::Failed(format!("the world does not answer: {error}"));
        let value = answered.map_err(|error| broken(&error))??;
        serde_json::from_value(value).map_err(|error| broken(&error))
    }

    fn exchange(&self, ask: &Ask) -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        send(&mut stream, ask)?;
        receive(&mut stream)
    }
}

impl Hypervisor for Remote {
    fn describe(&self) -> String {
        "a simulation in another process".into()
    }

    fn reachable(&self) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn list(&self) -> Result<Vec<DomainSeen>, HypervisorError> {
        let seen: Vec<Domain> =
            self.call("list", &Ask::List).map_err(|refusal| refusal.of_hypervisor("listing", Uuid::nil()))?;
        Ok(seen.into_iter().map(DomainSeen::from).collect())
    }

    fn find(&self, uuid: Uuid) -> Result<Option<DomainSeen>, HypervisorError> {
        let seen: Option<Domain> =
            self.call("find", &Ask::Find(uuid)).map_err(|refusal| refusal.of_hypervisor("look-up", uuid))?;
        Ok(seen.map(DomainSeen::from))
    }

    fn create(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        let created = self.call("create", &Ask::Create(spec.into()));
        created.map_err(|refusal| refusal.of_hypervisor("start", spec.mark.uid))
    }

    fn destroy(&self, mark: &Mark) -> Result<(), HypervisorError> {
        let destroyed = self.call("destroy", &Ask::Destroy(mark.clone()));
        destroyed.map_err(|refusal| refusal.of_hypervisor("end", mark.uid))
    }

    fn resume(&self, mark: &Mark) -> Result<(), HypervisorError> {
        let resumed = self.call("resume", &Ask::Resume(mark.clone()));
        resumed.map_err(|refusal| refusal.of_hypervisor("resuming", mark.uid))
    }

    fn remember(&self, mark: &Mark, digest: &str, text: &str) -> Result<(), HypervisorError> {
        let ask = Ask::Remember { mark: mark.clone(), digest: digest.into(), text: text.into() };
        self.call("remember", &ask).map_err(|refusal| refusal.of_hypervisor("keepsake", mark.uid))
    }

    fn recall(&self, uuid: Uuid) -> Result<Option<String>, HypervisorError> {
        self.call("recall", &Ask::Recall(uuid)).map_err(|refusal| refusal.of_hypervisor("keepsake", uuid))
    }

    fn address(&self, uuid: Uuid, mac: &str) -> Result<Option<Ipv4Addr>, HypervisorError> {
        let address = self.call("address", &Ask::Address { uuid, mac: mac.into() });
        address.map_err(|refusal| refusal.of_hypervisor("address", uuid))
    }

    fn has_disk(&self, uuid: Uuid) -> Result<bool, HypervisorError> {
        self.call("has-disk", &Ask::HasDisk(uuid)).map_err(|refusal| refusal.of_hypervisor("disk", uuid))
    }

    fn disks(&self) -> Result<Vec<Uuid>, HypervisorError> {
        self.call("disks", &Ask::Disks).map_err(|refusal| refusal.of_hypervisor("disk", Uuid::nil()))
    }

    fn remove_disk(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.call("remove-disk", &Ask::RemoveDisk(uuid)).map_err(|refusal| refusal.of_hypervisor("disk", uuid))
    }

    fn wakes(&self) -> broadcast::Receiver<Wake> {
        let (told, wakes) = broadcast::channel(WAKES);
        let mut stream = UnixStream::connect(&self.socket).expect("the world listens");
        send(&mut stream, &Ask::Wakes).expect("the world listens");
        receive::<Hint>(&mut stream).expect("the world says when it begins");
        std::thread::spawn(move || {
            while let Ok(hint) = receive::<Hint>(&mut stream) {
                if told.send(hint.into()).is_err() {
                    return;
                }
            }
        });
        wakes
    }
}

impl Shell for Remote {
    fn personalise(
        &self,
        at: SocketAddr,
        who: &Login,
        patience: Patience<'_>,
        _: Option<&dyn ShellObserver>,
    ) -> Result<(), ShellError> {
        // Who wants to wait for longer asks again: that is a pass like any other.
        let patience = patience.at_most.min(PATIENCE);
        let ask = Ask::Personalise { at, uuid: who.uuid, username: who.username.clone(), patience };
        self.call("personalise", &ask).map_err(|refusal| refusal.of_shell(at))
    }

    fn authorize(&self, at: SocketAddr, who: &Login, key: &str, _: Patience<'_>) -> Result<(), ShellError> {
        let ask = Ask::Authorize { at, uuid: who.uuid, username: who.username.clone(), key: key.into() };
        self.call("authorize", &ask).map_err(|refusal| refusal.of_shell(at))
    }

    /// No point to die at: a daemon here rarely lives long enough to ask.
    fn probe(&self, at: SocketAddr, uuid: Uuid, _: Patience<'_>) -> Result<(), ShellError> {
        let answer = self.exchange(&Ask::Probe { at, uuid });
        let refusal = match answer {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(refusal)) => refusal,
            Err(error) => Refusal::Failed(error.to_string()),
        };
        Err(refusal.of_shell(at))
    }

    /// Nothing is kept open to a simulated guest.
    fn soon(&self, _: Uuid) {}

    fn forget(&self, _: Uuid) {}
}

impl Forwarder for Remote {
    fn admin(&self, forward: &Forward) -> Result<SocketAddr, ForwardError> {
        self.call("admin", &Ask::Admin(forward.into())).map_err(|refusal| refusal.of_forward(forward.port))
    }

    fn public(&self, forward: &Forward) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, forward.port).into()
    }

    fn publish(&self, forward: &Forward) -> Result<(), ForwardError> {
        self.call("publish", &Ask::Publish(forward.into())).map_err(|refusal| refusal.of_forward(forward.port))
    }

    fn withdraw(&self, forward: &Forward) -> Result<(), ForwardError> {
        self.call("withdraw", &Ask::Withdraw(forward.into())).map_err(|refusal| refusal.of_forward(forward.port))
    }

    fn is_published(&self, forward: &Forward) -> Result<bool, ForwardError> {
        let published = self.call("is-published", &Ask::IsPublished(forward.into()));
        published.map_err(|refusal| refusal.of_forward(forward.port))
    }

    fn connections(&self, forward: &Forward) -> Result<u32, ForwardError> {
        let open = self.call("connections", &Ask::Connections(forward.into()));
        open.map_err(|refusal| refusal.of_forward(forward.port))
    }

    fn list(&self) -> Result<Vec<u16>, ForwardError> {
        self.call("ports", &Ask::Ports).map_err(|refusal| refusal.of_forward(0))
    }

    fn is_free(&self, port: u16) -> bool {
        self.call("is-free", &Ask::IsFree(port)).unwrap_or(false)
    }
}
