//! Tries again, at a growing distance, until a deadline.

use std::time::Duration;

use crate::failure::{Failure, GivenUp};

/// The first pause; each next one is twice as long.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);
/// The same of a pod that has its secrets already and waits for changes: all pods of a cluster lose their broker at once.
const FIRST_OF_WATCH: Duration = Duration::from_secs(1);
const LONGEST_OF_WATCH: Duration = Duration::from_mins(1);
/// What one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(15);
/// What one attempt gets at least: with less its own timeout would hide the cause that the attempts before it met.
const SHORTEST: Duration = Duration::from_secs(1);

/// What the agent needs of the machine that it runs on.
pub trait Host {
    /// Time since the start.
    fn elapsed(&self) -> Duration;
    /// Waits.
    fn sleep(&mut self, pause: Duration);
    /// Any number.
    fn random(&mut self) -> u64;
    /// Says why it is waiting.
    fn waiting(&mut self, failure: &Failure);
}

/// Calls `attempt`, which gets the time that it may take, until it succeeds, cannot heal, or `deadline` would pass.
pub fn until<T>(deadline: Duration, host: &mut impl Host, mut attempt: impl FnMut(Duration) -> Result<T, Failure>) -> Result<T, GivenUp> {
    let mut attempts = 0;
    loop {
        let left = deadline.saturating_sub(host.elapsed());
        attempts += 1;
        let failure = match attempt(left.clamp(SHORTEST, ATTEMPT)) {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        let pause = pause(attempts, host.random());
        let elapsed = host.elapsed();
        if !failure.heals() || elapsed + pause + SHORTEST > deadline {
            return Err(GivenUp { failure, attempts, elapsed });
        }
        host.waiting(&failure);
        host.sleep(pause);
    }
}

/// How long to wait after that many attempts: between half and all of 0.2 s, 0.4 s, … 5 s, so that pods of a gang drift apart.
pub fn pause(attempts: u32, random: u64) -> Duration {
    spread(FIRST, LONGEST, attempts, random)
}

/// How long a pod that has its secrets waits after that many failures: between half and all of 1 s, 2 s, … 1 min.
pub fn patience(failures: u32, random: u64) -> Duration {
    spread(FIRST_OF_WATCH, LONGEST_OF_WATCH, failures, random)
}

fn spread(first: Duration, longest: Duration, attempts: u32, random: u64) -> Duration {
    let whole = first.saturating_mul(1 << attempts.saturating_sub(1).min(8)).min(longest);
    let half = whole / 2;
    // The remainder's bias is far below what a pause needs.
    half + half.mul_f64(f64::from(u16::try_from(random % 1000).unwrap_or(0)) / 1000.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Host, patience, pause, until};
    use crate::failure::Failure;

    /// Sleeps far longer than it was asked to, as a machine does that was suspended.
    struct Drowsy(Duration);

    impl Host for Drowsy {
        fn elapsed(&self) -> Duration {
            self.0
        }

        fn sleep(&mut self, _: Duration) {
            self.0 += Duration::from_hours(1);
        }

        fn random(&mut self) -> u64 {
            0
        }

        fn waiting(&mut self, _: &Failure) {}
    }

    #[test]
    fn no_attempt_is_too_short_to_meet_the_real_cause() {
        let mut limits = Vec::new();
        let outcome: Result<(), _> = until(Duration::from_mins(2), &mut Drowsy(Duration::ZERO), |limit| {
            limits.push(limit.as_secs());
            Err(Failure::Status { broker: "b".to_owned(), status: 503 })
        });
        assert_eq!(limits, [15, 1]);
        assert_eq!(outcome.unwrap_err().attempts, 2);
    }

    #[test]
    fn pauses_grow_to_five_seconds_and_are_spread() {
        let millis = |attempts, random| pause(attempts, random).as_millis();
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 90].map(|n| millis(n, 0)), [100, 200, 400, 800, 1600, 2500, 2500, 2500]);
        assert_eq!(millis(1, 500), 150);
        assert!(pause(u32::MAX, u64::MAX) <= Duration::from_secs(5));
        assert_eq!([1, 2, 6, 7, 90].map(|n| patience(n, 0).as_millis()), [500, 1000, 16_000, 30_000, 30_000]);
    }
}
