//! How one authority takes over from another without a gap: pure.
//!
//! 1. A successor is made while the authority still signs. Every bundle holds both.
//! 2. Once the bundles have held both for a while, and no live pod was given the old root alone, the successor signs.
//! 3. Once its certificates have been in place for a while, and still no live pod was given the old root alone, that leaves the
//!    bundles.

use jiff::{SignedDuration, Timestamp};

use crate::runtime::validity::Validity;

/// How long before its end an authority is succeeded: a year in which pods that were given it alone come to an end.
pub const OVERLAP: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How long before its end nobody is waited for any more: its certificates could not be renewed.
pub const LAST: SignedDuration = SignedDuration::from_hours(60 * 24);
/// How long what was written must have been in place: longer than the longest pause of a watch that lost its connection
/// (`k8s::certificate::WATCH`, and room to connect again), so that every replica serves and hands out what is there.
pub const SETTLES: SignedDuration = SignedDuration::from_secs(60);
/// Shortest and longest time between two counts of pods that were given the old root alone.
const COUNTS: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(15), SignedDuration::from_mins(10));

/// Where a roll stands, as the authority's Secret says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    /// Validity of the authority that signs.
    pub signer: Validity,
    /// Whether there is a successor.
    pub next: bool,
    /// When a predecessor that is still trusted ends.
    pub old: Option<Timestamp>,
    /// Whether a person asked for a roll that has not happened.
    pub requested: bool,
    /// Since when everything has been in place as this Secret says.
    pub since: Option<Timestamp>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing; look again then, or when it is customary.
    Wait(Option<SignedDuration>),
    /// Make a successor.
    Begin,
    /// Note that everything is in place from now on.
    Stamp,
    /// Forget that it was: something had to be put back.
    Unstamp,
    /// Count the live pods that were not given the newest root, and decide again.
    Count,
    /// Let the successor sign.
    Switch,
    /// Drop the predecessor.
    Retire,
}

