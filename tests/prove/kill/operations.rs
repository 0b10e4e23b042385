//! What is under way when something dies.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::canary::{canary, digest};
use crate::harness::{SYSTEM, Said, apply, condition, kubectl, objects, run, setting, within};

use super::Round;
use super::steps::Log;
use super::strike::{Armed, strike};

pub const NAMESPACE: &str = "prove-kill";
const ROLL: Duration = Duration::from_mins(8);

pub fn begin() {
    insist(|| {
        apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {"kustody.dev/e2e": "true"}}}))
    });
    insist(|| apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainer", "namespace": NAMESPACE}})));
    insist(|| apply(&objects::provider("local")));
}

/// One operation with its strike; everything is as it should be afterwards.
pub fn play(round: &Round) {
    let name = round.object();
    let key = || get_live(&["-n", NAMESPACE, "encryptionkey", &name]);
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
            beside(round, || patch(&name, &json!({"desiredState": "PendingDeletion", "deletion": {"windowDays": 7}})));
            state(&name, "PendingDeletion");
            assert!(key()["status"]["deletionTime"].is_string());
            patch(&name, &json!({"desiredState": "Enabled"}));
            ready("encryptionkey", &name);
            state(&name, "Enabled");
        }
        "roll" => rolled(round, &name),
        _ => released(Some(round), &name),
    }
}

/// The authority is succeeded, and a pod gets its secret afterwards.
fn rolled(round: &Round, name: &str) {
    let authority = || get_live(&["-n", SYSTEM, "secret", "kustody-ca"])["data"]["ca.crt"].clone();
    let old = authority();
    beside(round, || {
        let asks = format!("kustody.dev/roll={name}");
        insist(|| kubectl(&["-n", SYSTEM, "annotate", "secret", "kustody-ca", &asks, "--overwrite"]));
        within(ROLL, "another authority to sign", || if authority() == old { Err("the old one signs".to_owned()) } else { Ok(()) });
    });
    released(None, name);
}

/// A pod gets its secret, whatever dies meanwhile.
fn released(round: Option<&Round>, name: &str) {
    let value = canary();
    let document = tempfile::NamedTempFile::new().unwrap();
    let key = get_live(&["-n", NAMESPACE, "encryptionkey", name]);
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
    let create = || drop(insist(|| apply(&pod)));
    match round {
        Some(round) => beside(round, create),
        None => create(),
    }
    patiently("the pod to end", || {
        let pod = get_live(&["-n", NAMESPACE, "pod", name]);
        if pod["status"]["phase"] == "Succeeded" { Ok(()) } else { Err(pod["status"].to_string()) }
    });
    let said = insist(|| kubectl(&["-n", NAMESPACE, "logs", name, "-c", "main"]));
    assert_eq!(said, format!("{0}\n{0}\n", digest(&value)));
}

/// Does something while the victim is struck.
fn beside(round: &Round, act: impl FnOnce()) {
    let (log, armed) = (Log::new(&round.object()), Armed::new(round));
    std::thread::scope(|scope| {
        let striking = scope.spawn(|| strike(round, log, armed));
        act();
        striking.join().unwrap_or_else(|why| std::panic::resume_unwind(why));
    });
}

/// Waits as long as a cluster may need that lost its store, and says so when it was long.
fn patiently<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    let from = Instant::now();
    let found = within(Duration::from_mins(5), what, look);
    if from.elapsed() > Duration::from_secs(20) {
        println!("      {what}: {} s", from.elapsed().as_secs());
    }
    found
}

/// Repeats what fails while parts of the cluster are down.
fn insist(act: impl Fn() -> Said) -> String {
    patiently("the cluster to answer", || {
        let said = act();
        if said.ok { Ok(said.out) } else { Err(said.err) }
    })
}

fn patch(name: &str, spec: &Value) {
    let patch = json!({"spec": spec}).to_string();
    insist(|| kubectl(&["-n", NAMESPACE, "patch", "encryptionkey", name, "--type=merge", "-p", &patch]));
}

fn get_live(what: &[&str]) -> Value {
    let all: Vec<&str> = ["get", "-o", "json"].iter().chain(what).copied().collect();
    serde_json::from_str(&insist(|| kubectl(&all))).unwrap()
}

fn ready(kind: &str, name: &str) {
    patiently(&format!("{kind} {name} Ready"), || {
        let object = get_live(&["-n", NAMESPACE, kind, name]);
        match condition(&object, "Ready") {
            Some(ready) if ready["status"] == "True" && ready["observedGeneration"] == object["metadata"]["generation"] => Ok(()),
            _ => Err(object["status"].to_string()),
        }
    });
}

fn state(name: &str, wanted: &str) {
    patiently(&format!("key {name} {wanted}"), || {
        let key = get_live(&["-n", NAMESPACE, "encryptionkey", name]);
        let settled = key["status"]["state"] == wanted && key["status"]["pendingOperation"].is_null();
        if settled { Ok(()) } else { Err(key["status"].to_string()) }
    });
}
