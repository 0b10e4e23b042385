//! The long proofs, each on a cluster of its own: `make prove-NAME`; `scripts/prove.sh` starts it and installs the chart.

#![allow(unreachable_pub, missing_docs, dead_code, reason = "test code; the harness is shared with the end-to-end tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a proof that cannot run fails loudly")]

mod availability;
#[path = "../e2e/harness/mod.rs"]
mod harness;
mod kill;
mod report;
mod restart;
mod rng;
mod upgrade;

use harness::setting;

fn main() -> std::process::ExitCode {
    let rounds = setting("KUSTODY_PROVE_ROUNDS").parse().expect("a number of rounds");
    let seed = setting("KUSTODY_PROVE_SEED").parse().expect("a seed is a number");
    let report = match setting("KUSTODY_PROVE").as_str() {
        "availability" => availability::prove(rounds, seed),
        "upgrade" => upgrade::prove(rounds, seed),
        "restart" => restart::prove(),
        "kill" => kill::prove(rounds, seed),
        other => panic!("there is no proof {other}"),
    };
    report.finish()
}
