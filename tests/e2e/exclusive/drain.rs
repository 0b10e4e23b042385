//! Replicas that end let their clients go first.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::canary::canary;
use crate::harness::home::Home;
use crate::harness::{SYSTEM, eventually, kubectl, objects, run};

/// How many stream pods at the same time.
const STREAMS: usize = 3;

/// The webhook's pods, also those that end.
fn replicas() -> Vec<String> {
    let pods =
        kubectl(&["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component in (webhook,webhook-standby)", "-o", "name"]).good();
    pods.lines().map(ToOwned::to_owned).collect()
}

/// Ends the streams, also when what they are for fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_admission_fails_while_every_replica_of_the_webhook_is_replaced() {
    let home = Home::new("drain");
    home.key();
    home.binding(&canary());
    let pod = objects::pod(&home.name, "train", "true").to_string();
    let rolled = AtomicBool::new(false);
    let stream = || {
        let mut refusals = Vec::new();
        let mut asked = 0;
        while !rolled.load(Ordering::Relaxed) {
            let said = run("kubectl", &["create", "--dry-run=server", "-f", "-"], pod.as_bytes());
            asked += 1;
            if !said.ok {
                refusals.push(said.err);
            }
        }
        (asked, refusals)
    };
    std::thread::scope(|scope| {
        let ends = Ends(&rolled);
        let streams: Vec<_> = (0..STREAMS).map(|_| scope.spawn(stream)).collect();
        let old = replicas();
        let lanes = ["deployment/kustody-webhook", "deployment/kustody-webhook-standby"];
        let restarted = lanes.map(|lane| kubectl(&["-n", SYSTEM, "rollout", "restart", lane]));
        let done = lanes.map(|lane| kubectl(&["-n", SYSTEM, "rollout", "status", lane, "--timeout=180s"]));
        eventually("the last of the old replicas to have ended", || {
            let left: Vec<String> = replicas().into_iter().filter(|pod| old.contains(pod)).collect();
            if left.is_empty() { Ok(()) } else { Err(left.join(" ")) }
        });
        drop(ends);
        let streams: Vec<(usize, Vec<String>)> = streams.into_iter().map(|stream| stream.join().unwrap()).collect();
        assert!(!old.is_empty(), "there were replicas to be replaced");
        for said in restarted.iter().chain(&done) {
            assert!(said.ok, "{}", said.err);
        }
        let asked: usize = streams.iter().map(|(asked, _)| asked).sum();
        let refusals: Vec<&String> = streams.iter().flat_map(|(_, refusals)| refusals).collect();
        assert!(asked > 50, "{asked} pods");
        assert!(refusals.is_empty(), "{} of {asked}: {:?}", refusals.len(), refusals.first());
    });
}
