//! The server's key on disk: a PEM file (PKCS#8) that only its owner can read, made at the first start.
//!
//! Clients know a server by this key's fingerprint, so it has to outlive restarts; and nobody else may have it, so a
//! file that others can read is refused rather than used.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::wire::keys::Backend;
use crate::wire::{KeyError, KeySize, PrivateKey};

/// The largest file that can be a key. One of 8192 bits has 6,400 bytes.
const MAX_FILE: u64 = 64 << 10;

/// Why there is no server key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("cannot read the server key {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner can read it.
    #[error(
        "the server key {path} has mode {mode:04o}: others could read it or write to it. \
         Run `chmod 600 {path}`; if anybody may have read it, remove it, and a new key is made at the next start"
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is a directory, a device, or far too large.
    #[error("the server key {path} is not a plain file of at most 64 KiB")]
    NotAKeyFile {
        /// The file.
        path: PathBuf,
    },
    /// There is no usable key in it.
    #[error(
        "{path} holds no usable server key (PEM of kind \"PRIVATE KEY\": PKCS#8, RSA, 2048 to 8192 bits). \
         Remove it, and a new key is made at the next start"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A new one cannot be made.
    #[error("cannot make a server key")]
    Generate(#[source] KeyError),
    /// A new one cannot be written.
    #[error("cannot write the new server key {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads the server's key; where there is none, makes one of 4096 bits and writes it first.
pub fn load_or_generate(path: &Path) -> Result<PrivateKey, KeyFileError> {
    match load(path) {
        Err(KeyFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let pem = PrivateKey::generate(KeySize::Bits4096).map_err(KeyFileError::Generate)?;
            write(path, &pem).map_err(|source| KeyFileError::Write { path: path.into(), source })?;
            load(path)
        }
        other => other,
    }
}

/// Reads the server's key.
pub fn load(path: &Path) -> Result<PrivateKey, KeyFileError> {
    let unreadable = |source| KeyFileError::Read { path: path.into(), source };
    // Not blocking: a pipe put in its place must not stop the start.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(unreadable)?;
    // The file that was opened is the one that is looked at.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.size() > MAX_FILE {
        return Err(KeyFileError::NotAKeyFile { path: path.into() });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Mode { path: path.into(), mode });
    }
    let mut pem = Zeroizing::new(String::with_capacity(MAX_FILE as usize));
    file.take(MAX_FILE).read_to_string(&mut pem).map_err(unreadable)?;
    PrivateKey::from_pem(&pem, Backend::default()).map_err(|source| KeyFileError::Key { path: path.into(), source })
}

/// Writes it whole or not at all.
fn write(path: &Path, pem: &str) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = directory.join(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(pem.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        // What is left of it holds a key that nobody will use; the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}
