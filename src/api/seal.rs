//! Secrets at rest: sealed with a key that is kept apart from the records, in its own file.
//!
//! AES-256-GCM with a random nonce for every secret. Whose it is, is authenticated with it, so that one copied into another
//! record opens nothing: of a password that is its container's UUID, of a whole record its key in the store.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::private_file::{self, PrivateFileError};
use crate::store::records::SEALED;

/// Before everything sealed, and before the key in its file: what is read, is read by the rules it was written by.
const VERSION: &str = SEALED;
const KEY_LEN: usize = 32;
/// A key file is one line of some 50 characters.
const KEY_FILE_MAX: usize = 256;

/// Seals and opens secrets with one key.
pub struct Sealer {
    key: RandomizedNonceKey,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// Why there is no key, or a secret does not open.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key's file cannot be used.
    #[error("the sealing key cannot be used")]
    File(#[source] PrivateFileError),
    /// The file holds something else.
    #[error("{} holds no sealing key ('{VERSION}' and {KEY_LEN} bytes in base64): restore it from a backup", path.display())]
    NotAKey {
        /// Which.
        path: PathBuf,
    },
    /// It was sealed by a later version of this program, or not at all.
    #[error("the secret of {whose} is not in a form that this program knows")]
    Form {
        /// A container's UUID, or a record's key.
        whose: String,
    },
    /// It was sealed with another key or for something else, or it was changed.
    #[error("the secret of {whose} does not open: sealed with another key or for another one, or changed")]
    Refused {
        /// A container's UUID, or a record's key.
        whose: String,
    },
}

impl Sealer {
    /// Reads the key from its file, which only this user may have access to, or makes both.
    pub fn from_file(path: &Path) -> Result<Sealer, SealError> {
        let text = private_file::read_or_create(path, KEY_FILE_MAX, new_key).map_err(SealError::File)?;
        let key = parse_key(&text).ok_or_else(|| SealError::NotAKey { path: path.into() })?;
        Ok(Sealer { key })
    }

    /// With a key of its own, for a test.
    #[cfg(test)]
    pub(crate) fn fresh() -> std::sync::Arc<Sealer> {
        std::sync::Arc::new(Sealer { key: parse_key(&new_key()).unwrap() })
    }

    /// Seals a container's password. The same text never looks the same twice.
    pub fn seal(&self, uuid: Uuid, secret: &SecretString) -> String {
        format!("{VERSION}{}", BASE64.encode(self.sealed(uuid.as_bytes(), secret.expose_secret().as_bytes())))
    }

    /// Opens what was sealed for this container.
    pub fn open(&self, uuid: Uuid, sealed: &str) -> Result<SecretString, SealError> {
        let form = || SealError::Form { whose: uuid.to_string() };
        let text = sealed.strip_prefix(VERSION).ok_or_else(form)?;
        let text = Zeroizing::new(BASE64.decode(text).map_err(|_| form())?);
        let opened = self.opened(uuid.as_bytes(), text, || uuid.to_string())?;
        std::str::from_utf8(&opened).map(SecretString::from).map_err(|_| form())
    }

    /// Seals a whole record: bytes, so that what is as large as a value may be still fits, but for 31 of them.
    pub fn seal_record(&self, key: &str, record: &[u8]) -> Vec<u8> {
        [VERSION.as_bytes(), &self.sealed(key.as_bytes(), record)].concat()
    }

    /// Opens the record of this key, if it is sealed; `None`: it is as it was written.
    pub fn open_record(&self, key: &str, value: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, SealError> {
        let Some(sealed) = value.strip_prefix(VERSION.as_bytes()) else { return Ok(None) };
        self.opened(key.as_bytes(), Zeroizing::new(sealed.to_vec()), || key.to_owned()).map(Some)
    }

    /// The nonce, the text and its tag.
    fn sealed(&self, whose: &[u8], secret: &[u8]) -> Vec<u8> {
        let mut text = Zeroizing::new(Vec::with_capacity(secret.len() + AES_256_GCM.tag_len()));
        text.extend_from_slice(secret);
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(whose), &mut *text)
            .expect("AES-GCM seals whatever fits into memory");
        [nonce.as_ref().as_slice(), &text].concat()
    }

    fn opened(
        &self,
        whose: &[u8],
        mut sealed: Zeroizing<Vec<u8>>,
        name: impl Fn() -> String,
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, text) =
            sealed.split_first_chunk_mut::<NONCE_LEN>().ok_or_else(|| SealError::Form { whose: name() })?;
        let opened = self.key.open_in_place(Nonce::from(&*nonce), Aad::from(whose), text);
        opened.map(|text| Zeroizing::new(text.to_vec())).map_err(|_| SealError::Refused { whose: name() })
    }
}

