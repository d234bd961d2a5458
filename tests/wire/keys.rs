//! Which keys are accepted, and the file that the server's lives in.

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anweddol::error_chain;
use anweddol::server::key::{KeyFileError, load, load_or_generate};
use anweddol::wire::keys::Backend;
use anweddol::wire::{KeyError, KeySize, Limits, PrivateKey, PublicKey};
use rsa::pkcs8::{EncodePublicKey, LineEnding};
use rsa::{BigUint, RsaPublicKey};
use tempfile::tempdir;

use crate::support::text;

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
