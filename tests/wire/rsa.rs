//! Keys on their own: what another implementation made is understood, and nothing else is taken for it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anweddol::server::key::KeyFileError;
use anweddol::server::rsa::{KeyError, KeySize, PublicKey, RsaKeys};
use anweddol::wire::keys::Backend;
use anweddol::wire::{Limits, PrivateKey};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use tempfile::tempdir;

use crate::support::{bytes, text};

fn server() -> RsaKeys {
    RsaKeys::from_pem(text("/server/private_pem")).unwrap()
}

/// The message that another implementation signed with the server's key, and its signature of that name.
fn signed(name: &str) -> (Vec<u8>, Vec<u8>) {
    let all: Value = serde_json::from_str(include_str!("signatures.json")).unwrap();
    let message = all["message"].as_str().unwrap().as_bytes().to_vec();
    (message, BASE64_STANDARD.decode(all[name].as_str().unwrap()).unwrap())
}

#[test]
fn a_pair_is_read_and_written_as_it_was() {
    let keys = server();
    assert_eq!(keys.private_pem().unwrap().as_str(), text("/server/private_pem"));
    assert_eq!(keys.public_pem(), text("/server/public_pem"));
    assert_eq!(keys.fingerprint().to_string(), text("/fingerprint/server"));
    assert_eq!(keys.public_key().fingerprint(), keys.fingerprint());
}

#[test]
fn a_new_pair_has_the_size_that_was_asked_for() {
    for (bits, size) in [(2048, KeySize::Bits2048), (3072, KeySize::Bits3072)] {
        assert_eq!(KeySize::try_from(bits).unwrap(), size);
        let keys = RsaKeys::generate(size).unwrap();
        assert_eq!(keys.private_key().modulus_length() * 8, bits);
        let again = RsaKeys::from_pem(&keys.private_pem().unwrap()).unwrap();
        assert_eq!(again.fingerprint(), keys.fingerprint());
    }
    assert_eq!(KeySize::try_from(4096).unwrap(), KeySize::Bits4096);
    for bits in [0, 1024, 2047, 8192] {
        let told = KeySize::try_from(bits).unwrap_err().to_string();
        assert!(told.contains(&bits.to_string()) && told.contains("2048"), "{told}");
    }
}

#[test]
fn what_another_implementation_encrypted_is_decrypted() {
    let secret = server().decrypt(&bytes("/client_session/oaep_to_server_b64")).unwrap();
    assert_eq!(*secret, [bytes("/client_session/key_b64"), bytes("/client_session/iv_b64")].concat());
}

#[test]
fn what_is_encrypted_is_the_holders_alone() {
    let (keys, other) = (server(), RsaKeys::from_pem(text("/client/private_pem")).unwrap());
    let mut encrypted = keys.encrypt(b"secret").unwrap();
    assert_eq!(*keys.decrypt(&encrypted).unwrap(), *b"secret");
    assert!(matches!(other.decrypt(&encrypted), Err(KeyError::Unwrap)));
    encrypted[100] ^= 1;
    assert!(matches!(keys.decrypt(&encrypted), Err(KeyError::Unwrap)));
    assert!(matches!(keys.decrypt(b"short"), Err(KeyError::Unwrap)));
    // OAEP with SHA-256 takes 66 bytes of the modulus.
    assert!(keys.encrypt(&[0; 512 - 66]).is_ok());
    assert!(matches!(keys.encrypt(&[0; 512 - 65]), Err(KeyError::Wrap)));
}

#[test]
fn another_implementations_signature_is_good_with_either_usual_salt() {
    for name in ["digest_salt_b64", "max_salt_b64"] {
        let (message, signature) = signed(name);
        server().verify(&message, &signature).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn a_signature_of_another_kind_is_refused() {
    for name in ["other_salt_b64", "sha512_b64", "pkcs1v15_b64"] {
        let (message, signature) = signed(name);
        assert!(matches!(server().verify(&message, &signature), Err(KeyError::Signature)), "{name}");
    }
}

#[test]
fn a_signature_is_of_one_message_by_one_key() {
    for backend in [Backend::ConstantTime, Backend::Portable] {
        let private = PrivateKey::from_pem(text("/server/private_pem"), backend).unwrap();
        let mut signature = private.sign(b"message").unwrap();
        assert_eq!(signature.len(), 512);
        assert_ne!(private.sign(b"message").unwrap(), signature, "the salt is fresh");
        server().verify(b"message", &signature).unwrap();
        let other = PublicKey::from_pem(text("/client/public_pem").as_bytes(), &Limits::default()).unwrap();
        assert!(matches!(other.verify(b"message", &signature), Err(KeyError::Signature)));
        assert!(matches!(server().verify(b"messagf", &signature), Err(KeyError::Signature)));
        assert!(matches!(server().verify(b"message", &signature[..511]), Err(KeyError::Signature)));
        assert!(matches!(server().verify(b"message", b""), Err(KeyError::Signature)));
        signature[17] ^= 1;
        assert!(matches!(server().verify(b"message", &signature), Err(KeyError::Signature)));
    }
}

#[test]
fn what_is_no_rsa_key_is_refused_with_what_is_wanted() {
    let ed25519 = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
    assert!(matches!(RsaKeys::from_pem(ed25519), Err(KeyError::NotRsa)));
    let pkcs1 = "-----BEGIN RSA PRIVATE KEY-----\nMA==\n-----END RSA PRIVATE KEY-----\n";
    for wrong in ["", "nonsense", pkcs1, text("/server/public_pem")] {
        let told = RsaKeys::from_pem(wrong).unwrap_err().to_string();
        assert!(told.contains("\"PRIVATE KEY\""), "{told}");
    }
    for wrong in ["", text("/server/private_pem")] {
        let told = PublicKey::from_pem(wrong.as_bytes(), &Limits::default()).unwrap_err().to_string();
        assert!(told.contains("\"PUBLIC KEY\""), "{told}");
    }
}

#[test]
fn a_key_file_is_read_made_once_or_named_in_what_is_wrong() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("server.pem");
    assert!(matches!(RsaKeys::from_file(&path), Err(KeyFileError::Missing { .. })));
    let made = RsaKeys::from_file_or_generate(&path).unwrap();
    assert_eq!(made.private_key().modulus_length(), 512, "4096 bits");
    assert_eq!(RsaKeys::from_file(&path).unwrap().fingerprint(), made.fingerprint());
    fs::write(&path, "no key").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    for refused in [RsaKeys::from_file(&path), RsaKeys::from_file_or_generate(&path)] {
        let told = refused.unwrap_err();
        assert!(matches!(told, KeyFileError::Key { .. }) && told.to_string().contains("server.pem"), "{told}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "no key", "it is kept");
}

#[test]
fn nothing_secret_is_shown_in_debug() {
    let shown = format!("{:?}", server());
    assert!(shown.contains(text("/fingerprint/server")) && !shown.contains("BEGIN PRIVATE"), "{shown}");
}
