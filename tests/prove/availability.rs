//! No admission and no release fails while parts of the operator are replaced, rolled, killed or drained.

use std::panic::AssertUnwindSafe;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::canary::{canary, digest};
use crate::harness::home::Home;
use crate::harness::{SYSTEM, apply, eventually, get, kubectl, objects, run, setting, within};
use crate::report::Report;

/// Each disturbance, and what it does.
const DISTURBANCES: [(&str, fn()); 5] = [
    ("a rolling update", rolling),
    ("a chart upgrade", upgrading),
    ("a certificate roll", rolled),
    ("a killed replica", killed),
    ("a drained node", drained),
];

/// Each disturbance once, under a stream of `rounds` pod creations; the short form leaves out the roll of two minutes, which
/// the end-to-end tests see while pods start.
pub fn prove(rounds: u64, seed: u64) -> Report {
    let mut report = Report::new("availability", json!({"rounds": rounds, "seed": seed}));
    let home = Home::new("prove-available");
    home.key();
    let value = canary();
    home.binding(&value);
    let short = rounds < 1000;
    for (name, disturb) in DISTURBANCES.into_iter().filter(|(name, ..)| !short || *name != "a certificate roll") {
        report.check(name, AssertUnwindSafe(|| under_load(&home, &value, rounds, disturb)));
    }
    report
}

/// Disturbs while pods are admitted and released; none of either may fail.
pub fn under_load(home: &Home, value: &str, rounds: u64, disturb: fn()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let admissions = scope.spawn(|| admitted(home, rounds, &over));
        let running = scope.spawn(|| released(home, value, &over));
        // Also when the disturbance fails: the streams would go on for ever.
        let end = Over(&over);
        disturb();
        drop(end);
        let (admitted, failed) = admissions.join().unwrap_or_else(|why| std::panic::resume_unwind(why));
        let released = running.join().unwrap_or_else(|why| std::panic::resume_unwind(why));
        assert!(failed.is_empty(), "{} of {admitted} admissions failed, the first: {}", failed.len(), failed[0]);
        println!("      {admitted} pods admitted, {released} released, none failed");
    });
}

/// Ends the streams when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Creates pods as server-side dry runs, `rounds` of them and on until the disturbance is over; every one is admitted. Answers
/// with how many there were, and what failed.
fn admitted(home: &Home, rounds: u64, over: &AtomicBool) -> (u64, Vec<String>) {
    let (mut count, mut failed) = (0, Vec::new());
    while count < rounds || !over.load(Ordering::Relaxed) {
        let batch = 100;
        failed.append(&mut create(home, batch));
        count += batch as u64;
    }
    (count, failed)
}

/// Creates so many pods as a dry run: what failed, an error for each.
fn create(home: &Home, count: usize) -> Vec<String> {
    let mut pod = objects::pod(&home.name, "x", "true");
    pod["metadata"].as_object_mut().expect("metadata").remove("name");
    pod["metadata"]["generateName"] = json!("train-");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": vec![pod; count]});
    let said = run("kubectl", &["create", "--dry-run=server", "-o", "json", "-f", "-"], list.to_string().as_bytes());
    let mut failed: Vec<String> = said.err.lines().filter(|line| line.contains("rror")).map(str::to_owned).collect();
    // One object after the other, not a list.
    let pods: Vec<Value> = serde_json::Deserializer::from_str(&said.out).into_iter().map_while(Result::ok).collect();
    let bare = pods.iter().filter(|pod| pod["spec"]["initContainers"][0]["name"] != "kustody-agent").count();
    if bare > 0 || pods.len() + failed.len() != count {
        failed.push(format!("{} of {count} came back, {bare} of them without an agent", pods.len()));
    }
    failed
}

/// Runs pods one after the other; each has its secret, and its agent succeeds the first time.
fn released(home: &Home, value: &str, over: &AtomicBool) -> u32 {
    let mut count = 0;
    while count < 3 || !over.load(Ordering::Relaxed) {
        let name = format!("released-{}", crate::harness::unique());
        let mut pod = objects::pod(&home.name, &name, objects::PRINT_DIGESTS);
        // On the node that is not drained: it would end with it.
        pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "node1"});
        apply(&pod).good();
        let pod = home.pod(&name);
        assert_eq!(pod["status"]["initContainerStatuses"][0]["restartCount"], 0, "{}", pod["status"]);
        assert_eq!(home.logs(&name, "main"), format!("{0}\n{0}\n", digest(value)));
        home.kubectl(&["delete", "pod", &name, "--wait=false"]).good();
        count += 1;
    }
    count
}

