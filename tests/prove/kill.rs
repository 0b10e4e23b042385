//! Everything is killed at any moment of everything that has steps: one key for each object, none lost, none doubled, no
//! audit record lost, no pod stuck once all is back.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::canary::{canary, digest};
use crate::harness::{SYSTEM, Said, apply, condition, get, kubectl, objects, run, setting, within};
use crate::report::Report;
use crate::rng::Rng;

const NAMESPACE: &str = "prove-kill";
const VICTIMS: [&str; 5] = ["controller", "broker", "webhook", "kube-apiserver", "etcd"];
const OPERATIONS: [&str; 4] = ["create", "rotate", "retire", "release"];
/// Longer than the controller's lease.
const STOPPED: Duration = Duration::from_secs(20);
/// The longest that an operation takes when nothing dies, in ms: kills are spread over it.
const SPREAD: u64 = 1500;

/// One round.
struct Round {
    number: u64,
    operation: &'static str,
    victim: &'static str,
    stop: bool,
    delay: Duration,
}

/// Each operation with each victim and with a stopped leader, then at random until `rounds` are done.
pub fn prove(rounds: u64, seed: u64) -> Report {
    println!("about {} minutes", (rounds * 9 + OPERATIONS.len() as u64 * 25) / 60 + 1);
    let mut report = Report::new("kill", json!({"rounds": rounds, "seed": seed}));
    begin();
    let done = std::fs::read_to_string(progress(seed)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    for number in done..rounds {
        let round = round(seed, number);
        let what = if round.stop { "stopped" } else { "killed" };
        let name = format!("{number}: {} {what} {} ms into {}", round.victim, round.delay.as_millis(), round.operation);
        report.check(&name, AssertUnwindSafe(|| play(&round)));
        std::fs::create_dir_all("target/prove").expect("target/prove");
        std::fs::write(progress(seed), (number + 1).to_string()).expect("the progress");
    }
    report.check("one key for each object, none lost and none doubled", one_key_each);
    report.check("no audit record is lost, and the chain is unbroken", audited);
    let _ = std::fs::remove_file(progress(seed));
    report
}

/// A run that was interrupted goes on where it was.
fn progress(seed: u64) -> String {
    format!("target/prove/kill-{seed}.progress")
}

fn round(seed: u64, number: u64) -> Round {
    let mut rng = Rng::new(seed, number);
    let matrix = (OPERATIONS.len() * VICTIMS.len()) as u64;
    let index = |at: u64, all: &[&'static str]| all[usize::try_from(at).unwrap_or_default() % all.len()];
    let delay = Duration::from_millis(rng.below(SPREAD));
    if number < matrix {
        let victims = VICTIMS.len() as u64;
        return Round {
            number,
            operation: index(number / victims, &OPERATIONS),
            victim: index(number % victims, &VICTIMS),
            stop: false,
            delay,
        };
    }
    let stop = number < matrix + OPERATIONS.len() as u64;
    let operation = if stop { index(number - matrix, &OPERATIONS) } else { index(rng.below(64), &OPERATIONS) };
    let victim = if stop { "controller" } else { index(rng.below(64), &VICTIMS) };
    Round { number, operation, victim, stop, delay }
}

fn begin() {
    insist(|| {
        apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {"kustody.dev/e2e": "true"}}}))
    });
    insist(|| apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainer", "namespace": NAMESPACE}})));
    insist(|| apply(&objects::provider("local")));
}

/// Waits as long as a cluster may need that lost its store.
fn patiently<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    within(Duration::from_mins(5), what, look)
}

/// Repeats what fails while parts of the cluster are down.
fn insist(act: impl Fn() -> Said) -> String {
    patiently("the cluster to answer", || {
        let said = act();
        if said.ok { Ok(said.out) } else { Err(said.err) }
    })
}

fn signal(victim: &str, signal: &str, pod: &str) {
    let said = run(&setting("KUSTODY_KILL"), &[victim, signal, pod], b"");
    // A role that is just starting again has no process to kill.
    assert!(said.ok || said.err.contains("no process") || said.err.contains("No such process"), "{}", said.err);
}

fn strike(round: &Round) {
    std::thread::sleep(round.delay);
    if round.stop {
        let lease = kubectl(&["-n", SYSTEM, "get", "lease", "kustody-controller", "-o", "jsonpath={.spec.holderIdentity}"]).out;
        let pods = kubectl(&[
            "-n",
            SYSTEM,
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/component=controller",
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ])
        .out;
        let leader = pods.split(' ').find(|pod| !pod.is_empty() && lease.contains(*pod)).unwrap_or_default();
        signal("controller", "STOP", leader);
        std::thread::sleep(STOPPED);
        signal("controller", "CONT", leader);
    } else {
        signal(round.victim, "KILL", "");
    }
}

