//! States and rotations of keys, as a platform engineer changes them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::canary::{canary, digest};
use crate::harness::home::Home;
use crate::harness::{SYSTEM, apply, condition, eventually, get, objects, run, setting, within};

fn patch(home: &Home, spec: &Value) {
    let patch = json!({"spec": spec}).to_string();
    home.kubectl(&["patch", "encryptionkey", "team-key", "--type=merge", "-p", &patch]).good();
}

fn gated(home: &Home, name: &str) {
    let mut pod = objects::pod(&home.name, name, objects::PRINT_DIGESTS);
    pod["spec"]["schedulingGates"] = json!([{"name": "kustody.dev/e2e"}]);
    apply(&pod).good();
}

fn open_gate(home: &Home, pod: &str) {
    home.kubectl(&["patch", "pod", pod, "--type=json", "-p", r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#]).good();
}

#[test]
fn disabling_a_key_stops_release_within_sixty_seconds_also_of_what_the_broker_has_opened_before() {
    let home = Home::new("disabled");
    home.key();
    let value = canary();
    home.binding(&value);
    // The broker has the seed in memory when the key is disabled.
    apply(&objects::pod(&home.name, "before", objects::PRINT_DIGESTS)).good();
    home.pod("before");
    gated(&home, "train");
    let since = std::time::Instant::now();
    patch(&home, &json!({"desiredState": "Disabled"}));
    let left = || Duration::from_mins(1).saturating_sub(since.elapsed());
    within(left(), "the key to be disabled", || {
        let key = home.get("encryptionkey", "team-key");
        if key["status"]["state"] == "Disabled" { Ok(()) } else { Err(key["status"].to_string()) }
    });
    // The pod was admitted before; its agent asks, is told why not, and asks again.
    open_gate(&home, "train");
    within(left(), "the agent to be refused", || {
        let said = home.kubectl(&["logs", "train", "-c", "kustody-agent"]);
        if said.out.contains("spec.desiredState is Disabled") { Ok(()) } else { Err(said.out + &said.err) }
    });
    let message = home.not_ready("secretbinding", "trainer", "EncryptionKeyNotReady");
    assert!(message.contains("spec.desiredState is Disabled") && message.contains("set it to Enabled"), "{message}");
    patch(&home, &json!({"desiredState": "Enabled"}));
    home.ready("encryptionkey", "team-key");
    home.ready("secretbinding", "trainer");
    home.pod("train");
    assert_eq!(home.logs("train", "main"), format!("{0}\n{0}\n", digest(&value)));
}

#[test]
fn a_key_is_scheduled_for_deletion_only_when_no_binding_uses_it_or_the_spec_names_it_and_is_taken_back() {
    let home = Home::new("deletion");
    let id = home.key()["status"]["keyId"].as_str().unwrap().to_owned();
    home.binding(&canary());
    patch(&home, &json!({"desiredState": "PendingDeletion", "deletion": {"windowDays": 7}}));
    let message = eventually("the refusal", || {
        let key = home.get("encryptionkey", "team-key");
        match condition(&key, "Retiring") {
            Some(retiring) if retiring["reason"] == "InUse" => Ok(retiring["message"].as_str().unwrap().to_owned()),
            _ => Err(key["status"].to_string()),
        }
    });
    assert!(message.contains("trainer") && message.contains("spec.deletion.evenThoughUsedBy"), "{message}");
    assert_eq!(home.get("encryptionkey", "team-key")["status"]["state"], "Enabled");
    home.ready("secretbinding", "trainer");

    patch(&home, &json!({"deletion": {"evenThoughUsedBy": ["trainer"]}}));
    let message = home.not_ready("encryptionkey", "team-key", "PendingDeletion");
    assert!(message.contains(&id) && message.contains("set it to Enabled"), "{message}");
    let record = get(&["-n", SYSTEM, "secret", &format!("kustody-key-{}", id.rsplit('/').next().unwrap())]);
    assert_eq!(record["metadata"]["annotations"]["kustody.dev/key-state"], "\"PendingDeletion\"");
    let key = home.get("encryptionkey", "team-key");
    assert!(key["status"]["deletionTime"].is_string() && record["data"]["version-1"].is_string());

    patch(&home, &json!({"desiredState": "Enabled"}));
    home.ready("encryptionkey", "team-key");
    home.ready("secretbinding", "trainer");
    assert_eq!(home.get("encryptionkey", "team-key")["status"]["deletionTime"], Value::Null);
}

#[test]
fn a_request_rotates_once_old_values_open_and_reseal_brings_them_up_to_date_without_showing_them() {
    let home = Home::new("rotate");
    home.key();
    let value = canary();
    let sealed = home.seal("trainer", "token", &value);
    apply(&objects::binding(&home.name, "trainer", &sealed)).good();
    home.ready("secretbinding", "trainer");
    patch(&home, &json!({"rotation": {"request": "first"}}));
    let key = eventually("the rotation", || {
        let key = home.get("encryptionkey", "team-key");
        let outdated = &key["status"]["sealedValues"]["outdated"];
        if key["status"]["rotation"]["lastRequest"] == "first" && *outdated == 1 { Ok(key) } else { Err(key["status"].to_string()) }
    });
    assert_eq!(key["status"]["versions"].as_array().unwrap().len(), 2);
    assert_eq!(key["status"]["sealingKey"]["version"], 2);
    home.ready("secretbinding", "trainer");
    apply(&objects::pod(&home.name, "old", objects::PRINT_DIGESTS)).good();
    home.pod("old");
    assert_eq!(home.logs("old", "main"), format!("{0}\n{0}\n", digest(&value)));

    let file = tempfile::NamedTempFile::new().unwrap();
    let manifest = serde_json::to_string_pretty(&objects::binding(&home.name, "trainer", &sealed)).unwrap();
    std::fs::write(file.path(), &manifest).unwrap();
    let program = format!("{}/kubectl-kustody", setting("KUSTODY_BIN"));
    let said = run(&program, &["reseal", "-f", file.path().to_str().unwrap()], b"");
    assert!(said.out.contains("1 of 1 values sealed anew"), "{} {}", said.err, said.out);
    let changed = std::fs::read_to_string(file.path()).unwrap();
    assert!(!changed.contains(&sealed) && !changed.contains(&value), "{changed}");
    assert!(!said.out.contains(&value) && !said.err.contains(&value));
    apply(&serde_json::from_str(&changed).unwrap()).good();
    eventually("nothing to be outdated", || {
        let key = home.get("encryptionkey", "team-key");
        let counted = &key["status"]["sealedValues"];
        if counted["outdated"] == 0 && counted["total"] == 1 { Ok(()) } else { Err(counted.to_string()) }
    });
    let binding = home.ready("secretbinding", "trainer");
    assert_eq!(binding["status"]["resealed"], Value::Null);
    apply(&objects::pod(&home.name, "new", objects::PRINT_DIGESTS)).good();
    home.pod("new");
    assert_eq!(home.logs("new", "main"), format!("{0}\n{0}\n", digest(&value)));
    assert_eq!(home.get("encryptionkey", "team-key")["status"]["versions"].as_array().unwrap().len(), 2);
}

#[test]
fn a_file_that_the_cluster_does_not_hold_is_not_sealed_anew() {
    let home = Home::new("reseal");
    home.key();
    home.binding(&canary());
    let file = tempfile::NamedTempFile::new().unwrap();
    let other = home.seal("trainer", "token", &canary());
    std::fs::write(file.path(), objects::binding(&home.name, "trainer", &other).to_string()).unwrap();
    let program = format!("{}/kubectl-kustody", setting("KUSTODY_BIN"));
    let refused = run(&program, &["reseal", "-f", file.path().to_str().unwrap()], b"").refused();
    assert!(refused.contains("spec.secrets[token]") && refused.contains("apply the file first"), "{refused}");
    assert!(std::fs::read_to_string(file.path()).unwrap().contains(&other));
}

#[test]
fn a_scheduled_rotation_says_when_it_is_due_and_an_unreadable_schedule_what_is_wrong_with_it() {
    let home = Home::new("schedule");
    home.key();
    patch(&home, &json!({"rotation": {"schedule": "0 3 1 * *", "timeZone": "Europe/Berlin"}}));
    let due = eventually("the next rotation", || {
        let key = home.get("encryptionkey", "team-key");
        key["status"]["rotation"]["nextRotation"].as_str().map(str::to_owned).ok_or_else(|| key["status"].to_string())
    });
    // Three o'clock in Berlin, in winter or in summer.
    assert!(due.contains("-01T02:00:00") || due.contains("-01T01:00:00"), "{due}");
    patch(&home, &json!({"rotation": {"timeZone": "Europe/Nowhere"}}));
    let message = eventually("the refusal", || {
        let key = home.get("encryptionkey", "team-key");
        match condition(&key, "Rotating") {
            Some(rotating) if rotating["reason"] == "InvalidSpec" => Ok(rotating["message"].as_str().unwrap().to_owned()),
            _ => Err(key["status"].to_string()),
        }
    });
    assert!(message.contains("spec.rotation.timeZone") && message.contains("IANA"), "{message}");
    home.ready("encryptionkey", "team-key");
}
