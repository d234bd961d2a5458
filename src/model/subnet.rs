use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::Serialize;

/// A range of private addresses. The first is the host's, the others but the last are guests'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "String")]
pub struct Subnet {
    base: Ipv4Addr,
    prefix: u8,
}

super::text::from_text!(Subnet);

/// Why a text is no subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no subnet for guests: write a private IPv4 network of 8 to 28 bits, as in 192.168.127.0/24")]
pub struct ParseSubnetError {
    /// What was given.
    pub text: String,
}

impl Subnet {
    /// The host's own address in it.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + 1)
    }

    /// The first and the last address of guests.
    pub fn guests(self) -> (Ipv4Addr, Ipv4Addr) {
        (
            Ipv4Addr::from_bits(self.base.to_bits() + 2),
            Ipv4Addr::from_bits(self.base.to_bits() | (!self.mask() >> 1 << 1)),
        )
    }

    /// Whether a guest can have this address: guests are not trusted, and a forward to an address outside would
    /// lead to somebody else.
    pub fn has_guest(self, address: Ipv4Addr) -> bool {
        let (first, last) = self.guests();
        (first..=last).contains(&address)
    }

    /// Its base address.
    pub fn base(self) -> Ipv4Addr {
        self.base
    }

    /// Its length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Its mask.
    pub fn mask(self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix))
    }
}

impl Default for Subnet {
    fn default() -> Self {
        Subnet { base: Ipv4Addr::new(192, 168, 127, 0), prefix: 24 }
    }
}

impl FromStr for Subnet {
    type Err = ParseSubnetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (base, prefix) = text.split_once('/')?;
            let subnet = Subnet { base: base.parse().ok()?, prefix: prefix.parse().ok()? };
            let whole = (8..=28).contains(&subnet.prefix) && subnet.base.to_bits() & !subnet.mask() == 0;
            (whole && subnet.base.is_private()).then_some(subnet)
        };
        parse().ok_or_else(|| ParseSubnetError { text: text.into() })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}