fn play(round: &Round) {
    let name = format!("k{}", round.number);
    let key = || get_live("encryptionkey", &name);
    if round.operation == "create" {
        beside(round, || drop(insist(|| apply(&objects::key(NAMESPACE, &name)))));
        ready("encryptionkey", &name);
        assert_eq!(key()["status"]["versions"].as_array().map(Vec::len), Some(1));
        return;
    }
    insist(|| apply(&objects::key(NAMESPACE, &name)));
    ready("encryptionkey", &name);
    match round.operation {
        "rotate" => {
            beside(round, || patch(&name, &json!({"rotation": {"request": name}})));
            patiently("the rotation", || {
                let key = key();
                let done = key["status"]["rotation"]["lastRequest"] == name.as_str() && key["status"]["sealingKey"]["version"] == 2;
                if done { Ok(()) } else { Err(key["status"].to_string()) }
            });
            ready("encryptionkey", &name);
            assert_eq!(key()["status"]["versions"].as_array().map(Vec::len), Some(2), "rotated exactly once");
        }
        "retire" => {
            beside(round, || patch(&name, &json!({"desiredState": "Disabled"})));
            state(&name, "Disabled");
            patch(&name, &json!({"desiredState": "Enabled"}));
            ready("encryptionkey", &name);
            state(&name, "Enabled");
        }
        _ => released(round, &name),
    }
}

/// A pod gets its secret, whatever dies meanwhile.
fn released(round: &Round, name: &str) {
    let value = canary();
    let document = tempfile::NamedTempFile::new().unwrap();
    let key = get_live("encryptionkey", name);
    std::fs::write(document.path(), key["status"]["sealingKey"]["document"].as_str().unwrap()).unwrap();
    let program = format!("{}/kubectl-kustody", setting("KUSTODY_BIN"));
    let arguments = ["seal", "--key-document", document.path().to_str().unwrap(), "--binding", name, "--secret", "token"];
    let sealed = run(&program, &arguments, value.as_bytes()).good();
    let mut binding = objects::binding(NAMESPACE, name, sealed.trim());
    binding["spec"]["secrets"][0]["sealed"]["key"] = json!(name);
    insist(|| apply(&binding));
    ready("secretbinding", name);
    let script = objects::PRINT_DIGESTS.replace("/trainer/", &format!("/{name}/"));
    let mut pod = objects::pod(NAMESPACE, name, &script);
    pod["metadata"]["labels"]["kustody.dev/inject"] = json!(name);
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    beside(round, || drop(insist(|| apply(&pod))));
    patiently("the pod to end", || {
        let pod = get_live("pod", name);
        if pod["status"]["phase"] == "Succeeded" { Ok(()) } else { Err(pod["status"].to_string()) }
    });
    let said = insist(|| kubectl(&["-n", NAMESPACE, "logs", name, "-c", "main"]));
    assert_eq!(said, format!("{0}\n{0}\n", digest(&value)));
}

/// Does something while the victim is struck.
fn beside(round: &Round, act: impl FnOnce()) {
    std::thread::scope(|scope| {
        let striking = scope.spawn(|| strike(round));
        act();
        striking.join().expect("the strike");
    });
}

fn patch(name: &str, spec: &Value) {
    let patch = json!({"spec": spec}).to_string();
    insist(|| kubectl(&["-n", NAMESPACE, "patch", "encryptionkey", name, "--type=merge", "-p", &patch]));
}

fn get_live(kind: &str, name: &str) -> Value {
    serde_json::from_str(&insist(|| kubectl(&["-n", NAMESPACE, "get", kind, name, "-o", "json"]))).unwrap()
}

fn ready(kind: &str, name: &str) {
    patiently(&format!("{kind} {name} Ready"), || {
        let object = get_live(kind, name);
        match condition(&object, "Ready") {
            Some(ready) if ready["status"] == "True" && ready["observedGeneration"] == object["metadata"]["generation"] => Ok(()),
            _ => Err(object["status"].to_string()),
        }
    });
}

fn state(name: &str, wanted: &str) {
    patiently(&format!("key {name} {wanted}"), || {
        let key = get_live("encryptionkey", name);
        let settled = key["status"]["state"] == wanted && key["status"]["pendingOperation"].is_null();
        if settled { Ok(()) } else { Err(key["status"].to_string()) }
    });
}

fn one_key_each() {
    let keys = get(&["-n", NAMESPACE, "encryptionkeys"]);
    let records = get(&["-n", SYSTEM, "secrets", "-l", "kustody.dev/local-key=true"]);
    let mut ids: Vec<&str> = records["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|record| record["metadata"]["annotations"]["kustody.dev/key-id"].as_str())
        .collect();
    ids.retain(|id| id.starts_with(&format!("{NAMESPACE}/")));
    let mut held: Vec<&str> = keys["items"].as_array().unwrap().iter().map(|key| key["status"]["keyId"].as_str().unwrap()).collect();
    ids.sort_unstable();
    held.sort_unstable();
    assert_eq!(ids, held);
}

/// Every pod that has its secrets has a record of their release, and the chain of all records is whole.
fn audited() {
    let claim = get(&["-n", SYSTEM, "pvc", "audit-kustody-broker-0"]);
    let volume = get(&["pv", claim["spec"]["volumeName"].as_str().unwrap()]);
    let directory = volume["spec"]["local"]["path"].as_str().unwrap().to_owned();
    let text =
        run(&setting("KUSTODY_ON_NODE"), &["sh", "-c", &format!("cat $(find {directory} -type f -name '*.jsonl' | sort)")], b"").good();
    kustody_core::audit::verify(None, text.lines()).expect("an unbroken chain");
    let pods = get(&["-n", NAMESPACE, "pods"]);
    for pod in pods["items"].as_array().unwrap() {
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        assert!(
            text.lines().any(|line| line.contains(uid) && line.contains("\"Release\"")),
            "no record of the release to {}",
            pod["metadata"]["name"]
        );
    }
}