/// The next step at `now`. `in_place`: nothing had to be written to make certificates and bundles what the Secret says.
/// `lagging`: live pods that were not given the newest root, once they were counted.
///
/// A clock that jumps makes a step early or late, never two at once, and never a certificate that others refuse as not yet or no
/// more valid. Into the last sixty days, however, it lets the successor sign while pods still lack its root: nobody is waited for
/// then, since nothing tells such a clock from a true one.
pub fn step(roll: &Roll, now: Timestamp, in_place: bool, lagging: Option<usize>) -> Step {
    if !roll.next && roll.old.is_none() {
        return if roll.requested || now >= roll.signer.ends - OVERLAP { Step::Begin } else { Step::Wait(None) };
    }
    // A time in the future was noted by a clock that was put back since: it says nothing.
    let since = match (in_place, roll.since) {
        (true, Some(since)) if since <= now => since,
        (true, _) => return Step::Stamp,
        (false, Some(_)) => return Step::Unstamp,
        (false, None) => return Step::Wait(Some(SignedDuration::from_secs(1))),
    };
    let passed = now.duration_since(since);
    if passed < SETTLES {
        return Step::Wait(Some(SETTLES - passed));
    }
    let (done, overdue) = match roll.old {
        Some(ends) if !roll.next => (Step::Retire, now >= ends),
        _ => (Step::Switch, now >= roll.signer.ends - LAST),
    };
    if overdue {
        return done;
    }
    match lagging {
        None => Step::Count,
        Some(0) => done,
        // Pods that live for days are not counted every minute.
        Some(_) => Step::Wait(Some((passed / 4).clamp(COUNTS.0, COUNTS.1))),
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{COUNTS, LAST, OVERLAP, Roll, SETTLES, Step, step};
    use crate::runtime::validity::Validity;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn now() -> Timestamp {
        at("2030-06-01T00:00:00Z")
    }

    const SECOND: SignedDuration = SignedDuration::from_secs(1);

    fn quiet() -> Roll {
        let signer = Validity { begins: at("2026-01-01T00:00:00Z"), ends: at("2036-01-01T00:00:00Z") };
        Roll { signer, next: false, old: None, requested: false, since: None }
    }

    fn rolling(since: Option<Timestamp>) -> Roll {
        Roll { next: true, since, ..quiet() }
    }

    fn rolled(since: Option<Timestamp>) -> Roll {
        Roll { old: Some(at("2031-01-01T00:00:00Z")), since, ..quiet() }
    }

    #[test]
    fn each_state_has_one_next_step() {
        let ends = quiet().signer.ends;
        let asked = Roll { requested: true, ..quiet() };
        let settled = Some(now() - SETTLES);
        let late = ends - LAST;
        let day = SignedDuration::from_hours(24);
        let wait = |duration| Step::Wait(Some(duration));
        for (name, roll, now, in_place, lagging, expected) in [
            ("quiet", quiet(), now(), true, None, Step::Wait(None)),
            ("just before the overlap", quiet(), ends - OVERLAP - SECOND, true, None, Step::Wait(None)),
            ("the overlap begins", quiet(), ends - OVERLAP, true, None, Step::Begin),
            ("asked for", asked, now(), false, None, Step::Begin),
            ("bundles were just written", rolling(None), now(), false, None, wait(SECOND)),
            ("bundles are in place", rolling(None), now(), true, None, Step::Stamp),
            ("a bundle was reset", rolling(Some(now())), now(), false, None, Step::Unstamp),
            ("not long enough", rolling(Some(now() - SECOND)), now(), true, Some(0), wait(SETTLES - SECOND)),
            ("long enough", rolling(settled), now(), true, None, Step::Count),
            ("nobody lags", rolling(settled), now(), true, Some(0), Step::Switch),
            ("somebody lags", rolling(settled), now(), true, Some(1), wait(COUNTS.0)),
            ("somebody lags for days", rolling(Some(now() - day)), now(), true, Some(1), wait(COUNTS.1)),
            ("nobody is waited for at the end", rolling(Some(late - SETTLES)), late, true, None, Step::Switch),
            ("nor is a bundle skipped then", rolling(None), late, false, None, wait(SECOND)),
            ("new certificates were just written", rolled(None), now(), false, None, wait(SECOND)),
            ("new certificates are in place", rolled(None), now(), true, None, Step::Stamp),
            ("not served by all yet", rolled(Some(now())), now(), true, None, wait(SETTLES)),
            ("served by all, as far as is known", rolled(settled), now(), true, None, Step::Count),
            ("served by all", rolled(settled), now(), true, Some(0), Step::Retire),
            ("a replica goes on handing out the old root alone", rolled(settled), now(), true, Some(1), wait(COUNTS.0)),
            ("the old root ended", Roll { old: Some(now()), ..rolled(settled) }, now(), true, None, Step::Retire),
        ] {
            assert_eq!(step(&roll, now, in_place, lagging), expected, "{name}");
        }
    }

    #[test]
    fn a_clock_that_is_put_back_starts_the_waiting_anew_and_one_that_leaps_skips_no_step() {
        for roll in [rolling(Some(now() + SECOND)), rolled(Some(now() + SECOND))] {
            assert_eq!(step(&roll, now(), true, Some(0)), Step::Stamp);
        }
        let leapt = now() + SignedDuration::from_hours(5 * 365 * 24);
        assert_eq!(step(&quiet(), leapt, true, Some(0)), Step::Begin);
        assert_eq!(step(&rolling(None), leapt, true, Some(0)), Step::Stamp);
        assert_eq!(step(&rolling(Some(now())), leapt, false, Some(0)), Step::Unstamp);
        assert_eq!(step(&rolled(None), leapt, true, Some(0)), Step::Stamp);
    }

    #[test]
    fn a_request_during_a_roll_waits_for_its_end() {
        let mut roll = rolling(None);
        roll.requested = true;
        assert_eq!(step(&roll, now(), true, None), Step::Stamp);
        let mut roll = rolled(Some(now() - SETTLES));
        roll.requested = true;
        assert_eq!(step(&roll, now(), true, Some(0)), Step::Retire);
    }
}
