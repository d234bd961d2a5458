//! Why the daemon does not serve.

use std::io;
use std::path::PathBuf;

use super::InstanceError;
use crate::api::{ImageError, SealError};
use crate::guest::forward::nft::SetUpError;
use crate::hypervisor::HypervisorError;
use crate::keeper::KeeperError;
use crate::operator::PassError;
use crate::private_file::PrivateFileError;
use crate::server::https::HttpsError;
use crate::server::key::KeyFileError;
use crate::server::local::LocalError;
use crate::server::tcp::BindError;
use crate::server::web::WebError;
use crate::store::records::RecordError;
use crate::store::{OpenError, StoreError};

/// Why the daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state directory cannot be made or written.
    #[error("state directory '{path}' cannot be used: choose another with --state or 'state_dir'")]
    StateDir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may write to the state directory.
    #[error(
        "state directory '{path}' has mode {mode:04o}, but only its owner may write to it: run 'chmod go-w {path}'"
    )]
    OpenStateDir {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There are no records to compare with.
    #[error("there are no records in '{path}': no daemon ever ran there; say where with --state or --config")]
    NoRecords {
        /// Where they would be.
        path: PathBuf,
    },
    /// The server key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The key of sealed secrets.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Others can reach the store, or it leads elsewhere.
    #[error(transparent)]
    Reachable(#[from] PrivateFileError),
    /// The store cannot be opened.
    #[error("machines are untouched and run on, but the daemon does not serve without its store")]
    Store(#[from] OpenError),
    /// The store could not write while the daemon served.
    #[error(
        "the store failed while it served ({reason}): machines run on, and another start finds everything that was told"
    )]
    StoreFailed {
        /// Why, as the disk said it.
        reason: String,
    },
    /// Records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Which installation this is.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// libvirt.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// How much memory there is for machines.
    #[error("it cannot be read how much memory this host has: set 'host.memory'")]
    Host(#[source] io::Error),
    /// The host lacks what no machine runs without.
    #[error("this host cannot run machines: {what}")]
    Unfit {
        /// Each thing, and what to do about it.
        what: String,
    },
    /// The forwards.
    #[error(transparent)]
    Forwards(#[from] SetUpError),
    /// What an earlier run left.
    #[error("recovery failed")]
    Recovery(#[from] PassError),
    /// The wire port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The health port.
    #[error("health_listen: cannot listen on {address}: choose another in 'server.health_listen', or 'null' for none")]
    Health {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The API over TLS.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The local API.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The original's plain web server.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The directory of manifests.
    #[error(transparent)]
    Manifests(#[from] KeeperError),
    /// A task of the daemon died.
    #[error("a task of the daemon died")]
    Task(#[from] tokio::task::JoinError),
}

impl From<StoreError> for ServeError {
    fn from(error: StoreError) -> Self {
        ServeError::Record(error.into())
    }
}
