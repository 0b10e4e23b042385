//! Kills a program, or stops the leader, at a moment that is short.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{SYSTEM, kubectl, run, setting, within};

use super::steps::{self, Log};
use super::{Moment, Round};

/// How long a role may be away that is to be killed: the kubelet starts it again.
const BACK: Duration = Duration::from_mins(3);

/// Strikes when the round says, given what is written from now on.
pub fn strike(round: &Round, mut log: Log, armed: Armed) {
    match &round.moment {
        Moment::After(delay) => {
            std::thread::sleep(*delay);
            armed.strike();
        }
        Moment::Steps(wanted) => {
            let all = steps::of(round.operation);
            for step in &all[..wanted.start] {
                assert!(log.reaches(step), "{step} was not told");
            }
            let mut armed = Some(armed);
            for step in wanted.clone() {
                let armed = armed.take().unwrap_or_else(|| Armed::new(round));
                let told = log.reaches(all[step]);
                // What was written as the API server died may be missing in its log.
                assert!(told || wanted.len() > 1, "{} was not told", all[step]);
                armed.strike();
            }
        }
    }
}

/// A signal that only has to be sent: its processes are found.
pub struct Armed {
    victim: &'static str,
    /// The leader, where it is stopped.
    leader: Option<String>,
    sender: Child,
}

impl Armed {
    /// Finds whom the round strikes; a role that is just starting again has no process to kill yet.
    pub fn new(round: &Round) -> Self {
        let from = Instant::now();
        let armed = within(BACK, &format!("{} to be there", round.victim), || {
            let leader = if round.stop { Some(leader()?) } else { None };
            let signal = if round.stop { "STOP" } else { "KILL" };
            let mut command = Command::new(setting("KUSTODY_KILL"));
            command.args([round.victim, signal, leader.as_deref().unwrap_or_default(), "wait"]);
            let mut sender = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let mut said = String::new();
            BufReader::new(sender.stdout.take().unwrap()).read_line(&mut said).unwrap();
            // All replicas, so that the leader is among them.
            let replicas = match round.victim {
                "controller" if !round.stop => 2,
                // And its standby.
                "webhook" => 3,
                _ => 1,
            };
            if said.trim() == format!("ready {replicas}") {
                return Ok(Self { victim: round.victim, leader, sender });
            }
            drop(sender.stdin.take());
            sender.wait().unwrap();
            Err(format!("of {} there is {said:?}", round.victim))
        });
        if from.elapsed() > Duration::from_secs(5) {
            println!("      {} was away for {} s", round.victim, from.elapsed().as_secs());
        }
        armed
    }

    /// Kills, or stops the leader until its lease has run out and another leads.
    fn strike(mut self) {
        self.sender.stdin.take().unwrap().write_all(b"\n").unwrap();
        let sent = self.sender.wait().unwrap().success();
        let Some(leader) = self.leader else {
            // It has ended by itself meanwhile: whoever follows it is struck.
            if !sent {
                within(BACK, &format!("{} to be there", self.victim), || signal(self.victim, "KILL", ""));
            }
            return;
        };
        assert!(sent, "the leader {leader} was gone before it was stopped");
        within(BACK, "the lease to change hands", || self::leader().and_then(|other| if other == leader { Err(other) } else { Ok(()) }));
        // Its liveness probe may have ended it meanwhile.
        let _ = signal("controller", "CONT", &leader);
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
