//! RSA: a peer's public key, our own private key, fingerprints.
//!
//! Public operations and, on every platform it builds for, the private one are aws-lc's: constant time, and five
//! times as fast as the portable path. That path is the `rsa` crate, always blinded; the same crate reads and
//! writes our own keys. [`Backend`] is where the choice is made.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeySize as AwsKeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    PrivateDecryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::{
    RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, RsaKeyPair, RsaParameters, RsaPssSaltLength, UnparsedPublicKey,
};
use data_encoding::HEXLOWER;
use rsa::pkcs8::{
    DecodePrivateKey, Document, EncodePrivateKey, EncodePublicKey, LineEnding, SecretDocument, SubjectPublicKeyInfoRef,
    der::Decode,
};
use rsa::traits::PublicKeyParts;
use rsa::{Oaep, Pss, RsaPrivateKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Limits;

/// Why a key is not acceptable, or did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not a PEM document of the right kind.
    #[error("not a PEM document of kind \"{expected}\"")]
    NotPem {
        /// The label it should have.
        expected: &'static str,
    },
    /// Not an RSA key.
    #[error("not an RSA key, or one that is damaged")]
    NotRsa,
    /// Its modulus is too short or too long.
    #[error("a modulus of {bits} bits; {min} to {max} are allowed")]
    Modulus {
        /// Its length.
        bits: usize,
        /// The least allowed.
        min: usize,
        /// The most allowed.
        max: usize,
    },
    /// Its public exponent is even, 1, or too long.
    #[error("a public exponent that is even, less than 3, or longer than {max} bits")]
    Exponent {
        /// The most bits allowed.
        max: usize,
    },
    /// A key could not be made.
    #[error("no key could be generated")]
    Generate,
    /// What was to be wrapped is too long.
    #[error("nothing of this length can be encrypted with this key")]
    Wrap,
    /// What was to be unwrapped was not wrapped for this key. Why is not told apart.
    #[error("not encrypted for this key")]
    Unwrap,
    /// Nothing could be signed.
    #[error("nothing could be signed with this key")]
    Sign,
    /// It was signed with another key or in another way, or it was changed. Which is not told apart.
    #[error("not this key's signature (RSA-PSS, SHA-256) of this message")]
    Signature,
    /// Keys of this size are not made.
    #[error("keys of {bits} bits are not made; 2048, 3072 and 4096 are")]
    Size {
        /// What was asked for.
        bits: usize,
    },
}

/// SHA-256 of a public key's PEM: how people compare keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a public key in PEM.
    pub fn of(pem: &[u8]) -> Self {
        Fingerprint(Sha256::digest(pem).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HEXLOWER.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// What was given is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is no fingerprint: 64 hexadecimal digits, as `anweddol fingerprint` prints them")]
pub struct FingerprintError {
    /// What was given.
    pub given: String,
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let no_fingerprint = || FingerprintError { given: text.into() };
        let digits: Option<Vec<u8>> = text.trim().chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or_else(no_fingerprint)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Fingerprint(bytes))
    }
}

/// A peer's public key.
#[derive(Debug)]
pub struct PublicKey {
    key: OaepPublicEncryptingKey,
    der: Document,
    fingerprint: Fingerprint,
}

