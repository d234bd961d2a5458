//! How often each address may do something.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

/// Addresses whose rate is remembered. As many fit into 65,536 places of a hash table: 2 MiB.
pub(super) const MOST_ADDRESSES: usize = 50_000;

/// The time since whenever.
#[derive(Clone)]
pub(super) struct Elapsed(pub(super) Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock for Elapsed {
    type Instant = Duration;

    fn now(&self) -> Duration {
        (self.0)()
    }
}

type Rate = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, Elapsed, NoOpMiddleware<Duration>>;

/// A rate for each address, if there is any.
pub(super) struct Limiter {
    most: Option<NonZeroU32>,
    rate: Option<Rate>,
    elapsed: Elapsed,
}

impl Limiter {
    /// So many in a minute, all of which may come at once.
    pub(super) fn new(most: Option<NonZeroU32>, elapsed: Elapsed) -> Self {
        Limiter { rate: most.map(|most| rate(most, &elapsed)), most, elapsed }
    }

    /// Counts one, and says whether it is within the rate.
    pub(super) fn allows(&mut self, address: IpAddr) -> bool {
        self.forget();
        self.rate.as_ref().is_none_or(|rate| rate.check_key(&address).is_ok())
    }

    /// Makes room. Addresses that were quiet for a while are as good as unknown. If there are still too many, all are
    /// forgotten: so many cannot be held back one by one, and what all of them together may take has limits of its
    /// own. Half has to be free then, so that the next look is far away.
    fn forget(&mut self) {
        let Some(rate) = self.rate.as_mut().filter(|rate| rate.len() >= MOST_ADDRESSES) else { return };
        rate.retain_recent();
        if rate.len() > MOST_ADDRESSES / 2 {
            *self = Limiter::new(self.most, self.elapsed.clone());
        }
    }

    /// Addresses that are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.rate.as_ref().map_or(0, |rate| rate.len())
    }
}

fn rate(most: NonZeroU32, elapsed: &Elapsed) -> Rate {
    RateLimiter::new(Quota::per_minute(most), HashMapStateStore::default(), elapsed.clone())
}
