//! Times of one thing that was done often.

use std::time::Duration;

/// All of them, in order of their length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    /// In any order.
    pub(crate) fn of(mut times: Vec<Duration>) -> Sample {
        times.sort();
        Sample(times)
    }

    /// The time that this share of them needed at most.
    pub(crate) fn at(&self, share: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }

    /// What the middle one needed.
    pub(crate) fn p50(&self) -> Duration {
        self.at(0.5)
    }

    /// What 99 of 100 needed at most.
    pub(crate) fn p99(&self) -> Duration {
        self.at(0.99)
    }
}
