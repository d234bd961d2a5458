//! `server`: the sockets.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::Faults;

/// The most names in the API's certificate.
const MOST_NAMES: usize = 100;

/// The sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Where wire clients connect.
    pub listen: SocketAddr,
    /// Seconds for the key exchange and the request together, and again for taking the answer.
    pub client_timeout: u64,
    /// Connections at once. When all are taken, a newcomer gets the place of the oldest that has not exchanged keys.
    pub max_connections: usize,
    /// Where `/healthz`, `/readyz` and `/metrics` answer, in plain HTTP; absent: nowhere.
    pub health_listen: Option<SocketAddr>,
    /// Where the API answers over TLS, for whoever has a token; absent: nowhere.
    pub api_listen: Option<SocketAddr>,
    /// Names and addresses that clients reach it by, besides this host's name, `localhost` and the address itself.
    pub api_names: Vec<String>,
    /// Whether `api.sock` in the state directory answers the daemon's user and root.
    pub local_api: bool,
}

impl Default for Server {
    fn default() -> Self {
        use crate::server::constants;
        Server {
            listen: SocketAddr::new(constants::DEFAULT_SERVER_BIND_ADDRESS, constants::DEFAULT_SERVER_LISTEN_PORT),
            client_timeout: constants::DEFAULT_CLIENT_TIMEOUT.as_secs(),
            max_connections: 1024,
            health_listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 6152))),
            api_listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 6151))),
            api_names: Vec::new(),
            local_api: true,
        }
    }
}

impl Server {
    pub(super) fn check(&self, f: &mut Faults) {
        f.range(1..=3600, self.client_timeout, "server.client_timeout", " seconds");
        f.unless(self.max_connections > 0, "server.max_connections", "nobody could connect; write at least 1");
        let plain = |name: &String| {
            let bytes = name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b':'));
            !name.is_empty() && name.len() <= 253 && bytes
        };
        f.unless(
            self.api_names.len() <= MOST_NAMES && self.api_names.iter().all(plain),
            "server.api_names",
            format!("write names of hosts, or addresses, without ports; {MOST_NAMES} at most"),
        );
        let sockets = [
            ("server.listen", Some(self.listen)),
            ("server.health_listen", self.health_listen),
            ("server.api_listen", self.api_listen),
        ];
        for (at, (key, address)) in sockets.iter().enumerate() {
            for (other, taken) in &sockets[..at] {
                let (Some(address), Some(taken)) = (address, taken) else { continue };
                f.unless_with(
                    !collide(*address, *taken),
                    key,
                    other,
                    format!("{other} listens there: choose a port apart"),
                );
            }
        }
    }
}

/// Whether two sockets cannot listen at once. Port 0 is any that is free.
pub(super) fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || everywhere)
}
