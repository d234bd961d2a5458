//! RSA keys to use on their own: what the documented `RSAWrapper` stands for.
//!
//! One key pair, the server's or anybody's, with everything that can be done with it. The work is
//! [`wire::keys`](crate::wire::keys)': the same keys, limits and ciphers that connections use.
//!
//! ```
//! use anweddol::server::rsa::{PublicKey, RsaKeys};
//! use anweddol::wire::{KeySize, Limits};
//!
//! let ours = RsaKeys::generate(KeySize::Bits2048)?;
//! let seen_by_a_peer = PublicKey::from_pem(ours.public_pem().as_bytes(), &Limits::default())?;
//! assert_eq!(seen_by_a_peer.fingerprint(), ours.fingerprint());
//!
//! let secret = seen_by_a_peer.wrap(b"for ours only")?;
//! assert_eq!(*ours.decrypt(&secret)?, *b"for ours only");
//! seen_by_a_peer.verify(b"said by ours", &ours.sign(b"said by ours")?)?;
//! # Ok::<(), anweddol::wire::KeyError>(())
//! ```

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::key::{self, KeyFileError};
use crate::wire::Limits;
use crate::wire::keys::Backend;
pub use crate::wire::keys::{Fingerprint, KeyError, KeySize, PrivateKey, PublicKey};

/// A key pair. Copies are the same keys, not more of them in memory.
#[derive(Clone, Debug)]
pub struct RsaKeys {
    private: Arc<PrivateKey>,
    public: Arc<PublicKey>,
}

impl RsaKeys {
    /// Makes a key pair. 4096 bits take a moment; a number of bits becomes a size with [`KeySize::try_from`].
    pub fn generate(size: KeySize) -> Result<Self, KeyError> {
        RsaKeys::from_pem(&PrivateKey::generate(size)?)
    }

    /// Reads a private key in PEM (PKCS#8, 2048 to 8192 bits).
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        PrivateKey::from_pem(pem, Backend::default())?.try_into()
    }

    /// Reads a private key from a file that only its owner can read.
    pub fn from_file(path: &Path) -> Result<Self, KeyFileError> {
        RsaKeys::of_file(path, key::load(path)?)
    }

    /// The same; where there is no such file, makes a key of 4096 bits and writes it first.
    pub fn from_file_or_generate(path: &Path) -> Result<Self, KeyFileError> {
        RsaKeys::of_file(path, key::load_or_generate(path)?)
    }

    fn of_file(path: &Path, private: PrivateKey) -> Result<Self, KeyFileError> {
        private.try_into().map_err(|source| KeyFileError::Key { path: path.into(), source })
    }

    /// The private key in PEM (PKCS#8). Whoever has it, is this server.
    pub fn private_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        self.private.to_pem()
    }

    /// The public key in PEM (SubjectPublicKeyInfo), as clients get it.
    pub fn public_pem(&self) -> &str {
        self.private.public_pem()
    }

    /// SHA-256 of the public PEM: how people compare keys.
    pub fn fingerprint(&self) -> Fingerprint {
        self.private.fingerprint()
    }

    /// The private half, as the wire server takes it.
    pub fn private_key(&self) -> &Arc<PrivateKey> {
        &self.private
    }

    /// The public half. A peer's is read with [`PublicKey::from_pem`].
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Encrypts for the holder of this key pair, with OAEP and SHA-256: 66 bytes less than the modulus at most.
    pub fn encrypt(&self, secret: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.public.wrap(secret)
    }

    /// Decrypts what was encrypted for this key pair. Every failure is the same.
    pub fn decrypt(&self, encrypted: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.private.unwrap(encrypted)
    }

    /// Signs with RSA-PSS and SHA-256.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.private.sign(message)
    }

    /// Checks that this key pair signed a message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        self.public.verify(message, signature)
    }
}

impl TryFrom<PrivateKey> for RsaKeys {
    type Error = KeyError;

    fn try_from(private: PrivateKey) -> Result<Self, KeyError> {
        let public = PublicKey::from_pem(private.public_pem().as_bytes(), &Limits::default())?;
        Ok(RsaKeys { private: Arc::new(private), public: Arc::new(public) })
    }
}
