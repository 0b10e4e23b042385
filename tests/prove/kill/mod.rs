//! Everything is killed at any moment of everything that has steps: one key for each object, none lost, none doubled, no
//! audit record lost, no pod stuck once all is back.

mod checks;
mod operations;

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{SYSTEM, kubectl, run, setting, within};
use crate::report::Report;
use crate::rng::Rng;

const VICTIMS: [&str; 5] = ["controller", "broker", "webhook", "kube-apiserver", "etcd"];
/// Each, and in ms how long it takes at the most when nothing dies: kills are spread over it.
const OPERATIONS: [(&str, u64); 5] = [("create", 1500), ("rotate", 1500), ("retire", 1500), ("release", 2500), ("roll", 130_000)];
/// How long a role may be away that is to be killed: the kubelet starts it again.
const BACK: Duration = Duration::from_mins(3);

/// One round.
pub struct Round {
    number: u64,
    operation: &'static str,
    victim: &'static str,
    stop: bool,
    delay: Duration,
}

/// Each operation with each victim and with a stopped leader, then `rounds` at random; the short form is these alone, and
/// rolls no certificates.
pub fn prove(rounds: u64, seed: u64) -> Report {
    let short = rounds < 100;
    let matrix = if short { 0 } else { (OPERATIONS.len() * (VICTIMS.len() + 1)) as u64 };
    println!("about {} minutes", ((matrix + rounds) * 30 + matrix / 5 * 120) / 60 + 1);
    let mut report = Report::new("kill", json!({"rounds": rounds, "seed": seed}));
    operations::begin();
    // Of this many rounds, of these images: what another run found is not this one's.
    let images = setting("KUSTODY_BIN").split('/').rev().nth(1).unwrap_or_default().to_owned();
    let progress = format!("target/prove/kill-{seed}-{rounds}-{images}.progress");
    let done = report.resume(&progress);
    std::fs::create_dir_all("target/prove").expect("target/prove");
    let mut kept = std::fs::OpenOptions::new().create(true).append(true).open(&progress).expect("the progress");
    for number in done..matrix + rounds {
        let round = if number < matrix { of_matrix(seed, number) } else { at_random(seed, number, short) };
        let what = if round.stop { "stopped" } else { "killed" };
        let name = format!("{number}: {} {what} {} ms into {}", round.victim, round.delay.as_millis(), round.operation);
        let failure = report.check(&name, AssertUnwindSafe(|| operations::play(&round)));
        writeln!(kept, "{}", json!({"failure": failure})).expect("the progress");
        // An interrupted run goes on in another cluster: what this one shows is looked at now and then.
        if number % 50 == 49 || number + 1 == matrix + rounds {
            report.check(&format!("{number}: one key for each object, none lost and none doubled"), checks::one_key_each);
            report.check(&format!("{number}: no audit record is lost, and the chain is unbroken"), checks::audited);
        }
    }
    let _ = std::fs::remove_file(progress);
    report
}

fn of_matrix(seed: u64, number: u64) -> Round {
    let columns = VICTIMS.len() as u64 + 1;
    let (operation, takes) = OPERATIONS[usize::try_from(number / columns).unwrap_or_default()];
    let victim = VICTIMS.get(usize::try_from(number % columns).unwrap_or_default()).copied();
    let delay = Duration::from_millis(Rng::new(seed, number).below(takes));
    Round { number, operation, victim: victim.unwrap_or("controller"), stop: victim.is_none(), delay }
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
    Round { number, operation, victim, stop, delay: Duration::from_millis(rng.below(takes)) }
}

/// Kills the round's victim, or stops the leader until its lease has run out and another leads.
pub fn strike(round: &Round) {
    std::thread::sleep(round.delay);
    if round.stop {
        let leader = within(BACK, "a leader that lives", || {
            let holder = leader()?;
            signal("controller", "STOP", &holder).map(|()| holder)
        });
        within(BACK, "the lease to change hands", || self::leader().and_then(|other| if other == leader { Err(other) } else { Ok(()) }));
        // Its liveness probe may have ended it meanwhile.
        let _ = signal("controller", "CONT", &leader);
    } else {
        let from = Instant::now();
        // A role that is just starting again has no process to kill yet.
        within(BACK, &format!("{} to be there", round.victim), || signal(round.victim, "KILL", ""));
        if from.elapsed() > Duration::from_secs(5) {
            println!("      {} was away for {} s", round.victim, from.elapsed().as_secs());
        }
    }
}

fn leader() -> Result<String, String> {
    let said = kubectl(&["-n", SYSTEM, "get", "lease", "kustody-controller", "-o", "jsonpath={.spec.holderIdentity}"]);
    if !said.ok {
        return Err(said.err);
    }
    let pod = kubectl(&["-n", SYSTEM, "get", "pod", &said.out, "-o", "name"]);
    if pod.ok && !said.out.is_empty() { Ok(said.out) } else { Err(format!("the lease is held by {:?}", said.out)) }
}

fn signal(victim: &str, signal: &str, pod: &str) -> Result<(), String> {
    let said = run(&setting("KUSTODY_KILL"), &[victim, signal, pod], b"");
    if said.ok { Ok(()) } else { Err(said.err) }
}
