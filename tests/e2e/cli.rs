//! What `kubectl kustody` says of a live cluster, and what it asks of it.

use serde_json::{Value, json};

use crate::exclusive::{audit_directory, on_node};
use crate::harness::canary::canary;
use crate::harness::home::Home;
use crate::harness::{Said, apply, eventually, objects, run, setting};

fn kustody(arguments: &[&str], input: &[u8]) -> Said {
    run(&format!("{}/kubectl-kustody", setting("KUSTODY_BIN")), arguments, input)
}

fn explained(home: &Home, target: &str) -> Value {
    serde_json::from_str(&kustody(&["explain", target, "-n", &home.name, "-o", "json"], b"").good()).unwrap()
}

fn part<'a>(report: &'a Value, binding: &str) -> &'a Value {
    report["bindings"].as_array().unwrap().iter().find(|part| part["binding"] == binding).unwrap()
}

#[test]
fn explain_says_what_a_pod_was_given_and_which_bindings_do_not_serve_it() {
    let home = Home::new("explain");
    let value = canary();
    home.key();
    home.binding(&value);
    let mut other = objects::binding(&home.name, "other", &home.seal("other", "token", &canary()));
    other["spec"]["workloads"]["serviceAccounts"] = json!(["somebody-else"]);
    apply(&other).good();
    apply(&objects::pod(&home.name, "train", objects::PRINT_DIGESTS)).good();
    home.pod("train");

    let report = explained(&home, "pod/train");
    assert_eq!(report["outcome"], "injected", "{report}");
    assert_eq!(report["agent"]["state"], "delivered", "{report}");
    assert_eq!(report["identity"], format!("system:serviceaccount:{}:trainer", home.name));
    let trainer = part(&report, "trainer");
    assert_eq!(trainer["containers"], json!(["main"]));
    assert_eq!(trainer["files"][0]["name"], "/var/run/secrets/kustody.dev/trainer/token");
    assert_eq!(trainer["variables"][0]["name"], "TOKEN");
    assert_eq!(trainer["secrets"][0]["given"], true);
    let because = part(&report, "other")["because"].as_str().unwrap();
    assert!(because.contains("serviceAccounts do not name service account trainer"), "{because}");
    let text = kustody(&["explain", "pod/train", "-n", &home.name], b"").good();
    assert!(text.contains("SecretBinding trainer serves main") && !text.contains(&value), "{text}");
}

#[test]
fn explain_says_why_the_pods_of_a_job_are_denied_in_the_webhook_s_words() {
    let home = Home::new("explaindeny");
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train", "namespace": home.name},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"kustody.dev/inject": "true"}}, "spec": objects::pod_spec("true")}},
    });
    apply(&job).good();
    let event = home.event("train", "SecretBinding");
    let report = explained(&home, "job/train");
    assert_eq!(report["outcome"], "wouldBeDenied", "{report}");
    let because = report["because"].as_str().unwrap();
    assert!(event.contains(because), "{event}\n{because}");
    let gone = kustody(&["explain", "pod/train", "-n", &home.name], b"").refused();
    assert!(gone.contains("explain job/NAME"), "{gone}");
}

#[test]
fn explain_tells_a_pod_that_does_not_ask_from_one_whose_agent_waits() {
    let home = Home::new("explainwait");
    home.key();
    home.binding(&canary());
    let mut quiet = objects::pod(&home.name, "quiet", "true");
    quiet["metadata"]["labels"] = json!({});
    apply(&quiet).good();
    let report = explained(&home, "pod/quiet");
    assert_eq!(report["outcome"], "leftAlone", "{report}");
    assert!(part(&report, "trainer")["because"].as_str().unwrap().contains("does not ask"), "{report}");

    // It was admitted with a plan, and nothing of it starts.
    let mut pod = objects::pod(&home.name, "waits", "true");
    pod["spec"]["schedulingGates"] = json!([{"name": "kustody.dev/e2e"}]);
    apply(&pod).good();
    let report = explained(&home, "pod/waits");
    assert_eq!((&report["outcome"], &report["agent"]["state"]), (&json!("injected"), &json!("notStarted")), "{report}");
    assert_eq!(part(&report, "trainer")["secrets"][0]["given"], false, "{report}");
}

