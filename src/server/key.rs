//! The server's key on disk: a PEM file (PKCS#8) that only its owner can read, made at the first start.
//!
//! Clients know a server by this key's fingerprint, so it has to outlive restarts; and nobody else may have it, so a
//! file that others can read is refused rather than used.

use std::io;
use std::path::{Path, PathBuf};

use crate::private_file::{self, PrivateFileError};
use crate::wire::keys::Backend;
use crate::wire::{KeyError, KeySize, PrivateKey};

/// The largest file that can be a key. One of 8192 bits has 6,400 bytes.
const MAX_FILE: usize = 64 << 10;

/// Why there is no server key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read, or is not only its owner's.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// There is no such file.
    #[error("there is no server key {}: 'anweddol serve' makes it on first start", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It holds a key as the Python server and older programs write it.
    #[error(
        "{path} holds a key of kind \"RSA PRIVATE KEY\" (PKCS#1): 'openssl pkcs8 -topk8 -nocrypt -in {path} -out new.pem' \
         makes one of kind \"PRIVATE KEY\" of it; put that in its place, with mode 0600", path = path.display()
    )]
    OldForm {
        /// The file.
        path: PathBuf,
    },
    /// There is no usable key in it.
    #[error(
        "{} holds no usable server key (PEM of kind \"PRIVATE KEY\": PKCS#8, RSA, 2048 to 8192 bits). \
         Remove it, and a new key is made at the next start",
        path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// A new one cannot be made.
    #[error("cannot make a server key")]
    Generate(#[source] KeyError),
    /// A new one cannot be written.
    #[error("cannot write the new server key {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reads the server's key; where there is none, makes one of 4096 bits and writes it first.
pub fn load_or_generate(path: &Path) -> Result<PrivateKey, KeyFileError> {
    match load(path) {
        Err(KeyFileError::Missing { .. }) => {
            let pem = PrivateKey::generate(KeySize::Bits4096).map_err(KeyFileError::Generate)?;
            match private_file::create(path, pem.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(KeyFileError::Write { path: path.into(), source: error });
                }
                // Somebody else made one meanwhile: that is the key then.
                Ok(()) | Err(_) => {}
            }
            load(path)
        }
        other => other,
    }
}

/// Reads the server's key.
pub fn load(path: &Path) -> Result<PrivateKey, KeyFileError> {
    let bytes = private_file::read(path, MAX_FILE)?.ok_or_else(|| KeyFileError::Missing { path: path.into() })?;
    // What is no text is no PEM either.
    let pem = std::str::from_utf8(&bytes).unwrap_or_default();
    let path = path.into();
    PrivateKey::from_pem(pem, Backend::default()).map_err(|source| {
        match pem.contains("-----BEGIN RSA PRIVATE KEY-----") {
            true => KeyFileError::OldForm { path },
            false => KeyFileError::Key { path, source },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_the_python_servers_form_is_told_how_to_be_converted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.pem");
        for (kind, says) in [("RSA PRIVATE KEY", "openssl pkcs8 -topk8 -nocrypt -in /"), ("PRIVATE KEY", "Remove it")] {
            private_file::replace(&path, format!("-----BEGIN {kind}-----\nAAAA\n").as_bytes()).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("Remove") == (says == "Remove it"), "{error}");
        }
    }
}
