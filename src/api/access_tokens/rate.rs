//! How often a token is used, by the generic cell rate algorithm: as many requests at once as a minute allows, then one
//! whenever its share of a minute is over. Kept in memory, one state for each token that has a rate.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// What was used of the rates, by the names of tokens.
pub(super) struct Rates<C: Clock = DefaultClock> {
    clock: C,
    limiters: Mutex<HashMap<String, (NonZeroU32, Limiter<C>)>>,
}

impl<C: Clock + Clone + Default> Default for Rates<C> {
    fn default() -> Self {
        Rates::new(C::default())
    }
}

impl<C: Clock + Clone> Rates<C> {
    pub(super) fn new(clock: C) -> Self {
        Rates { clock, limiters: Mutex::default() }
    }

    /// Counts a request, or says how many whole seconds it is too early.
    pub(super) fn enter(&self, name: &str, per_minute: NonZeroU32) -> Result<(), u64> {
        let mut limiters = self.limiters();
        let fresh = || (per_minute, RateLimiter::direct_with_clock(Quota::per_minute(per_minute), self.clock.clone()));
        let limiter = limiters.entry(name.to_owned()).or_insert_with(fresh);
        // Deleted, and made anew with another rate.
        if limiter.0 != per_minute {
            *limiter = fresh();
        }
        limiter.1.check().map_err(|early| {
            let wait = early.wait_time_from(self.clock.now());
            wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
        })
    }

    /// Forgets tokens that are not there any more, once there are more states than tokens.
    pub(super) fn retain(&self, tokens: usize, there: impl Fn(&str) -> bool) {
        let mut limiters = self.limiters();
        if limiters.len() > tokens {
            limiters.retain(|name, _| there(name));
        }
    }

    fn limiters(&self) -> MutexGuard<'_, HashMap<String, (NonZeroU32, Limiter<C>)>> {
        self.limiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn rate(per_minute: u32) -> NonZeroU32 {
        NonZeroU32::new(per_minute).unwrap()
    }

    #[test]
    fn a_token_is_used_as_often_as_a_minute_allows_and_then_at_its_rate() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::new(clock.clone());
        let three = rate(3);
        assert_eq!([(); 4].map(|()| rates.enter("a", three)), [Ok(()), Ok(()), Ok(()), Err(20)]);
        assert_eq!(rates.enter("b", three), Ok(()), "another one's is its own");
        clock.advance(Duration::from_millis(19_001));
        assert_eq!(rates.enter("a", three), Err(1));
        clock.advance(Duration::from_millis(999));
        assert_eq!([(); 2].map(|()| rates.enter("a", three)), [Ok(()), Err(20)]);
        clock.advance(Duration::from_secs(600));
        assert_eq!([(); 4].map(|()| rates.enter("a", three)), [Ok(()), Ok(()), Ok(()), Err(20)], "nothing is saved up");
        assert_eq!(rates.enter("a", rate(4)), Ok(()), "it has another rate by now");
    }

    #[test]
    fn no_more_is_remembered_than_there_are_tokens() {
        let rates = Rates::new(FakeRelativeClock::default());
        let tokens = ["a", "b"];
        let retain = || rates.retain(tokens.len(), |name| tokens.contains(&name));
        for round in 0..100 {
            retain();
            rates.enter(&format!("gone-{round}"), rate(1)).unwrap();
            assert!(rates.limiters().len() <= tokens.len() + 1);
        }
        retain();
        rates.enter("a", rate(1)).unwrap();
        rates.enter("b", rate(1)).unwrap();
        retain();
        assert!(rates.enter("a", rate(1)).is_err(), "what is there is remembered");
    }
}
