//! A container in the hands of handlers: a view of its record, and the wishes one may have for it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use crate::api::{Api, ApiError};
use crate::model::{Common, Container, Memory, Phase, Template};

/// Why a container is not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Its domain was made, or is being made.
    #[error(
        "container {uuid} cannot be changed any more: only a CREATED_CONTAINER handler may, and only of one that is made for its client, not of a warm one"
    )]
    Started {
        /// Which.
        uuid: Uuid,
    },
    /// There is no machine like that.
    #[error("{what}: write {right}")]
    Value {
        /// What was wished for.
        what: String,
        /// What would be right.
        right: &'static str,
    },
}

/// A container: what the original calls `ContainerInstance`.
pub struct ContainerInstance {
    api: Arc<Api>,
    record: Container,
    /// What it will be made from; `None` once that is settled.
    draft: Mutex<Option<Common<Template>>>,
}

impl ContainerInstance {
    /// Of a record; its template may be changed while it waits at a gate.
    pub(crate) fn new(api: Arc<Api>, record: Container) -> Arc<Self> {
        let draft = (!record.spec.scheduling_gates.is_empty()).then(|| record.spec.template.clone());
        Arc::new(ContainerInstance { api, record, draft: Mutex::new(draft) })
    }

    /// Its UUID, which is its domain's too.
    pub fn uuid(&self) -> Uuid {
        self.record.uuid()
    }

    /// Its memory.
    pub fn memory(&self) -> Memory {
        self.template().memory
    }

    /// Its virtual processors.
    pub fn vcpus(&self) -> u32 {
        self.template().vcpus
    }

    /// What it boots: its files.
    pub fn image_paths(&self) -> Vec<PathBuf> {
        self.record.spec.template.image.files().into_iter().cloned().collect()
    }

    /// SHA-256 of its image, in hex.
    pub fn image_sha256(&self) -> &str {
        &self.record.spec.machine.image_sha256
    }

    /// The address of its network card.
    pub fn mac(&self) -> String {
        self.record.spec.machine.mac.to_string()
    }

    /// The host's port that leads to its SSH server.
    pub fn listen_port(&self) -> u16 {
        self.record.spec.machine.port
    }

    /// Its address now; none where the network gives none (user networking), or before it booted.
    pub fn ip(&self) -> Option<Ipv4Addr> {
        self.now().map_or(self.record.status.address, |now| now.status.address)
    }

    /// Whether its domain runs, as last recorded.
    pub fn is_running(&self) -> bool {
        self.now().is_some_and(|now| match now.status.phase {
            Phase::Booting | Phase::Ready | Phase::Bound => true,
            Phase::Pending | Phase::Failed | Phase::Terminating => false,
        })
    }

    /// Gives it another amount of memory, before its domain is made.
    pub fn set_memory(&self, memory: Memory) -> Result<(), ChangeError> {
        if memory < Memory::mebibytes(64) {
            return Err(ChangeError::Value { what: format!("memory {memory}"), right: "at least 64Mi" });
        }
        self.change(|template| template.memory = memory)
    }

    /// Gives it another number of virtual processors, before its domain is made.
    pub fn set_vcpus(&self, vcpus: u32) -> Result<(), ChangeError> {
        if !(1..=256).contains(&vcpus) {
            return Err(ChangeError::Value { what: format!("{vcpus} vcpus"), right: "1 to 256" });
        }
        self.change(|template| template.vcpus = vcpus)
    }

    /// Wishes for its end, and for that of its client's claim. It goes when its domain is gone.
    pub async fn destroy(&self) -> Result<(), ApiError> {
        self.api.end(self.uuid()).await
    }

    /// Settles what it is made from.
    pub(crate) fn settle(&self) -> Template {
        self.draft().take().unwrap_or_else(|| self.record.spec.template.clone()).into_inner()
    }

    fn change(&self, change: impl FnOnce(&mut Template)) -> Result<(), ChangeError> {
        let uuid = self.uuid();
        self.draft().as_deref_mut().map(change).ok_or(ChangeError::Started { uuid })
    }

    fn template(&self) -> Common<Template> {
        let draft = self.draft().clone();
        draft.or_else(|| Some(self.now()?.spec.template)).unwrap_or_else(|| self.record.spec.template.clone())
    }

    fn draft(&self) -> std::sync::MutexGuard<'_, Option<Common<Template>>> {
        self.draft.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its record now; one that cannot be read is as good as gone here.
    fn now(&self) -> Option<Container> {
        self.api.container(self.uuid()).ok().flatten()
    }
}
