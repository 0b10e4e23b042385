//! Waiting longer after each failure of one object, with jitter, so that many objects do not retry in step.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::runtime::utils::{self, ResetTimerBackoff};

/// Wait after the first failure; doubled after each further one.
const FIRST: Duration = Duration::from_millis(500);
/// Longest wait before jitter.
const LONGEST: Duration = Duration::from_mins(2);
/// The same between two tries of a watch.
const LONGEST_OF_WATCHES: Duration = Duration::from_secs(5);

/// Failures in a row, by object.
pub struct Backoff<K>(Mutex<HashMap<K, u32>>);

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Backoff<K> {
    /// How long to wait now that `object` failed once more.
    pub fn next(&self, object: K) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object).or_default();
        let wait = FIRST.saturating_mul(1 << (*count).min(16)).min(LONGEST);
        *count = count.saturating_add(1);
        jittered(wait)
    }

    /// `object` succeeded: its next failure is a first one again.
    pub fn forget(&self, object: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

/// Between two tries of a watch. As kube's own, but seconds at the most and not half a minute: what is released and what is
/// refused hang on what watches say, and few processes have them.
pub fn of_watches() -> impl utils::Backoff {
    ResetTimerBackoff::new(Doubling(FIRST), Duration::from_mins(1))
}

/// From [`FIRST`] to [`LONGEST_OF_WATCHES`], for ever.
struct Doubling(Duration);

impl Iterator for Doubling {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0;
        self.0 = wait.saturating_mul(2).min(LONGEST_OF_WATCHES);
        Some(jittered(wait))
    }
}

impl utils::Backoff for Doubling {
    fn reset(&mut self) {
        self.0 = FIRST;
    }
}

/// Between three and five quarters of `wait`.
pub fn jittered(wait: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness the middle is as good as any: this spreads load and protects nothing.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    wait.mul_f64(0.75 + f64::from(byte[0]) / 510.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, FIRST, LONGEST, LONGEST_OF_WATCHES, jittered, of_watches};

    #[test]
    fn waits_grow_to_a_limit_and_begin_anew_after_a_success() {
        let backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next("a")).collect();
        assert!(waits[0] <= FIRST.mul_f64(1.25), "{:?}", waits[0]);
        assert!(waits.iter().all(|wait| *wait <= LONGEST.mul_f64(1.25)));
        assert!(waits[39] >= LONGEST.mul_f64(0.75));
        assert!(backoff.next("b") <= FIRST.mul_f64(1.25), "another object's failures do not count");
        backoff.forget(&"a");
        assert!(backoff.next("a") <= FIRST.mul_f64(1.25));
    }

    #[test]
    fn a_watch_is_tried_again_within_seconds_however_often_it_failed() {
        let waits: Vec<Duration> = of_watches().take(40).collect();
        assert!(waits[0] <= FIRST.mul_f64(1.25) && waits[1] > FIRST, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= LONGEST_OF_WATCHES.mul_f64(1.25)), "{waits:?}");
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        for _ in 0..200 {
            let wait = jittered(Duration::from_secs(100));
            assert!((75..=125).contains(&wait.as_secs()), "{wait:?}");
        }
    }
}