impl PublicKey {
    /// Reads PEM (SubjectPublicKeyInfo) and checks it against the limits, before anything is computed with it.
    pub fn from_pem(pem: &[u8], limits: &Limits) -> Result<Self, KeyError> {
        const LABEL: &str = "PUBLIC KEY";
        let text = std::str::from_utf8(pem).map_err(|_| KeyError::NotPem { expected: LABEL })?;
        let der = match Document::from_pem(text) {
            Ok((LABEL, der)) => der,
            Ok(_) | Err(_) => return Err(KeyError::NotPem { expected: LABEL }),
        };
        let info = SubjectPublicKeyInfoRef::from_der(der.as_bytes()).map_err(|_| KeyError::NotRsa)?;
        let parts = info.subject_public_key.as_bytes().ok_or(KeyError::NotRsa)?;
        let parts = rsa::pkcs1::RsaPublicKey::from_der(parts).map_err(|_| KeyError::NotRsa)?;
        let bits = bit_length(parts.modulus.as_bytes());
        if !(limits.modulus_min..=limits.modulus_max).contains(&bits) {
            return Err(KeyError::Modulus { bits, min: limits.modulus_min, max: limits.modulus_max });
        }
        let exponent = parts.public_exponent.as_bytes();
        let odd = exponent.last().is_some_and(|byte| byte & 1 == 1);
        if !odd || !(2..=limits.exponent_max).contains(&bit_length(exponent)) {
            return Err(KeyError::Exponent { max: limits.exponent_max });
        }
        let key = PublicEncryptingKey::from_der(der.as_bytes())
            .map_err(|_| KeyError::NotRsa)
            .and_then(|key| OaepPublicEncryptingKey::new(key).map_err(|_| KeyError::NotRsa))?;
        Ok(PublicKey { key, der, fingerprint: Fingerprint::of(pem) })
    }

    /// Encrypts with OAEP, SHA-256 and MGF1-SHA-256.
    pub fn wrap(&self, secret: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut buffer = vec![0; self.key.ciphertext_size()];
        let wrapped = self.key.encrypt(&OAEP_SHA256_MGF1SHA256, secret, &mut buffer, None);
        let length = wrapped.map_err(|_| KeyError::Wrap)?.len();
        buffer.truncate(length);
        Ok(buffer)
    }

    /// Checks a signature: RSA-PSS with SHA-256 and MGF1-SHA-256. The salt may have the digest's length, as ours has,
    /// or the greatest that fits, as others' often has.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        const LONGEST_SALT: RsaParameters = RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
        let good = |how| UnparsedPublicKey::new(how, self.der.as_bytes()).verify(message, signature).is_ok();
        if good(&RSA_PSS_2048_8192_SHA256) || good(&LONGEST_SALT) { Ok(()) } else { Err(KeyError::Signature) }
    }

    /// Its fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

fn bit_length(number: &[u8]) -> usize {
    match number.iter().position(|&byte| byte != 0) {
        Some(first) => (number.len() - first) * 8 - number[first].leading_zeros() as usize,
        None => 0,
    }
}

/// Sizes of the keys that we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeySize {
    /// 2048 bits: good for a client's key, which lives for one connection.
    Bits2048,
    /// 3072 bits.
    Bits3072,
    /// 4096 bits: a server's key, which lives long.
    Bits4096,
}

impl TryFrom<usize> for KeySize {
    type Error = KeyError;

    fn try_from(bits: usize) -> Result<Self, KeyError> {
        match bits {
            2048 => Ok(KeySize::Bits2048),
            3072 => Ok(KeySize::Bits3072),
            4096 => Ok(KeySize::Bits4096),
            bits => Err(KeyError::Size { bits }),
        }
    }
}

/// Which library does the private operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// aws-lc: constant time.
    #[default]
    ConstantTime,
    /// The `rsa` crate, blinded: needs nothing but Rust.
    Portable,
}

enum Private {
    ConstantTime { opener: OaepPrivateDecryptingKey, signer: Box<RsaKeyPair> },
    Portable(Box<RsaPrivateKey>),
}

/// Our own key pair. Readied once, used for every connection.
pub struct PrivateKey {
    private: Private,
    der: SecretDocument,
    public_pem: String,
    modulus_length: usize,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.fingerprint())
    }
}

