//! What may stand as a public key in a claim: it ends up in a file of the guest that decides who may log in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// The longest text that is read: an RSA key of 16384 bits with a long comment.
const LONGEST: usize = 4096;
/// The kinds of keys that OpenSSH makes.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Why a text is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// It is too long to be one.
    #[error("the public key has {length} bytes, at most {LONGEST} are read")]
    TooLong {
        /// How long.
        length: usize,
    },
    /// Not one line of what such a line is made of.
    #[error("the public key is not one line of OpenSSH's form: write KIND BASE64 [COMMENT], as in a .pub file")]
    Form,
    /// Of a kind that nobody knows.
    #[error("the public key is of no known kind: ssh-ed25519, ssh-rsa, ecdsa-sha2-nistp256/384/521 or sk-… are")]
    Kind,
    /// What its Base64 says is something else.
    #[error("the public key is damaged: its Base64 holds no key of the kind it says")]
    Damaged,
}

/// Reads a public key in OpenSSH's one-line form: its kind and its Base64, which are letters that mean nothing to a
/// shell. The comment may say anything, since nothing of it is kept; options in front of the kind are refused.
pub fn read(text: &str) -> Result<String, PublicKeyError> {
    if text.len() > LONGEST {
        return Err(PublicKeyError::TooLong { length: text.len() });
    }
    if text.chars().any(char::is_control) {
        return Err(PublicKeyError::Form);
    }
    let mut words = text.split(' ');
    let (Some(kind), Some(base64)) = (words.next(), words.next()) else { return Err(PublicKeyError::Form) };
    if !KINDS.contains(&kind) {
        return Err(PublicKeyError::Kind);
    }
    let blob = BASE64.decode(base64).map_err(|_| PublicKeyError::Damaged)?;
    match fields(&blob).as_deref() {
        Some([inner, _, ..]) if *inner == kind.as_bytes() => Ok(format!("{kind} {base64}")),
        _ => Err(PublicKeyError::Damaged),
    }
}

/// The fields of a key as RFC 4253 has them, each with its length before it: the kind once more, then its numbers.
fn fields(mut blob: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !blob.is_empty() {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let (field, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        fields.push(field);
        blob = rest;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn a_key_is_read_with_and_without_comment() {
        assert_eq!(read(KEY), Ok(KEY.to_owned()));
        for comment in ["me@host: laptop", "Zoë's laptop (old)", "'; reboot #", "$(id)", "DOMAIN\\me@host"] {
            assert_eq!(read(&format!("{KEY} {comment}")), Ok(KEY.to_owned()), "{comment}");
        }
    }

    #[test]
    fn what_is_no_key_or_more_than_a_key_is_refused() {
        for (text, why) in [
            ("", PublicKeyError::Form),
            ("ssh-ed25519", PublicKeyError::Form),
            (&format!("{KEY}\nssh-rsa AAAA"), PublicKeyError::Form),
            (&format!("{KEY}\n"), PublicKeyError::Form),
            (&format!("command=\"rm\" {KEY}"), PublicKeyError::Kind),
            (&format!("restrict {KEY}"), PublicKeyError::Kind),
            (&format!("{KEY}'"), PublicKeyError::Damaged),
            (&format!("{KEY}$(id)"), PublicKeyError::Damaged),
            (&KEY.replace("ssh-ed25519", "ssh-dss"), PublicKeyError::Kind),
            (&KEY.replace("ssh-ed25519", "ssh-rsa"), PublicKeyError::Damaged),
            (&KEY[..40], PublicKeyError::Damaged),
            ("ssh-ed25519 =", PublicKeyError::Damaged),
            (&"a".repeat(5000), PublicKeyError::TooLong { length: 5000 }),
        ] {
            assert_eq!(read(text), Err(why), "{text:?}");
        }
    }
}
