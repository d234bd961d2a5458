//! `server`: the sockets.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{ConfigError, wrong};

/// The sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Where wire clients connect.
    pub listen: SocketAddr,
    /// Seconds for the key exchange and the request together.
    pub client_timeout: u64,
    /// Connections at once; more are closed at once.
    pub max_connections: usize,
    /// Where `/healthz` and `/readyz` answer, in plain HTTP; absent: nowhere.
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
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(1..=3600).contains(&self.client_timeout) {
            return wrong("server.client_timeout", "write 1 to 3600 seconds");
        }
        if self.max_connections == 0 {
            return wrong("server.max_connections", "it is 0: nobody could connect");
        }
        let names = self.api_names.iter();
        let plain = |name: &&String| {
            let bytes = name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b':'));
            !name.is_empty() && name.len() <= 253 && bytes
        };
        if names.clone().count() > 100 || !names.clone().all(|name| plain(&name)) {
            return wrong("server.api_names", "write names of hosts, or addresses, without ports");
        }
        Ok(())
    }
}
