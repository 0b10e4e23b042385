//! Everything is killed at any moment of everything that has steps: one key for each object, none lost, none doubled, no
//! audit record lost, no pod stuck once all is back.

mod checks;
mod operations;
mod steps;
mod strike;

use std::fmt;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use serde_json::json;

use crate::harness::setting;
use crate::report::Report;
use crate::rng::Rng;

const VICTIMS: [&str; 5] = ["controller", "broker", "webhook", "kube-apiserver", "etcd"];
/// Each, and in ms how long it takes at the most when nothing dies: kills are spread over it.
const OPERATIONS: [(&str, u64); 5] = [("create", 1500), ("rotate", 1500), ("retire", 1500), ("release", 2500), ("roll", 130_000)];

/// One round.
#[derive(Clone)]
pub struct Round {
    number: u64,
    operation: &'static str,
    victim: &'static str,
    stop: bool,
    moment: Moment,
}

impl Round {
    /// The name of what it is about.
    pub fn object(&self) -> String {
        format!("k{}", self.number)
    }
}

/// When the victim is struck.
#[derive(Clone)]
pub enum Moment {
    /// So long after the operation began.
    After(Duration),
    /// As soon as each of these steps was taken.
    Steps(Range<usize>),
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.victim, if self.stop { "stopped" } else { "killed" })?;
        match &self.moment {
            Moment::After(delay) => write!(f, "{} ms into {}", delay.as_millis(), self.operation),
            Moment::Steps(steps) => {
                let all = steps::of(self.operation);
                match steps.len() {
                    1 => write!(f, "after step {} of {} of {}: {}", steps.end, all.len(), self.operation, all[steps.start]),
                    _ => write!(f, "after each of the {} steps of {}, or as soon as it is back", steps.len(), self.operation),
                }
            }
        }
    }
}

/// Each step of each operation with each victim and with a stopped leader, then `rounds` at random; the short form is these
/// alone, and rolls no certificates.
pub fn prove(rounds: u64, seed: u64) -> Report {
    let short = rounds < 100;
    let matrix = if short { Vec::new() } else { matrix() };
    let all = matrix.len() as u64 + rounds;
    println!("about {} minutes", (all * 10 + rounds / 32 * 120 + if short { 0 } else { 40 * 60 }) / 60 + 1);
    let mut report = Report::new("kill", json!({"rounds": rounds, "seed": seed}));
    operations::begin();
    // Of this many rounds, of these images: what another run found is not this one's.
    let images = setting("KUSTODY_BIN").split('/').rev().nth(1).unwrap_or_default().to_owned();
    let progress = format!("target/prove/kill-{seed}-{rounds}-{images}.progress");
    let done = report.resume(&progress);
    for number in done..all {
        let of_matrix = usize::try_from(number).ok().and_then(|place| matrix.get(place)).cloned();
        let round = of_matrix.map_or_else(|| at_random(seed, number, short), |round| Round { number, ..round });
        let name = format!("{number}: {round}");
        report.check(&name, AssertUnwindSafe(|| operations::play(&round)));
        // An interrupted run goes on in another cluster, after the last round of this one whose traces were looked at.
        if number % 10 == 9 || number + 1 == all {
            report.check(&format!("{number}: one key for each object, none lost and none doubled"), checks::one_key_each);
            report.check(&format!("{number}: no audit record is lost, and the chain is unbroken"), checks::audited);
            report.keep(&progress, number + 1);
        }
    }
    let _ = std::fs::remove_file(progress);
    report
}

/// A roll takes minutes, so that one round strikes after each of its steps; of the others each round takes one.
fn matrix() -> Vec<Round> {
    let mut rounds = Vec::new();
    for (operation, _) in OPERATIONS {
        let steps = steps::of(operation).len();
        let at_once = if operation == "roll" { steps } else { 1 };
        for from in (0..steps).step_by(at_once) {
            let round = Round { number: 0, operation, victim: "controller", stop: false, moment: Moment::Steps(from..from + at_once) };
            rounds.extend(VICTIMS.map(|victim| Round { victim, ..round.clone() }));
            rounds.push(Round { stop: true, ..round });
        }
    }
    rounds
}

fn at_random(seed: u64, number: u64, short: bool) -> Round {
    let mut rng = Rng::new(seed, number);
    // A roll takes two minutes: one in thirty-two.
    let operation = match rng.below(32) {
        0 if !short => 4,
        other => usize::try_from(other % 4).unwrap_or_default(),
    };
    let victim = VICTIMS[usize::try_from(rng.below(VICTIMS.len() as u64)).unwrap_or_default()];
    let (operation, takes) = OPERATIONS[operation];
    let stop = !short && rng.below(8) == 0;
    let victim = if stop { "controller" } else { victim };
    Round { number, operation, victim, stop, moment: Moment::After(Duration::from_millis(rng.below(takes))) }
}
