//! With which certificate TLS is spoken.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Stream, WebError};
use crate::private_file;
use crate::server::https::{self, Authority};

/// The largest file of a certificate or a key.
const LARGEST: usize = 256 << 10;

/// Whether TLS is spoken, and with which certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// It is not.
    Plain,
    /// With one that the API's own authority signs at each start.
    Own {
        /// The authority's file.
        authority: PathBuf,
        /// What clients call this host besides its names.
        names: Vec<String>,
    },
    /// With one of one's own.
    Files {
        /// The certificate, those behind it that lead to its authority too; PEM.
        certificate: PathBuf,
        /// Its key, for the daemon's user only; PEM.
        key: PathBuf,
    },
}

impl Tls {
    /// What accepts TLS on an address, if it is spoken.
    pub(super) fn acceptor(&self, address: IpAddr) -> Result<Option<TlsAcceptor>, WebError> {
        match self {
            Tls::Plain => Ok(None),
            Tls::Own { authority, names } => Ok(Some(https::vouched(&Authority::open(authority)?, address, names)?)),
            Tls::Files { certificate, key } => {
                let (chain, secret) = (chain(certificate)?, secret(key)?);
                let acceptor = https::acceptor(chain, secret).map_err(|source| WebError::Pair {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    source,
                })?;
                Ok(Some(acceptor))
            }
        }
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, WebError> {
    let failed = |source| WebError::Certificate { path: path.into(), source };
    let mut pem = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST as u64 + 1).read_to_end(&mut pem)).map_err(failed)?;
    if pem.len() > LARGEST {
        return Err(failed(io::Error::other(format!("it is larger than {LARGEST} bytes"))));
    }
    let none = || WebError::NoCertificate { path: path.into() };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| none())?;
    if chain.is_empty() { Err(none()) } else { Ok(chain) }
}

fn secret(path: &Path) -> Result<PrivateKeyDer<'static>, WebError> {
    // Whoever renews certificates keeps a link to the newest.
    let missing = || WebError::KeyMissing { path: path.into() };
    let file = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        // Why it cannot be reached is told by reading it.
        found => found.unwrap_or_else(|_| path.into()),
    };
    let pem = private_file::read(&file, LARGEST).map_err(WebError::KeyFile)?.ok_or_else(missing)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| WebError::NoKey { path: path.into() })
}

impl Stream for TlsStream<TcpStream> {
    async fn end(mut self) -> TcpStream {
        // Who has closed already need not hear it.
        let _ = self.shutdown().await;
        self.into_inner().0
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A pair in a directory.
    fn pair(dir: &Path) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (dir.join("web.crt"), dir.join("web.key"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        private_file::replace(&key, made.signing_key.serialize_pem().as_bytes()).unwrap();
        (certificate, key)
    }

    fn refused(certificate: &Path, key: &Path) -> String {
        let tls = Tls::Files { certificate: certificate.into(), key: key.into() };
        crate::error_chain(&tls.acceptor(IpAddr::from([127, 0, 0, 1])).err().unwrap())
    }

    #[test]
    fn a_pair_is_taken_and_what_is_none_is_told_by_file_and_setting() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(dir.path());
        let good = Tls::Files { certificate: certificate.clone(), key: key.clone() };
        assert!(good.acceptor(IpAddr::from([127, 0, 0, 1])).unwrap().is_some());
        let other = tempfile::tempdir().unwrap();
        let (_, others_key) = pair(other.path());
        let missing = dir.path().join("missing");
        let empty = dir.path().join("empty");
        private_file::create(&empty, b"").unwrap();
        for (certificate, key, setting, file, why) in [
            (&missing, &key, "web.tls.certificate", &missing, "No such file"),
            (&empty, &key, "web.tls.certificate", &empty, "no certificate"),
            (&key, &key, "web.tls.certificate", &key, "no certificate"),
            (&certificate, &missing, "web.tls.key", &missing, "there is no"),
            (&certificate, &empty, "web.tls.key", &empty, "no private key"),
            (&certificate, &others_key, "web.tls", &others_key, "keys may not be consistent"),
        ] {
            let said = refused(certificate, key);
            for word in [setting, file.to_str().unwrap(), why] {
                assert!(said.contains(word), "no '{word}' in: {said}");
            }
        }
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let said = refused(&certificate, &key);
        assert!(said.contains("web.tls.key") && said.contains("chmod 600"), "{said}");
        fs::write(&certificate, vec![b'a'; LARGEST + 1]).unwrap();
        assert!(refused(&certificate, &key).contains("larger than"), "a certificate without end is read");
    }
}
