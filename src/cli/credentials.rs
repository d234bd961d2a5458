//! What this user was granted, and which servers they know: files only they can read.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::private_file;

/// A container as it was granted to this user. What is secret in it is wiped when it is dropped.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Saved {
    /// `HOST:PORT` of the server.
    pub(super) server: String,
    /// The container.
    pub(super) container_uuid: String,
    /// Needed to destroy it.
    pub(super) client_token: String,
    /// SHA-256 of its image.
    pub container_iso_sha256: String,
    /// Its user.
    pub(super) container_username: String,
    /// Its user's password.
    pub(super) container_password: String,
    /// The server's port that leads to its SSH server.
    pub(super) container_listen_port: u16,
    /// The file with the access token that it was asked for with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) access_token_file: Option<PathBuf>,
    /// What its user calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// When it ends, by this host's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<Timestamp>,
}

impl Drop for Saved {
    fn drop(&mut self) {
        self.client_token.zeroize();
        self.container_password.zeroize();
    }
}

impl Saved {
    /// The host to connect SSH to: the server's.
    pub(super) fn host(&self) -> &str {
        self.server.rsplit_once(':').map_or(self.server.as_str(), |(host, _)| host.trim_matches(['[', ']']))
    }
}

/// Why saved credentials cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    /// A file.
    #[error("'{path}'")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of another kind.
    #[error("'{path}' holds no saved container")]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// No such container.
    #[error("no saved machine {}: 'anweddol list' shows those of this user", if wanted.is_empty() { "at all".into() } else { format!("is called '{wanted}' or begins with it") })]
    NotFound {
        /// What was asked for.
        wanted: String,
    },
    /// More than one such container.
    #[error("{count} saved containers match: name one of {names}")]
    Ambiguous {
        /// How many.
        count: usize,
        /// Which.
        names: String,
    },
    /// Two machines of the same name.
    #[error("a machine is called '{name}' already ({container}): choose another name, or give it back first")]
    NameTaken {
        /// Which.
        name: String,
        /// Whose.
        container: String,
    },
    /// There is no place for them.
    #[error(
        "there is no directory for the logins of machines: this user has no home directory. Set XDG_DATA_HOME, or HOME"
    )]
    NoHome,
    /// The server is not the one it was.
    #[error(
        "the key of {server} changed: it was {known} and is {seen} now. Either it was installed anew, or somebody \
         stands between you and it. If you know that it is right, remove its line from {path}"
    )]
    Changed {
        /// Which.
        server: String,
        /// The fingerprint it had.
        known: String,
        /// The fingerprint it has.
        seen: String,
        /// The file of known servers.
        path: PathBuf,
    },
}

/// This user's directory.
pub(super) struct Credentials {
    dir: PathBuf,
}

impl Credentials {
    /// `$XDG_DATA_HOME/anweddol`, or the same in the home directory; empty, and good for nothing, where there is neither.
    pub(super) fn of_user() -> Self {
        Credentials { dir: crate::user_dir("XDG_DATA_HOME", ".local/share").unwrap_or_default() }
    }

    fn somewhere(&self) -> Result<(), CredentialsError> {
        if self.dir.as_os_str().is_empty() { Err(CredentialsError::NoHome) } else { Ok(()) }
    }

    fn containers(&self) -> PathBuf {
        self.dir.join("containers")
    }

    /// Where a container's file is.
    pub(super) fn path(&self, uuid: &str) -> PathBuf {
        self.containers().join(format!("{uuid}.json"))
    }

    /// Where SSH remembers a container's host key.
    pub(super) fn known_hosts(&self, uuid: &str) -> PathBuf {
        self.containers().join(format!("{uuid}.known_hosts"))
    }

    /// Makes room to remember containers in.
    pub(super) fn prepare(&self) -> Result<(), CredentialsError> {
        self.somewhere()?;
        let path = self.containers();
        directory(&path).map_err(|source| CredentialsError::File { path, source })
    }

    /// Remembers a container.
    pub(super) fn save(&self, saved: &Saved) -> Result<PathBuf, CredentialsError> {
        self.somewhere()?;
        let path = self.path(&saved.container_uuid);
        let text = serde_json::to_vec_pretty(saved)
            .map_err(|source| CredentialsError::Content { path: path.clone(), source })?;
        let text = Zeroizing::new(text);
        replace(&path, &text).map_err(|source| CredentialsError::File { path: path.clone(), source })?;
        Ok(path)
    }

    /// Forgets a container.
    pub(super) fn forget(&self, uuid: &str) {
        for path in [self.path(uuid), self.known_hosts(uuid)] {
            // What is not there need not be removed; what cannot be, a later listing shows.
            fs::remove_file(path).ok();
        }
    }

    /// Everything remembered, in the order of UUIDs.
    pub(super) fn list(&self) -> Result<Vec<Saved>, CredentialsError> {
        self.somewhere()?;
        let dir = self.containers();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| CredentialsError::File { path: dir, source })?,
        };
        let mut paths: Vec<PathBuf> =
            entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
        paths.sort();
        paths.iter().map(|path| read(path)).collect()
    }

    /// Whether no other machine has this name.
    pub(super) fn check_name(&self, name: &str) -> Result<(), CredentialsError> {
        match self.list()?.into_iter().find(|saved| saved.name.as_deref() == Some(name)) {
            Some(saved) => {
                Err(CredentialsError::NameTaken { name: name.into(), container: saved.container_uuid.clone() })
            }
            None => Ok(()),
        }
    }

    /// The one of this name, or whose UUID begins so; without a word, the only one.
    pub(super) fn find(&self, wanted: Option<&str>) -> Result<Saved, CredentialsError> {
        let wanted = wanted.unwrap_or_default();
        let mut found = self.list()?;
        if let Some(at) = found.iter().position(|saved| saved.name.as_deref() == Some(wanted)) {
            return Ok(found.remove(at));
        }
        found.retain(|saved| saved.container_uuid.starts_with(wanted));
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(CredentialsError::NotFound { wanted: wanted.into() }),
            count => {
                let names: Vec<_> = found.iter().map(|saved| saved.container_uuid.as_str()).collect();
                Err(CredentialsError::Ambiguous { count, names: names.join(", ") })
            }
        }
    }

    /// Compares a server's fingerprint with the one it had, and remembers it on first use.
    pub(super) fn check_server(&self, server: &str, seen: &str) -> Result<(), CredentialsError> {
        self.somewhere()?;
        let path = self.dir.join("known_servers");
        let file = |source| CredentialsError::File { path: path.clone(), source };
        let known = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            known => known.map_err(file)?,
        };
        let line = known.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == server);
        match line {
            Some((_, fingerprint)) if fingerprint == seen => Ok(()),
            Some((_, fingerprint)) => Err(CredentialsError::Changed {
                server: server.into(),
                known: fingerprint.into(),
                seen: seen.into(),
                path: path.clone(),
            }),
            None => replace(&path, format!("{known}{server} {seen}\n").as_bytes()).map_err(file),
        }
    }
}

/// Writes a file that only this user can read, in a directory that only they can enter.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    path.parent().map_or(Ok(()), directory)?;
    private_file::replace(path, content)
}

fn directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// One saved container.
pub(super) fn read(path: &Path) -> Result<Saved, CredentialsError> {
    let text = fs::read(path).map_err(|source| CredentialsError::File { path: path.into(), source })?;
    let text = Zeroizing::new(text);
    serde_json::from_slice(&text).map_err(|source| CredentialsError::Content { path: path.into(), source })
}
