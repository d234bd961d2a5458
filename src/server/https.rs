//! The door for everybody else: the API ([`super::kube`]) over TLS, for whoever has a token.
//!
//! kubectl sends a token over TLS only, and to a TCP port only, so the port is open by default, on the loopback address.
//! The server's certificate is signed by an authority of its own, made at the first start: clients get that authority's
//! certificate with their token (`anweddol kubeconfig`). The server's own key is made anew at every start and is in
//! memory alone; the authority's is in a file for its owner only, because clients have to know it again.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::connections::{self, Doorway, Ready};
use super::gate::Gate;
use super::kube::{Contact, Door, Kube};
use super::lines::Lines;
use crate::private_file::{self, PrivateFileError};

/// The authority's file in the state directory: its key and its certificate, as PEM.
pub const AUTHORITY: &str = "authority.pem";
/// The largest file that can be one.
const LARGEST: usize = 64 << 10;
/// Connections at once. Who comes then waits until one ends.
const MOST_CONNECTIONS: usize = 512;

/// Why the API is not served over TLS.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The port cannot be had.
    #[error("api_listen: cannot listen on {address}: choose another in 'server.api_listen', or 'null' for none")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The authority's file cannot be read or made.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// There is no authority in its file.
    #[error(
        "{} holds no authority for the API. Remove it, and a new one is made at the next start: clients need new kubeconfigs then",
        path.display()
    )]
    Authority {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No certificate can be made of these names.
    #[error("no certificate can be made for the API")]
    Certificate(#[from] rcgen::Error),
    /// No TLS can be made of the certificate.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// Who vouches for the server.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, as PEM.
    certificate: String,
}

impl Authority {
    /// Reads it; where there is none, makes it first.
    pub fn open(path: &Path) -> Result<Authority, HttpsError> {
        let pem = match private_file::read(path, LARGEST)? {
            Some(pem) => pem,
            None => {
                // Made before the file is asked for again: if two do it at once, both take what came first.
                let made = make()?;
                private_file::read_or_create(path, LARGEST, || made)?
            }
        };
        let broken =
            |source: Box<dyn std::error::Error + Send + Sync>| HttpsError::Authority { path: path.into(), source };
        let text = std::str::from_utf8(&pem).map_err(|error| broken(error.into()))?;
        let key = KeyPair::from_pem(text).map_err(|error| broken(error.into()))?;
        // Whether there is a certificate at all; that clients are told it is what counts.
        CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| broken(error.into()))?;
        let begin = text.find("-----BEGIN CERTIFICATE-----").unwrap_or_default();
        Ok(Authority { issuer: Issuer::new(params(), key), certificate: text[begin..].to_owned() })
    }
}

/// What is said of the authority; the same at every start, so that what it signs is signed by the same one.
fn params() -> CertificateParams {
    // The defaults are valid for ever: whoever has this file has the daemon, and an end would only be an outage.
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "anweddol API authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn make() -> Result<Zeroizing<Vec<u8>>, HttpsError> {
    let key = KeyPair::generate()?;
    let certificate = params().self_signed(&key)?;
    let text = Zeroizing::new(key.serialize_pem());
    Ok(Zeroizing::new([text.as_bytes(), certificate.pem().as_bytes()].concat()))
}

/// The port, open, with what it needs.
pub struct Https {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    contact: Contact,
}

impl Https {
    /// Opens it. The certificate is for the address, this host's names, and `names`.
    pub async fn bind(address: SocketAddr, authority: &Authority, names: &[String]) -> Result<Https, HttpsError> {
        let failed = |source| HttpsError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local = named(listener.local_addr().map_err(failed)?);
        let acceptor = vouched(authority, local.ip(), names)?;
        let contact = Contact { server: format!("https://{local}"), authority: authority.certificate.clone() };
        Ok(Https { listener, acceptor, contact })
    }

    /// How clients reach it.
    pub fn contact(&self) -> Contact {
        self.contact.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until cancelled.
    pub async fn serve(self, kube: Arc<Kube>, gate: Arc<Gate>, cancel: CancellationToken) {
        let (listener, acceptor, lines) = (self.listener, self.acceptor, Lines::default());
        let doorway = Clients { listener, acceptor, kube, gate, lines };
        connections::answer(&doorway, MOST_CONNECTIONS, "API", cancel).await;
    }
}

/// Those who connect.
struct Clients {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    kube: Arc<Kube>,
    gate: Arc<Gate>,
    lines: Lines,
}

impl Doorway for Clients {
    type Stream = TlsStream<TcpStream>;

    async fn come(&self) -> io::Result<Ready<Self::Stream>> {
        let (stream, peer) = self.listener.accept().await?;
        // A line of a watch is told when it is there.
        stream.set_nodelay(true)?;
        let pass = match self.gate.admit(peer.ip()) {
            Ok(pass) => pass,
            Err(refusal) => {
                let say = || tracing::warn!(client = %peer.ip(), reason = %refusal, "API: turned away");
                self.lines.say(refusal.name(), say);
                return Ok(Box::pin(std::future::ready(None)));
            }
        };
        let router = Arc::clone(&self.kube).router(Door::Remote(peer));
        let (acceptor, router) = (self.acceptor.clone(), connections::metered(router, pass, Kube::too_many));
        Ok(Box::pin(async move {
            let agreed = acceptor.accept(stream).await;
            agreed
                .inspect_err(|error| tracing::debug!(%error, %peer, "API: no TLS"))
                .ok()
                .map(|stream| (stream, router))
        }))
    }
}

/// What clients on this host call an address.
fn named(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

/// TLS with a fresh certificate, which the authority signs, for this address, this host's names, and `names`.
pub(super) fn vouched(authority: &Authority, address: IpAddr, names: &[String]) -> Result<TlsAcceptor, HttpsError> {
    let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    all.extend(rustix::system::uname().nodename().to_str().ok().filter(|name| !name.is_empty()).map(str::to_owned));
    all.push(address.to_string());
    all.extend(names.iter().cloned());
    all.dedup();
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(all)?;
    params.distinguished_name.push(DnType::CommonName, "anweddol API");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &authority.issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| rustls::Error::General(error.into()))?;
    Ok(acceptor(vec![certificate.der().clone()], key)?)
}

/// TLS with this certificate, behind which those may be that lead to its authority.
pub(super) fn acceptor(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // HTTP/2 would put many watches on one connection, and the limits count connections.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_authority_is_made_once_for_its_owner_and_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(AUTHORITY);
        let (first, again) = (Authority::open(&path).unwrap(), Authority::open(&path).unwrap());
        assert_eq!(first.certificate, again.certificate);
        assert!(first.certificate.starts_with("-----BEGIN CERTIFICATE-----") && !first.certificate.contains("KEY"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "nothing").unwrap();
        let said = Authority::open(&path).err().unwrap().to_string();
        assert!(said.contains("Remove it") && said.contains(AUTHORITY), "{said}");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_told_with_the_setting() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(&dir.path().join(AUTHORITY)).unwrap();
        let first = Https::bind("127.0.0.1:0".parse().unwrap(), &authority, &[]).await.unwrap();
        let address = first.address().unwrap();
        assert_eq!(first.contact().server, format!("https://{address}"));
        let said = Https::bind(address, &authority, &[]).await.err().unwrap().to_string();
        assert!(said.contains("server.api_listen") && said.contains(&address.to_string()), "{said}");
    }
}
