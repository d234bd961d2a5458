//! The door for whoever runs the daemon: the API ([`super::kube`]) on a Unix socket.
//!
//! Only the daemon's own user and root get in, and they may do everything: the socket has mode 0600, and each peer is
//! asked who it is. For them alone there is the doctor (`super::kube::doctor`), too.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::connections::{self, Doorway, Ready};
use super::kube::{Door, Kube, doctor};
use crate::api::Doctor;

/// The socket's name in the state directory.
pub const SOCKET: &str = "api.sock";
/// The longest path that a socket can have, without the byte that ends it: the kernel's `sun_path`.
pub const LONGEST_PATH: usize = 107;
/// Connections at once. Who comes then waits until one ends.
const MOST_CONNECTIONS: usize = 64;
/// Why there is no local API.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Its path does not fit into a socket's address.
    #[error(
        "the socket of the local API, '{}', has a path of {} bytes, and {LONGEST_PATH} is the kernel's limit: choose a shorter state directory with --state or 'state_dir'",
        path.display(), path.as_os_str().len()
    )]
    PathTooLong {
        /// Which.
        path: PathBuf,
    },
    /// Another daemon answers there.
    #[error("another daemon answers on '{}': stop it, or choose another state directory", path.display())]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// Something that is no socket is in its place.
    #[error("'{}' is no socket: move it away, the local API needs its place", path.display())]
    NoSocket {
        /// Where.
        path: PathBuf,
    },
    /// The system does not give it.
    #[error("the socket of the local API, '{}', cannot be made", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The socket, made.
pub struct Local {
    listener: UnixListener,
    path: PathBuf,
}

impl Local {
    /// Makes the socket, in place of one that a daemon which is gone left behind.
    pub fn bind(path: &Path) -> Result<Local, LocalError> {
        if path.as_os_str().len() > LONGEST_PATH {
            return Err(LocalError::PathTooLong { path: path.into() });
        }
        let failed = |source| LocalError::Io { path: path.into(), source };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(LocalError::NoSocket { path: path.into() }),
            Ok(_) if Probe::connect(path).is_ok() => return Err(LocalError::Taken { path: path.into() }),
            Ok(_) => fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Until then whoever connects is turned away by who they are.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Local { listener, path: path.into() })
    }

    /// Answers until cancelled; the socket is removed then.
    pub async fn serve(self, kube: Arc<Kube>, doctor: Arc<dyn Doctor>, cancel: CancellationToken) {
        let router = doctor::router(doctor).merge(kube.router(Door::Local));
        connections::answer(&Peers { listener: &self.listener, router }, MOST_CONNECTIONS, "local API", cancel).await;
    }
}

/// Those who connect.
struct Peers<'a> {
    listener: &'a UnixListener,
    router: axum::Router,
}

impl Doorway for Peers<'_> {
    type Stream = UnixStream;

    async fn come(&self) -> io::Result<Ready<UnixStream>> {
        let (stream, _) = self.listener.accept().await?;
        let admitted = admitted(&stream).then(|| (stream, self.router.clone()));
        Ok(Box::pin(std::future::ready(admitted)))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, socket = %self.path.display(), "local API: the socket stays");
        }
    }
}

/// Whether the peer is this daemon's user, or root.
fn admitted(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw() => true,
        Ok(peer) => {
            tracing::warn!(user = peer.uid(), "local API: a user who may not was turned away");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "local API: a peer who cannot be known was turned away");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_a_dead_daemon_left_is_replaced_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        // The socket of a process that had no time to remove it.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let living = Local::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Local::bind(&path), Err(LocalError::Taken { .. })));
        drop(living);
        assert!(!path.exists(), "removed at stop");
    }

    #[tokio::test]
    async fn what_is_no_socket_or_too_long_is_refused_with_what_would_help() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        fs::write(&path, "notes").unwrap();
        let said = Local::bind(&path).err().unwrap().to_string();
        assert!(said.contains("no socket") && path.exists(), "{said}");
        let long = dir.path().join("x".repeat(LONGEST_PATH)).join(SOCKET);
        let said = Local::bind(&long).err().unwrap().to_string();
        assert!(said.contains("--state") && said.contains("107"), "{said}");
    }
}
