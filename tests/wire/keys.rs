//! Which keys are accepted, and the file that the server's lives in.

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anweddol::error_chain;
use anweddol::server::key::{KeyFileError, load, load_or_generate};
use anweddol::wire::exchange::{ServerExchange, ServerStep, Unwrapped};
use anweddol::wire::keys::Backend;
use anweddol::wire::{AccessTokens, KeyError, KeySize, Limits, PrivateKey, PublicKey, Session, WireError};
use rsa::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, RsaPublicKey};
use tempfile::tempdir;

use crate::support::{handshake, text};

/// A public key of so many bits; nobody has the private one.
fn public(bits: usize, exponent: u64) -> Result<PublicKey, KeyError> {
    let modulus = (BigUint::from(1u8) << (bits - 1)) + BigUint::from(12_345u32);
    let key = RsaPublicKey::new_unchecked(modulus, BigUint::from(exponent));
    PublicKey::from_pem(key.to_public_key_pem(LineEnding::LF).unwrap().as_bytes(), &Limits::default())
}

#[test]
fn a_modulus_has_2048_to_8192_bits() {
    for bits in [2048, 2049, 3072, 4096, 8192] {
        let wrapped = public(bits, 65_537).unwrap().wrap(&[7; 48]).unwrap();
        assert_eq!(wrapped.len(), bits.div_ceil(8));
    }
    for wrong in [512, 1024, 2047, 8193, 16_384] {
        match public(wrong, 65_537).unwrap_err() {
            KeyError::Modulus { bits, min: 2048, max: 8192 } => assert_eq!(bits, wrong),
            other => panic!("{wrong}: {other}"),
        }
    }
}

#[test]
fn an_exponent_is_odd_and_of_3_to_33_bits() {
    for good in [3, 17, 65_537, (1 << 32) + 1, (1 << 33) - 1] {
        assert!(public(2048, good).is_ok(), "{good}");
    }
    for bad in [0, 1, 2, 65_536, (1 << 33) + 1, u64::MAX] {
        assert!(matches!(public(2048, bad), Err(KeyError::Exponent { max: 33 })), "{bad}");
    }
}

#[test]
fn a_new_key_works_with_both_backends() {
    let pem = PrivateKey::generate(KeySize::Bits2048).unwrap();
    for backend in [Backend::ConstantTime, Backend::Portable] {
        let key = PrivateKey::from_pem(&pem, backend).unwrap();
        let public = PublicKey::from_pem(key.public_pem().as_bytes(), &Limits::default()).unwrap();
        assert_eq!(public.fingerprint(), key.fingerprint());
        assert_eq!(*key.unwrap(&public.wrap(b"secret").unwrap()).unwrap(), *b"secret");
    }
}

/// A number as the server's key would have encrypted it, whatever it is.
fn encrypted(number: &[u8]) -> Vec<u8> {
    let key = RsaPublicKey::from_public_key_pem(text("/server/public_pem")).unwrap();
    let cipher = BigUint::from_bytes_be(number).modpow(key.e(), key.n()).to_bytes_be();
    [vec![0; 512 - cipher.len()], cipher].concat()
}

#[test]
fn every_way_to_be_no_session_key_is_the_same_failure() {
    let public = |pem| PublicKey::from_pem(text(pem).as_bytes(), &Limits::default()).unwrap();
    let (server, client) = (public("/server/public_pem"), public("/client/public_pem"));
    // What follows is right where Manger's attack asks, or wrong: the first byte of what was padded.
    let first_byte = |byte: u8| encrypted(&[&[byte][..], &[0x5a; 511]].concat());
    let mut wrong = vec![first_byte(0), first_byte(1), first_byte(2), first_byte(0x40)];
    // PKCS#1 v1.5, whole and cut; the trivial numbers; one over the modulus; lengths; other keys; damage.
    wrong.push(encrypted(&[&[0, 2][..], &[0x5a; 461], &[0], &[7; 48]].concat()));
    wrong.push(encrypted(&[&[0, 2][..], &[0x5a; 510]].concat()));
    wrong.extend([vec![0; 512], [&[0; 511][..], &[1]].concat(), vec![0xff; 512], vec![], vec![1; 511], vec![1; 513]]);
    wrong.push(client.wrap(&[7; 48]).unwrap());
    let mut damaged = server.wrap(&[7; 48]).unwrap();
    damaged[511] ^= 1;
    wrong.push(damaged);
    // Well padded, and of no length that a session key has.
    wrong.extend([0, 1, 31, 33, 47, 49, 446].map(|length| server.wrap(&vec![7; length]).unwrap()));
    for backend in [Backend::ConstantTime, Backend::Portable] {
        let key = PrivateKey::from_pem(text("/server/private_pem"), backend).unwrap();
        for wrong in &wrong {
            let failure = outcome(&key, wrong).unwrap_err();
            assert!(matches!(failure, WireError::SessionKey) && failure.source().is_none());
            assert_eq!(failure.reply(), b"0");
        }
        for right in [32, 40, 48] {
            assert!(outcome(&key, &server.wrap(&vec![7; right]).unwrap()).is_ok());
        }
    }
}

/// What a server makes of a session key in a conversation that is good until then.
fn outcome(key: &PrivateKey, wrapped: &[u8]) -> Result<Unwrapped, WireError> {
    let mut exchange = ServerExchange::new(crate::support::key("server"), Limits::default(), AccessTokens::Unknown);
    // Any other number of bytes than the modulus has never gets so far.
    let whole = [&handshake()[..810], wrapped, &[0; 512]].concat();
    let (mut input, mut work) = (&whole[..], None);
    while work.is_none() {
        if let ServerStep::Unwrap(found) = exchange.receive(&mut input)? {
            work = Some(found);
        }
    }
    work.unwrap().perform(key, Session::fresh(&[9; 48]))
}

#[test]
fn the_first_start_makes_a_private_key_file_and_later_ones_keep_it() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("server.pem");
    let first = load_or_generate(&path).unwrap();
    assert_eq!(first.modulus_length(), 512, "4096 bits");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(load_or_generate(&path).unwrap().fingerprint(), first.fingerprint());
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_what_to_do() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("server.pem");
    fs::write(&path, text("/server/private_pem")).unwrap();
    for mode in [0o644, 0o640, 0o604, 0o660, 0o620, 0o610] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let told = error_chain(&load_or_generate(&path).unwrap_err());
        for part in [path.to_str().unwrap(), &format!("{mode:04o}"), &format!("chmod 600 {}", path.display())] {
            assert!(told.contains(part), "{part} in: {told}");
        }
    }
    for mode in [0o600, 0o400] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_eq!(load(&path).unwrap().fingerprint().to_string(), text("/fingerprint/server"));
    }
}

#[test]
fn a_file_without_a_usable_key_is_refused_and_kept() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("server.pem");
    let long = "x".repeat(100_000);
    for content in ["", "nonsense", text("/server/public_pem"), &text("/server/private_pem")[..900], &long] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = load_or_generate(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Key { .. } | KeyFileError::File(_)), "{error}");
        let told = error_chain(&error);
        assert!(told.contains(path.to_str().unwrap()), "{told}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    let error = load_or_generate(directory.path()).unwrap_err();
    assert!(matches!(error, KeyFileError::File(_)), "{error}");
}

#[test]
fn a_key_file_that_cannot_be_written_is_told_with_its_cause() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("missing").join("server.pem");
    let error = load_or_generate(&path).unwrap_err();
    assert!(matches!(error, KeyFileError::Write { .. }), "{error}");
    assert!(error.source().is_some());
}