#[test]
fn a_preview_is_the_pod_that_the_api_server_would_make() {
    let home = Home::new("preview");
    home.key();
    home.binding(&canary());
    let pod = objects::pod(&home.name, "train", "true").to_string();
    let previewed: Value =
        serde_json::from_str(&kustody(&["inject", "-f", "-", "--from-cluster", "-o", "json"], pod.as_bytes()).good()).unwrap();
    let made = run("kubectl", &["create", "--dry-run=server", "-o", "json", "-f", "-"], pod.as_bytes()).good();
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(previewed["metadata"]["annotations"]["kustody.dev/injected"], made["metadata"]["annotations"]["kustody.dev/injected"]);
    let (ours, theirs) = (&previewed["spec"]["initContainers"][0], &made["spec"]["initContainers"][0]);
    for field in ["name", "image", "args", "env", "resources", "securityContext", "volumeMounts"] {
        assert_eq!(ours[field], theirs[field], "{field}");
    }
    assert_eq!(previewed["spec"]["containers"][0]["env"][0]["name"], made["spec"]["containers"][0]["env"][0]["name"]);

    let mut stranger = objects::pod(&home.name, "stranger", "true");
    stranger["spec"]["serviceAccountName"] = json!("default");
    let said = kustody(&["inject", "-f", "-", "--from-cluster"], stranger.to_string().as_bytes()).refused();
    let denied = apply(&stranger).refused();
    let why = said.split("Kustody: ").nth(1).unwrap().trim();
    assert!(denied.contains(why), "{denied}\n{why}");
}

#[test]
fn a_rotation_that_is_asked_for_is_waited_for_and_what_was_sealed_before_still_opens() {
    let home = Home::new("rotate");
    home.key();
    home.binding(&canary());
    let said = kustody(&["rotate", "team-key", "-n", &home.name, "--wait", "-o", "json"], b"").good();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["rotated"], true, "{said}");
    let key = home.ready("encryptionkey", "team-key");
    assert_eq!(key["status"]["rotation"]["lastRequest"], said["request"]);
    assert_eq!(key["spec"]["rotation"]["request"], said["request"]);
    home.ready("secretbinding", "trainer");
    apply(&objects::pod(&home.name, "train", "test -n \"$TOKEN\"")).good();
    assert_eq!(home.pod("train")["status"]["phase"], "Succeeded");
}

/// How often the controller had the binding opened, by the broker's audit records.
fn inspections(uid: &str) -> usize {
    let log = on_node(&format!("cat $(find {} -type f -name '*.jsonl' | sort)", audit_directory())).good();
    log.lines().filter(|line| line.contains("\"Inspect\"") && line.contains(uid)).count()
}

#[test]
fn a_refresh_has_every_secret_of_the_binding_resolved_again() {
    let home = Home::new("refresh");
    home.key();
    let binding = home.binding(&canary());
    let uid = binding["metadata"]["uid"].as_str().unwrap();
    let before = inspections(uid);
    assert!(before > 0, "the binding was inspected before it was ready");
    kustody(&["refresh", "trainer", "-n", &home.name], b"").good();
    eventually("the binding to be inspected again", || {
        let now = inspections(uid);
        if now > before { Ok(()) } else { Err(format!("{now} inspections")) }
    });
    let token = |home: &Home| home.get("secretbinding", "trainer")["metadata"]["annotations"]["kustody.dev/refresh-requested"].clone();
    let first = token(&home);
    kustody(&["refresh", "trainer", "-n", &home.name], b"").good();
    assert!(first.is_string() && token(&home) != first, "each request has a token of its own");
    home.ready("secretbinding", "trainer");
}
