//! Pods that should have secrets and have no agent are found and reported; those of an outage are in `exclusive::uninjected`.

use serde_json::{Value, json};

use crate::harness::canary::canary;
use crate::harness::home::Home;
use crate::harness::{SYSTEM, apply, condition, eventually, get, objects, run};

/// A pod that does not ask and stays.
pub fn silent(home: &Home, name: &str) -> Value {
    let mut pod = objects::pod(&home.name, name, "exec sleep 1000");
    pod["metadata"]["labels"] = json!({});
    pod
}

/// Creation times are of whole seconds: what is made after this is younger than what was made before.
pub fn a_second_later() {
    std::thread::sleep(std::time::Duration::from_millis(1100));
}

/// Waits until the condition `PodsWithoutSecrets` of binding `trainer` has this status; answers with its message.
pub fn pods_without_secrets(home: &Home, status: &str) -> String {
    eventually(&format!("PodsWithoutSecrets of {}/trainer to be {status}", home.name), || {
        let binding = home.get("secretbinding", "trainer");
        match condition(&binding, "PodsWithoutSecrets") {
            Some(found) if found["status"] == status => Ok(found["message"].as_str().unwrap().to_owned()),
            _ => Err(binding["status"].to_string()),
        }
    })
}

/// The gauge's value, all replicas of the controller together.
fn gauge(labels: &str) -> u64 {
    let pods = get(&["-n", SYSTEM, "pods", "-l", "app.kubernetes.io/component=controller", "--field-selector", "status.phase=Running"]);
    let metrics = pods["items"].as_array().unwrap().iter().map(|pod| {
        let address = format!("http://{}:8080/metrics", pod["status"]["podIP"].as_str().unwrap());
        run("curl", &["-s", &address], b"").good()
    });
    let line = format!("kustody_pods_without_secrets{{{labels}}} ");
    metrics.flat_map(|text| text.lines().filter_map(|found| found.strip_prefix(&line)?.parse::<u64>().ok()).collect::<Vec<_>>()).sum()
}

#[test]
fn a_pod_that_asks_and_has_no_agent_has_an_event_and_its_binding_a_condition_until_it_is_gone() {
    let home = Home::new("lacks");
    home.key();
    home.binding(&canary());
    pods_without_secrets(&home, "False");
    apply(&silent(&home, "lacks")).good();
    // Admission sees what is created: a label that comes later asks too late.
    home.kubectl(&["label", "pod", "lacks", "kustody.dev/inject=true"]).good();
    let message = pods_without_secrets(&home, "True");
    assert!(message.contains("lacks") && message.contains("1 live pods"), "{message}");
    let note = home.event("lacks", "has no agent");
    for part in ["kustody.dev/inject", "no controller", "SecretBinding trainer"] {
        assert!(note.contains(part), "{part}: {note}");
    }
    eventually("the metric to count it", || {
        let count = gauge("asks=\"label\",handling=\"no-controller\"");
        if count >= 1 { Ok(()) } else { Err(count.to_string()) }
    });
    home.kubectl(&["delete", "pod", "lacks", "--grace-period=0", "--force"]).good();
    pods_without_secrets(&home, "False");
}

#[test]
fn a_pod_that_is_older_than_its_binding_and_never_asked_is_not_missing_anything() {
    let home = Home::labelled("older", &json!({"kustody.dev/inject": "enabled"}));
    apply(&silent(&home, "older")).good();
    a_second_later();
    home.key();
    home.binding(&canary());
    let message = pods_without_secrets(&home, "False");
    assert!(message.contains("every live pod"), "{message}");
    let selected = home.get("secretbinding", "trainer")["status"]["matchingPods"].clone();
    assert_eq!(selected, 1, "the binding selects it all the same");
}
