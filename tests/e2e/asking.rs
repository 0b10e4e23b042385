//! Which pods ask, and what they are told.

use serde_json::{Value, json};

use crate::harness::canary::canary;
use crate::harness::home::Home;
use crate::harness::{apply, eventually, kubectl, objects};

fn is_injected(pod: &Value) -> bool {
    pod["metadata"]["annotations"]["kustody.dev/injected"].is_string()
}

fn unlabelled(home: &Home, name: &str) -> Value {
    let mut pod = objects::pod(&home.name, name, "true");
    pod["metadata"]["labels"] = json!({});
    pod
}

#[test]
fn an_asking_pod_without_a_binding_is_denied_with_the_reason() {
    let home = Home::new("asking");
    let refusal = apply(&objects::pod(&home.name, "train", "true")).refused();
    assert!(refusal.contains("SecretBinding") && refusal.contains("trainer"), "{refusal}");
}

#[test]
fn a_binding_that_is_not_ready_denies_and_says_why() {
    let home = Home::new("notready");
    home.key();
    apply(&objects::binding(&home.name, "trainer", "AgEBQ")).good();
    home.not_ready("secretbinding", "trainer", "SealedValueInvalid");
    let refusal = eventually("the refusal to name the cause", || {
        let refusal = apply(&objects::pod(&home.name, "train", "true")).refused();
        if refusal.contains("SealedValueInvalid") { Ok(refusal) } else { Err(refusal) }
    });
    assert!(refusal.contains("spec.secrets[token].sealed.value"), "{refusal}");
}

#[test]
fn a_pod_that_asks_for_a_binding_by_name_is_served_by_that_one() {
    let home = Home::new("byname");
    home.key();
    for name in ["one", "two"] {
        let sealed = home.seal(name, "token", &canary());
        let mut binding = objects::binding(&home.name, name, &sealed);
        binding["spec"]["deliver"]["env"] = json!([]);
        apply(&binding).good();
        home.ready("secretbinding", name);
    }
    let mut pod = objects::pod(&home.name, "train", "ls /var/run/secrets/kustody.dev");
    pod["metadata"]["labels"]["kustody.dev/inject"] = json!("two");
    apply(&pod).good();
    home.pod("train");
    assert_eq!(home.logs("train", "main"), "two\n");
    let mut missing = objects::pod(&home.name, "missing", "true");
    missing["metadata"]["labels"]["kustody.dev/inject"] = json!("three");
    let refusal = apply(&missing).refused();
    assert!(refusal.contains("three"), "{refusal}");
}

#[test]
fn a_pod_that_says_false_or_nothing_is_left_alone() {
    let home = Home::new("silent");
    home.key();
    home.binding(&canary());
    let mut pod = objects::pod(&home.name, "no", "true");
    pod["metadata"]["labels"]["kustody.dev/inject"] = json!("false");
    apply(&pod).good();
    apply(&unlabelled(&home, "silent")).good();
    for name in ["no", "silent"] {
        let pod = home.get("pod", name);
        assert!(!is_injected(&pod) && pod["spec"]["initContainers"].is_null(), "{pod}");
    }
}

#[test]
fn a_namespace_that_is_enabled_offers_its_pods_to_the_bindings() {
    let home = Home::labelled("enabled", &json!({"kustody.dev/inject": "enabled"}));
    home.key();
    home.binding(&canary());
    apply(&unlabelled(&home, "selected")).good();
    assert!(is_injected(&home.get("pod", "selected")));
    let mut other = unlabelled(&home, "other");
    other["spec"]["serviceAccountName"] = json!("default");
    apply(&other).good();
    assert!(!is_injected(&home.get("pod", "other")));
}

#[test]
fn in_a_namespace_that_is_required_every_pod_asks_unless_it_says_false() {
    let home = Home::labelled("required", &json!({"kustody.dev/inject": "required"}));
    let refusal = apply(&unlabelled(&home, "asks")).refused();
    assert!(refusal.contains("SecretBinding"), "{refusal}");
    let mut pod = objects::pod(&home.name, "no", "true");
    pod["metadata"]["labels"]["kustody.dev/inject"] = json!("false");
    apply(&pod).good();
}

#[test]
fn a_variable_that_the_container_already_sets_denies_the_pod_by_container_and_name() {
    let home = Home::new("taken");
    home.key();
    home.binding(&canary());
    let mut pod = objects::pod(&home.name, "train", "true");
    pod["spec"]["containers"][0]["env"] = json!([{"name": "TOKEN", "value": "mine"}]);
    let refusal = apply(&pod).refused();
    assert!(refusal.contains("main") && refusal.contains("TOKEN"), "{refusal}");
}

#[test]
fn a_controller_s_events_carry_the_reason_and_its_pod_starts_once_the_binding_is_there() {
    let home = Home::new("later");
    home.key();
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train", "namespace": home.name},
        "spec": {"backoffLimit": 0, "template": {
            "metadata": {"labels": {"kustody.dev/inject": "true"}},
            "spec": objects::pod_spec("test -s /var/run/secrets/kustody.dev/trainer/token && test -n \"$TOKEN\""),
        }},
    });
    apply(&job).good();
    home.event("train", "SecretBinding");
    home.binding(&canary());
    eventually("the job to complete", || {
        let job = home.get("job", "train");
        if job["status"]["succeeded"] == 1 { Ok(()) } else { Err(job["status"].to_string()) }
    });
}

#[test]
fn a_dry_run_shows_the_pod_that_would_be() {
    let home = Home::new("dryrun");
    home.key();
    home.binding(&canary());
    let pod = objects::pod(&home.name, "train", "true").to_string();
    let shown = crate::harness::run("kubectl", &["create", "--dry-run=server", "-o", "json", "-f", "-"], pod.as_bytes()).good();
    assert!(is_injected(&serde_json::from_str(&shown).unwrap()));
    assert!(!kubectl(&["-n", &home.name, "get", "pod", "train"]).ok);
}
