//! `web`: the original's plain web server.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::server::collide;
use super::{Faults, Server};
use crate::model::text::from_text;
use crate::server::web::{DEFAULT_PORT, DEFAULT_TLS_PORT};

/// The original's plain web server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Web {
    /// Where its clients connect; absent: nowhere.
    pub listen: Option<WebListen>,
    /// Whether they do over TLS.
    pub tls: Option<WebTls>,
}

/// With which certificate; without one the API's authority signs one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebTls {
    /// The certificate, with those that lead to its authority; PEM.
    pub certificate: Option<PathBuf>,
    /// Its key; PEM.
    pub key: Option<PathBuf>,
}

impl Web {
    /// Where it listens: at the port that clients expect, where none is said.
    pub fn address(&self) -> Option<SocketAddr> {
        let expected = if self.tls.is_some() { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
        self.listen.map(|listen| SocketAddr::new(listen.ip, listen.port.unwrap_or(expected)))
    }

    pub(super) fn check(&self, server: &Server, f: &mut Faults) {
        const BOTH: &str = "write both its certificate and its key, or '{}' for one that the API's authority signs";
        let whole = self.tls.as_ref().is_none_or(|tls| tls.certificate.is_some() == tls.key.is_some());
        f.unless(whole, "web.tls", BOTH);
        let mut files = self.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key]).flatten();
        f.unless(files.all(|file| file.is_absolute()), "web.tls", "write absolute paths, as /etc/anweddol/web.crt");
        for (other, taken) in [
            ("server.listen", Some(server.listen)),
            ("server.health_listen", server.health_listen),
            ("server.api_listen", server.api_listen),
        ] {
            let (Some(address), Some(taken)) = (self.address(), taken) else { continue };
            let message = format!("{other} listens there: choose a port apart");
            f.unless_with(!collide(address, taken), "web.listen", other, message);
        }
    }
}

/// An address, and perhaps a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct WebListen {
    /// The address.
    pub ip: IpAddr,
    /// The port; absent: the one that clients expect.
    pub port: Option<u16>,
}

impl FromStr for WebListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse() {
            return Ok(WebListen { ip, port: None });
        }
        let whole: SocketAddr = text.parse().map_err(|_| {
            format!("'{text}' is no address: write ADDRESS or ADDRESS:PORT, as 127.0.0.1:8080 or [::1]:8080, or null")
        })?;
        Ok(WebListen { ip: whole.ip(), port: Some(whole.port()) })
    }
}

impl fmt::Display for WebListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

impl From<WebListen> for String {
    fn from(listen: WebListen) -> String {
        listen.to_string()
    }
}

from_text!(WebListen);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn web(text: &str) -> Web {
        let config = Config::parse(&format!("web: {text}")).unwrap();
        let again = serde_yaml::to_string(&config).unwrap();
        assert_eq!(Config::parse(&again).unwrap(), config);
        config.web
    }

    #[test]
    fn the_port_is_the_one_that_clients_expect_where_none_is_written() {
        for (text, address) in [
            ("{}", None),
            ("{listen: null}", None),
            ("{tls: {}}", None),
            ("{listen: 0.0.0.0}", Some("0.0.0.0:8080")),
            ("{listen: 0.0.0.0, tls: {}}", Some("0.0.0.0:4443")),
            ("{listen: '127.0.0.1:80', tls: {}}", Some("127.0.0.1:80")),
            ("{listen: '::1'}", Some("[::1]:8080")),
            ("{listen: '[::]:9'}", Some("[::]:9")),
        ] {
            assert_eq!(web(text).address().map(|address| address.to_string()).as_deref(), address, "{text}");
        }
    }
}
