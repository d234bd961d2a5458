//! `port_forwarding`: how machines are reached.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::text::from_text;

/// How machines are reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortForwarding {
    /// The host's address whose ports lead to machines.
    pub bind: Ipv4Addr,
    /// Those ports.
    pub range: PortRange,
}

impl Default for PortForwarding {
    fn default() -> Self {
        PortForwarding { bind: Ipv4Addr::UNSPECIFIED, range: PortRange { first: 10_000, last: 14_999 } }
    }
}

/// Ports from one to another, as `10000-14999`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// As a range.
    pub fn ports(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("'{text}' is no port range: write FIRST-LAST with 1 <= FIRST <= LAST <= 65535");
        let (first, last) = text.split_once('-').ok_or_else(bad)?;
        let (first, last) = (first.trim().parse().map_err(|_| bad())?, last.trim().parse().map_err(|_| bad())?);
        if first == 0 || first > last { Err(bad()) } else { Ok(PortRange { first, last }) }
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> String {
        format!("{}-{}", range.first, range.last)
    }
}

from_text!(PortRange);
