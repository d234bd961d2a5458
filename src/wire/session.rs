//! The session's cipher, AES-CBC with PKCS#7, and how a message travels under it in each generation.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use subtle::{ConstantTimeEq, ConstantTimeGreater};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::frame::{self, REFUSAL};
use super::{Element, Limits, Malformed, Response, WireError};

/// Bytes of a cipher block, and of an IV.
pub const BLOCK: usize = 16;
/// Bytes of the key and IV that a server sends.
pub const FRESH: usize = 32 + BLOCK;

/// Which generation a peer is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Generation {
    /// Sizes in the clear, one IV for the connection.
    First,
    /// Encrypted sizes, and a new IV with each message.
    Second,
}

/// A session: key and current IV. Wiped when dropped.
#[derive(ZeroizeOnDrop)]
pub struct Session {
    key: Vec<u8>,
    iv: [u8; BLOCK],
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session(AES-{})", self.key.len() * 8)
    }
}

/// A message ready to be sent: its size, and after the peer's `1` the rest.
#[derive(Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Goes first.
    pub header: Vec<u8>,
    /// Goes when the peer has acknowledged.
    pub packet: Vec<u8>,
}

impl Session {
    /// A session from what the exchange carries: key (16, 24 or 32 bytes) ‖ IV.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        match bytes.split_last_chunk::<BLOCK>() {
            Some((key, iv)) if matches!(key.len(), 16 | 24 | 32) => Ok(Session { key: key.to_vec(), iv: *iv }),
            Some(_) | None => Err(WireError::SessionKey),
        }
    }

    /// A session from fresh random bytes.
    pub fn fresh(bytes: &[u8; FRESH]) -> Self {
        let (key, iv) = bytes.split_at(FRESH - BLOCK);
        let mut session = Session { key: key.to_vec(), iv: [0; BLOCK] };
        session.iv.copy_from_slice(iv);
        session
    }

    /// Key ‖ IV.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&self.key[..], &self.iv].concat())
    }

    /// Seals a message. `next_iv` has to be random; the first generation has no use for it.
    pub fn seal(&mut self, generation: Generation, text: &str, next_iv: [u8; BLOCK]) -> Result<Sealed, WireError> {
        let mut packet = self.encrypt(text.as_bytes())?;
        let too_long = |size| WireError::Size { element: Element::MessageSize, size, limit: 99_999_999 };
        let header = match generation {
            Generation::First => frame::size_header(packet.len()).ok_or(too_long(packet.len()))?.to_vec(),
            Generation::Second => {
                let size = packet.len() + BLOCK;
                frame::size_header(size).ok_or(too_long(size))?;
                packet.extend_from_slice(&next_iv);
                let header = self.encrypt(size.to_string().as_bytes())?;
                self.iv = next_iv;
                header
            }
        };
        Ok(Sealed { header, packet })
    }

    /// Opens the size of a second-generation message.
    pub fn open_size(&self, block: &[u8; BLOCK]) -> Result<usize, Malformed> {
        frame::number(&self.decrypt(block)?).ok_or(Malformed::Size)
    }

    /// Opens a message. The second generation's next IV is adopted even if the message is malformed, so
    /// that an answer to it can be read.
    pub fn open(&mut self, generation: Generation, packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        match generation {
            Generation::First => self.decrypt(packet),
            Generation::Second => {
                let (ciphertext, next_iv) = packet.split_last_chunk::<BLOCK>().ok_or(Malformed::Undecipherable)?;
                let text = self.decrypt(ciphertext);
                self.iv = *next_iv;
                text
            }
        }
    }

    fn cipher_key(&self) -> Option<UnboundCipherKey> {
        let algorithm = match self.key.len() {
            16 => &AES_128,
            24 => &AES_192,
            _ => &AES_256,
        };
        UnboundCipherKey::new(algorithm, &self.key).ok()
    }

    fn encrypt(&self, text: &[u8]) -> Result<Vec<u8>, WireError> {
        let padding = BLOCK - text.len() % BLOCK;
        let mut blocks = Vec::with_capacity(text.len() + padding + BLOCK);
        blocks.extend_from_slice(text);
        blocks.resize(text.len() + padding, padding as u8);
        let context = EncryptionContext::Iv128(FixedLength::from(self.iv));
        let sealed = self
            .cipher_key()
            .and_then(|key| EncryptingKey::cbc(key).ok())
            .and_then(|key| key.less_safe_encrypt(&mut blocks, context).ok());
        if sealed.is_none() {
            // Half of it may still be in the clear.
            blocks.zeroize();
            return Err(WireError::Cipher);
        }
        Ok(blocks)
    }

    fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        if ciphertext.is_empty() || !ciphertext.len().is_multiple_of(BLOCK) {
            return Err(Malformed::Undecipherable);
        }
        let mut blocks = Zeroizing::new(ciphertext.to_vec());
        let context = DecryptionContext::Iv128(FixedLength::from(self.iv));
        self.cipher_key()
            .and_then(|key| DecryptingKey::cbc(key).ok())
            .and_then(|key| key.decrypt(&mut blocks, context).ok().map(drop))
            .ok_or(Malformed::Undecipherable)?;
        let length = unpadded(&blocks).ok_or(Malformed::Undecipherable)?;
        blocks.truncate(length);
        Ok(blocks)
    }
}

/// Length without the padding, found in the same time wherever the padding is wrong.
fn unpadded(blocks: &[u8]) -> Option<usize> {
    let (rest, last_block) = blocks.split_last_chunk::<BLOCK>()?;
    let padding = last_block[BLOCK - 1];
    let mut good = !padding.ct_eq(&0) & !padding.ct_gt(&(BLOCK as u8));
    for (at, byte) in last_block.iter().enumerate() {
        let is_text = ((BLOCK - at) as u8).ct_gt(&padding);
        good &= is_text | byte.ct_eq(&padding);
    }
    bool::from(good).then(|| rest.len() + BLOCK - usize::from(padding))
}

/// The way back to a client, in the generation of its request.
#[derive(Debug)]
pub struct Answering {
    way: Way,
}

#[derive(Debug)]
enum Way {
    Seal(Session, Generation),
    Refuse,
}

impl Answering {
    pub(super) fn sealing(session: Session, generation: Generation) -> Self {
        Answering { way: Way::Seal(session, generation) }
    }

    /// For a request whose size could not be read: what follows it cannot be skipped, nor the IV in it adopted.
    pub(super) fn refusing() -> Self {
        Answering { way: Way::Refuse }
    }

    /// Which generation the client is of; `None` if its request got no further than its size.
    pub fn generation(&self) -> Option<Generation> {
        match self.way {
            Way::Seal(_, generation) => Some(generation),
            Way::Refuse => None,
        }
    }

    /// Seals the response. A refusal is a header with no packet to follow.
    pub fn seal(self, response: &Response, next_iv: [u8; BLOCK]) -> Result<Sealed, WireError> {
        match self.way {
            Way::Seal(mut session, generation) => session.seal(generation, &response.to_text(), next_iv),
            Way::Refuse => Ok(Sealed { header: vec![REFUSAL], packet: Vec::new() }),
        }
    }
}

/// The largest packet of a generation.
pub(super) fn packet_limit(generation: Generation, limits: &Limits) -> usize {
    match generation {
        Generation::First => limits.message,
        Generation::Second => limits.message + BLOCK,
    }
}