impl PrivateKey {
    /// Makes a key and writes it as PEM (PKCS#8). Takes a fraction of a second.
    pub fn generate(size: KeySize) -> Result<Zeroizing<String>, KeyError> {
        let size = match size {
            KeySize::Bits2048 => AwsKeySize::Rsa2048,
            KeySize::Bits3072 => AwsKeySize::Rsa3072,
            KeySize::Bits4096 => AwsKeySize::Rsa4096,
        };
        // aws-lc makes a key in a third of the time that `rsa` takes.
        let key = PrivateDecryptingKey::generate(size).map_err(|_| KeyError::Generate)?;
        let der = key.as_der().map_err(|_| KeyError::Generate)?;
        let key = RsaPrivateKey::from_pkcs8_der(der.as_ref()).map_err(|_| KeyError::Generate)?;
        key.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Generate)
    }

    /// Reads and checks a key in PEM (PKCS#8).
    pub fn from_pem(pem: &str, backend: Backend) -> Result<Self, KeyError> {
        const LABEL: &str = "PRIVATE KEY";
        if !pem.trim_start().starts_with("-----BEGIN PRIVATE KEY-----") {
            return Err(KeyError::NotPem { expected: LABEL });
        }
        let key = RsaPrivateKey::from_pkcs8_pem(pem).map_err(|_| KeyError::NotRsa)?;
        let limits = Limits::default();
        let bits = key.n().bits();
        if !(limits.modulus_min..=limits.modulus_max).contains(&bits) {
            return Err(KeyError::Modulus { bits, min: limits.modulus_min, max: limits.modulus_max });
        }
        let public_pem = key.to_public_key().to_public_key_pem(LineEnding::LF).map_err(|_| KeyError::NotRsa)?;
        let modulus_length = key.size();
        let der = key.to_pkcs8_der().map_err(|_| KeyError::NotRsa)?;
        let private = match backend {
            Backend::ConstantTime => {
                let opener = PrivateDecryptingKey::from_pkcs8(der.as_bytes()).map_err(|_| KeyError::NotRsa)?;
                let opener = OaepPrivateDecryptingKey::new(opener).map_err(|_| KeyError::NotRsa)?;
                let signer = RsaKeyPair::from_pkcs8(der.as_bytes()).map_err(|_| KeyError::NotRsa)?;
                Private::ConstantTime { opener, signer: Box::new(signer) }
            }
            Backend::Portable => Private::Portable(Box::new(key)),
        };
        Ok(PrivateKey { private, der, public_pem, modulus_length })
    }

    /// Decrypts what [`PublicKey::wrap`] made. Every failure is the same.
    pub fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        if wrapped.len() != self.modulus_length {
            return Err(KeyError::Unwrap);
        }
        match &self.private {
            Private::ConstantTime { opener, .. } => {
                let mut buffer = Zeroizing::new(vec![0; opener.min_output_size()]);
                let secret = opener.decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut buffer, None);
                let length = secret.map_err(|_| KeyError::Unwrap)?.len();
                buffer.truncate(length);
                Ok(buffer)
            }
            Private::Portable(key) => key
                .decrypt_blinded(&mut rsa::rand_core::OsRng, Oaep::new::<Sha256>(), wrapped)
                .map(Zeroizing::new)
                .map_err(|_| KeyError::Unwrap),
        }
    }

    /// Signs with RSA-PSS: SHA-256, MGF1-SHA-256, a salt as long as the digest.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.private {
            Private::ConstantTime { signer, .. } => {
                let mut signature = vec![0; self.modulus_length];
                let signed = signer.sign(&RSA_PSS_SHA256, &SystemRandom::new(), message, &mut signature);
                signed.map(|()| signature).map_err(|_| KeyError::Sign)
            }
            Private::Portable(key) => {
                let (random, padding) = (&mut rsa::rand_core::OsRng, Pss::new_blinded::<Sha256>());
                key.sign_with_rng(random, padding, &Sha256::digest(message)).map_err(|_| KeyError::Sign)
            }
        }
    }

    /// The whole key in PEM (PKCS#8), as [`PrivateKey::from_pem`] reads it.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        self.der.to_pem("PRIVATE KEY", LineEnding::LF).map_err(|_| KeyError::NotRsa)
    }

    /// The public half, as it is sent and fingerprinted.
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// Bytes of the modulus, and so of everything wrapped for this key.
    pub fn modulus_length(&self) -> usize {
        self.modulus_length
    }

    /// Its fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.public_pem.as_bytes())
    }
}