/// Everything of ours that has replicas, of these kinds.
fn workloads(kinds: &str) -> Vec<String> {
    let found = kubectl(&["-n", SYSTEM, "get", kinds, "-l", "app.kubernetes.io/name=kustody", "-o", "name"]).good();
    found.lines().map(ToOwned::to_owned).collect()
}

/// Waits until every role is rolled out, and what it took the place of is gone.
pub fn settled() {
    for workload in workloads("deployments,statefulsets") {
        kubectl(&["-n", SYSTEM, "rollout", "status", &workload, "--timeout=3m"]).good();
    }
    within(Duration::from_mins(3), "replicas that were replaced to be gone", || {
        let pods = get(&["-n", SYSTEM, "pods", "-l", "app.kubernetes.io/name=kustody"]);
        let leaving = pods["items"].as_array().expect("a list").iter().find(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
        leaving.map_or(Ok(()), |pod| Err(pod["metadata"]["name"].to_string()))
    });
}

fn rolling() {
    for workload in workloads("deployments,statefulsets") {
        kubectl(&["-n", SYSTEM, "rollout", "restart", &workload]).good();
    }
    settled();
}

fn upgrading() {
    let helm =
        ["upgrade", "kustody", "charts/kustody", "-n", SYSTEM, "--reuse-values", "--set", "logLevel=debug", "--wait", "--timeout", "4m"];
    let said = Command::new("helm").args(helm).stdin(Stdio::null()).output().expect("helm");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    settled();
}

/// Another authority signs, and every certificate is renewed.
fn rolled() {
    let authority = || kubectl(&["-n", SYSTEM, "get", "secret", "kustody-ca", "-o", "jsonpath={.data.ca\\.crt}"]).good();
    let old = authority();
    let asks = format!("kustody.dev/roll={}", crate::harness::unique());
    kubectl(&["-n", SYSTEM, "annotate", "secret", "kustody-ca", &asks, "--overwrite"]).good();
    within(Duration::from_mins(6), "another authority to sign", || {
        if authority() == old { Err("the old one signs".to_owned()) } else { Ok(()) }
    });
    let bundle = || kubectl(&["-n", SYSTEM, "get", "secret", "kustody-webhook-tls", "-o", "jsonpath={.data.ca\\.crt}"]).good();
    within(Duration::from_mins(6), "the old root to leave the bundles", || {
        if bundle() == authority() { Ok(()) } else { Err("it is there".to_owned()) }
    });
}

/// Each replica of webhook and standby in turn, a broker, and the controller.
fn killed() {
    let pods = |component: &str| {
        let label = format!("app.kubernetes.io/component={component}");
        let pods = kubectl(&["-n", SYSTEM, "get", "pods", "-l", &label, "-o", "jsonpath={.items[*].metadata.name}"]).good();
        pods.split(' ').map(|pod| ("webhook", component.to_owned(), pod.to_owned())).collect::<Vec<_>>()
    };
    let others =
        ["broker", "controller"].map(|role| (role, role.to_owned(), if role == "broker" { "kustody-broker-0" } else { "" }.to_owned()));
    for (role, component, pod) in pods("webhook").into_iter().chain(pods("webhook-standby")).chain(others) {
        let before = restarts(&component);
        run(&setting("KUSTODY_KILL"), &[role, "KILL", &pod], b"").good();
        eventually(&format!("{pod} to be started again"), || if restarts(&component) > before { Ok(()) } else { Err(before.to_string()) });
        settled();
    }
}

/// How often containers of this role were started again.
fn restarts(role: &str) -> u64 {
    let pods = get(&["-n", SYSTEM, "pods", "-l", &format!("app.kubernetes.io/component={role}")]);
    let statuses =
        pods["items"].as_array().expect("a list").iter().filter_map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64());
    statuses.sum()
}

/// The second node is emptied: what can goes elsewhere, and the broker whose volume is there waits while the other releases.
fn drained() {
    let there = kubectl(&["-n", SYSTEM, "get", "pods", "--field-selector=spec.nodeName=node2", "-o", "name"]).good();
    // A webhook, be it the standby, and a broker.
    for role in ["kustody-webhook", "kustody-broker"] {
        assert!(there.contains(role), "a replica of {role} is drained with the node: {there}");
    }
    kubectl(&["drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=3m"]).good();
    for workload in workloads("deployments") {
        kubectl(&["-n", SYSTEM, "rollout", "status", &workload, "--timeout=3m"]).good();
    }
    kubectl(&["uncordon", "node2"]).good();
    settled();
}