fn new_key() -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    aws_lc_rs::rand::fill(key.as_mut_slice()).expect("the system has randomness");
    let base64 = Zeroizing::new(BASE64.encode(*key));
    Zeroizing::new([VERSION, &base64, "\n"].concat().into_bytes())
}

fn parse_key(text: &[u8]) -> Option<RandomizedNonceKey> {
    let text = std::str::from_utf8(text).ok()?.trim_end().strip_prefix(VERSION)?;
    let key = Zeroizing::new(BASE64.decode(text).ok()?);
    // It refuses any other length.
    RandomizedNonceKey::new(&AES_256_GCM, &key).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secret() -> SecretString {
        SecretString::from("p4ssword".repeat(15))
    }

    fn sealer() -> (tempfile::TempDir, Sealer) {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::from_file(&dir.path().join("key")).unwrap();
        (dir, sealer)
    }

    #[test]
    fn what_was_sealed_opens_after_a_restart() {
        let (dir, sealer) = sealer();
        let uuid = Uuid::new_v4();
        let sealed = sealer.seal(uuid, &secret());
        assert!(!sealed.contains("p4ssword") && sealed != sealer.seal(uuid, &secret()));
        let again = Sealer::from_file(&dir.path().join("key")).unwrap();
        assert_eq!(again.open(uuid, &sealed).unwrap().expose_secret(), secret().expose_secret());
        let empty = sealer.seal(uuid, &SecretString::from(""));
        assert_eq!(sealer.open(uuid, &empty).unwrap().expose_secret(), "");
    }

    #[test]
    fn nothing_opens_with_another_key_or_for_another_container() {
        let ((_a, sealer), (_b, other)) = (sealer(), sealer());
        let uuid = Uuid::new_v4();
        let sealed = sealer.seal(uuid, &secret());
        assert!(matches!(other.open(uuid, &sealed), Err(SealError::Refused { .. })));
        assert!(matches!(sealer.open(Uuid::new_v4(), &sealed), Err(SealError::Refused { .. })));
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let (_dir, sealer) = sealer();
        let uuid = Uuid::new_v4();
        let sealed = BASE64.decode(sealer.seal(uuid, &secret()).strip_prefix(VERSION).unwrap()).unwrap();
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            let changed = format!("{VERSION}{}", BASE64.encode(changed));
            assert!(matches!(sealer.open(uuid, &changed), Err(SealError::Refused { .. })));
        }
        for short in 0..NONCE_LEN + 16 {
            let short = format!("{VERSION}{}", BASE64.encode(&sealed[..short]));
            assert!(sealer.open(uuid, &short).is_err());
        }
        for foreign in ["", "v1:", "v2:AAAA", "v1:!", "p4ssword"] {
            assert!(matches!(sealer.open(uuid, foreign), Err(SealError::Form { .. })));
        }
    }

    #[test]
    fn a_record_opens_under_its_own_key_alone() {
        let (_dir, sealer) = sealer();
        let record = br#"{"data":{"password":"cDRzc3dvcmQ="}}"#;
        let sealed = sealer.seal_record("a", record);
        assert!(!sealed.windows(8).any(|part| part == b"cDRzc3dv") && sealed.len() == record.len() + 31);
        assert_eq!(**sealer.open_record("a", &sealed).unwrap().unwrap(), *record);
        assert!(matches!(sealer.open_record("b", &sealed), Err(SealError::Refused { .. })));
        assert!(matches!(sealer.open_record("a", &sealed[..10]), Err(SealError::Form { .. })));
        assert_eq!(sealer.open_record("a", record).unwrap(), None, "what was never sealed is as it was written");
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let (dir, _) = sealer();
        let path = dir.path().join("key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Sealer::from_file(&path), Err(SealError::File(PrivateFileError::Mode { mode: 0o644, .. }))));
    }

    #[test]
    fn a_file_without_a_key_is_refused_and_kept() {
        let (dir, _) = sealer();
        let path = dir.path().join("key");
        for content in ["", "v1:", "v1:AAAA\n", "v2:AAAA\n", "\u{0}"] {
            fs::write(&path, content).unwrap();
            assert!(matches!(Sealer::from_file(&path), Err(SealError::NotAKey { .. })), "{content:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }
}
