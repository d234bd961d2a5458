//! Who is let in, and how often: the lists of networks, and the limits for each address. Every port that faces others
//! asks the same gate, so that an address has one account, however it comes in.
//!
//! ```text
//! accept ─► Gate::admit ─┬─► Pass ──► Pass::request, for each request ─► dropped with the connection
//!                        └─► Refusal: closed at once, nothing is read
//! ```
//!
//! Nothing here waits or reads. What it remembers is bounded: connections by those that are open, rates by
//! `limiter::MOST_ADDRESSES`. An IPv6 address counts as its network of 64 bits, which one customer has wholly.

mod limiter;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{IpFilter, Rates};
use limiter::{Elapsed, Limiter};

/// Bits of an IPv6 address that say whose it is.
const V6_NETWORK: u32 = 64;

/// Why somebody is not let in, or a request not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// By the lists.
    #[error("the address is denied (ip_filter)")]
    Denied,
    /// It has too many connections.
    #[error("{most} connections of its address are open already (rates.connections_per_address)")]
    Connections {
        /// The most at once.
        most: NonZeroU32,
    },
    /// It connects too often.
    #[error("its address connected more than {most} times in a minute (rates.connections_per_minute)")]
    ConnectionRate {
        /// The most in a minute.
        most: NonZeroU32,
    },
    /// It asks too often.
    #[error("its address asked more than {most} times in a minute (rates.requests_per_minute)")]
    RequestRate {
        /// The most in a minute.
        most: NonZeroU32,
    },
}

impl Refusal {
    /// Its name, for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Denied => "Denied",
            Refusal::Connections { .. } => "Connections",
            Refusal::ConnectionRate { .. } => "ConnectionRate",
            Refusal::RequestRate { .. } => "RequestRate",
        }
    }
}

/// Lets in, or not.
pub struct Gate {
    elapsed: Elapsed,
    state: Mutex<State>,
}

struct State {
    filter: IpFilter,
    rates: Rates,
    /// Open connections of each address that has any.
    open: HashMap<IpAddr, u32>,
    connections: Limiter,
    requests: Limiter,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        write!(f, "Gate({:?}, {:?})", state.filter, state.rates)
    }
}

impl Default for Gate {
    fn default() -> Self {
        Gate::new(IpFilter::default(), Rates::default())
    }
}

impl Gate {
    /// With these lists and limits.
    pub fn new(filter: IpFilter, rates: Rates) -> Self {
        let start = Instant::now();
        Gate::timed(filter, rates, Arc::new(move || start.elapsed()))
    }

    /// With a time of its own: what has passed since whenever.
    fn timed(filter: IpFilter, rates: Rates, elapsed: Arc<dyn Fn() -> Duration + Send + Sync>) -> Self {
        let elapsed = Elapsed(elapsed);
        let (connections, requests) = limiters(&rates, &elapsed);
        let state = State { filter, rates, open: HashMap::new(), connections, requests };
        Gate { elapsed, state: Mutex::new(state) }
    }

    /// Other lists and limits from now on. Who is in stays in and counted; rates begin anew where they changed.
    pub fn change(&self, filter: IpFilter, rates: Rates) {
        let mut state = self.state();
        let same = |of: fn(&Rates) -> Option<NonZeroU32>| of(&state.rates) == of(&rates);
        let kept = [same(|rates| rates.connections_per_minute), same(|rates| rates.requests_per_minute)];
        let (connections, requests) = limiters(&rates, &self.elapsed);
        if !kept[0] {
            state.connections = connections;
        }
        if !kept[1] {
            state.requests = requests;
        }
        (state.filter, state.rates) = (filter, rates);
    }

    /// Lets a connection in, for as long as its pass lives.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Pass, Refusal> {
        let account = account(peer);
        let mut state = self.state();
        if !state.filter.admits(peer) {
            return Err(Refusal::Denied);
        }
        let exempt = state.exempts(peer);
        if !exempt {
            // What is closed for being too many costs nothing, and is not held against the rate.
            state.has_room(account)?;
            let most = state.rates.connections_per_minute;
            if let (false, Some(most)) = (state.connections.allows(account), most) {
                return Err(Refusal::ConnectionRate { most });
            }
            *state.open.entry(account).or_default() += 1;
        }
        Ok(Pass { gate: Arc::clone(self), account, exempt })
    }

    /// Addresses with open connections that count, and those connections.
    #[cfg(test)]
    fn open(&self) -> (usize, usize) {
        let open = &self.state().open;
        (open.len(), open.values().map(|&count| count as usize).sum())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn exempts(&self, peer: IpAddr) -> bool {
        self.rates.exempt.iter().any(|network| network.contains(peer))
    }

    fn has_room(&self, account: IpAddr) -> Result<(), Refusal> {
        let open = self.open.get(&account).copied().unwrap_or_default();
        match self.rates.connections_per_address {
            Some(most) if open >= most.get() => Err(Refusal::Connections { most }),
            Some(_) | None => Ok(()),
        }
    }
}

fn limiters(rates: &Rates, elapsed: &Elapsed) -> (Limiter, Limiter) {
    let limiter = |most| Limiter::new(most, elapsed.clone());
    (limiter(rates.connections_per_minute), limiter(rates.requests_per_minute))
}

/// Whose account an address is on.
fn account(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> V6_NETWORK << V6_NETWORK).into(),
    }
}

/// A connection that was let in; it is out when this is dropped.
pub struct Pass {
    gate: Arc<Gate>,
    account: IpAddr,
    exempt: bool,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pass({})", self.account)
    }
}

impl Pass {
    /// Counts a request, and says whether it may be done.
    pub fn request(&self) -> Result<(), Refusal> {
        let mut state = self.gate.state();
        let most = state.rates.requests_per_minute;
        match most {
            Some(most) if !self.exempt && !state.requests.allows(self.account) => Err(Refusal::RequestRate { most }),
            Some(_) | None => Ok(()),
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.exempt {
            return;
        }
        if let Entry::Occupied(mut open) = self.gate.state().open.entry(self.account) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}
