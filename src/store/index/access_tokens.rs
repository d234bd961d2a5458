//! Access tokens, found by the SHA-256 of their text: whoever asks shows one with each request, and there can be a thousand.

use std::sync::Arc;

use imbl::OrdMap;

use crate::model::AccessToken;
use crate::store::Kv;
use crate::store::records::{self, RecordError};

/// Access tokens at one revision.
#[derive(Clone, Default)]
pub struct AccessTokens {
    /// By their keys in the store.
    all: OrdMap<Arc<str>, Arc<AccessToken>>,
    /// By their SHA-256 and their key: nothing forbids two records of one token.
    by_sha256: OrdMap<(Arc<str>, Arc<str>), Arc<AccessToken>>,
    /// Records that are no access tokens. Whether one of them is who asks nobody knows, so nobody is known.
    unreadable: OrdMap<Arc<str>, Kv>,
}

impl AccessTokens {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<AccessToken>> {
        self.all.values()
    }

    /// The one of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<AccessToken>> {
        self.all.get(records::access_token_key(name).as_str())
    }

    /// The one whose text has this SHA-256, in hex.
    pub fn of_sha256(&self, sha256: &str) -> Option<&Arc<AccessToken>> {
        let from: (Arc<str>, Arc<str>) = (sha256.into(), "".into());
        let (key, token) = self.by_sha256.range(from..).next()?;
        (*key.0 == *sha256).then_some(token)
    }

    pub(super) fn readable(&self) -> Result<&Self, RecordError> {
        match self.unreadable.values().next() {
            None => Ok(self),
            // It says itself what is wrong with it.
            Some(kv) => records::decode::<AccessToken>(kv).map(|_| self),
        }
    }

    pub(super) fn set(&mut self, key: &Arc<str>, kv: Option<&Kv>) {
        self.unreadable.remove(key);
        if let Some(before) = self.all.remove(key) {
            self.by_sha256.remove(&(before.sha256.as_str().into(), Arc::clone(key)));
        }
        let Some(kv) = kv else { return };
        match records::decode::<AccessToken>(kv) {
            Ok(read) => {
                let token = Arc::new(read.object);
                self.by_sha256.insert((token.sha256.as_str().into(), Arc::clone(key)), Arc::clone(&token));
                self.all.insert(Arc::clone(key), token);
            }
            Err(_) => drop(self.unreadable.insert(Arc::clone(key), kv.clone())),
        }
    }
}
