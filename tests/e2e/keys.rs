//! A key's life.

use serde_json::json;

use crate::harness::canary::{canary, digest};
use crate::harness::home::Home;
use crate::harness::{SYSTEM, apply, kubectl, objects};

#[test]
fn a_key_is_made_once_and_published() {
    let home = Home::new("made");
    let key = home.key();
    let id = key["status"]["keyId"].as_str().unwrap();
    assert!(id.starts_with(&format!("{}/team-key/", home.name)), "{id}");
    assert_eq!(key["status"]["state"], "Enabled");
    assert_eq!(key["status"]["versions"].as_array().unwrap().len(), 1);
    assert!(key["status"]["pendingOperation"].is_null());
    assert!(key["status"]["sealingKey"]["document"].as_str().unwrap().len() > 1000);
    assert!(key["metadata"]["finalizers"].is_null(), "nothing waits for a key's object to go");
}

#[test]
fn a_key_that_was_retained_is_found_by_the_same_yaml_and_taken_back_by_adopt() {
    let home = Home::new("retained");
    let value = canary();
    let first = home.key();
    let id = first["status"]["keyId"].as_str().unwrap().to_owned();
    home.binding(&value);

    home.kubectl(&["delete", "encryptionkey", "team-key", "--timeout=10s"]).good();
    apply(&objects::key(&home.name, "team-key")).good();
    let message = home.not_ready("encryptionkey", "team-key", "RetainedKeyFound");
    assert!(message.contains(&id) && message.contains("spec.adopt"), "{message}");
    home.not_ready("secretbinding", "trainer", "EncryptionKeyNotReady");

    let mut key = objects::key(&home.name, "team-key");
    key["spec"]["adopt"] = json!({"keyId": id});
    apply(&key).good();
    assert_eq!(home.ready("encryptionkey", "team-key")["status"]["keyId"], json!(id));
    home.ready("secretbinding", "trainer");
    apply(&objects::pod(&home.name, "train", objects::PRINT_DIGESTS)).good();
    home.pod("train");
    assert!(home.logs("train", "main").starts_with(&digest(&value)), "what was sealed before opens again");
}

#[test]
fn a_key_that_vanished_is_a_condition_and_never_made_anew() {
    let home = Home::new("vanished");
    let key = home.key();
    let id = key["status"]["keyId"].as_str().unwrap();
    let record = format!("kustody-key-{}", id.rsplit('/').next().unwrap());
    kubectl(&["-n", SYSTEM, "delete", "secret", &record]).good();
    let mut touched = objects::key(&home.name, "team-key");
    touched["spec"]["grants"] = json!([]);
    apply(&touched).good();
    let message = home.not_ready("encryptionkey", "team-key", "KeyNotFound");
    assert!(message.contains("never makes a new key"), "{message}");
    assert_eq!(home.get("encryptionkey", "team-key")["status"]["keyId"], json!(id));
}

#[test]
fn a_key_that_was_disabled_behind_our_back_is_a_condition_with_a_remedy() {
    let home = Home::new("behind");
    let key = home.key();
    let id = key["status"]["keyId"].as_str().unwrap();
    let record = format!("kustody-key-{}", id.rsplit('/').next().unwrap());
    kubectl(&["-n", SYSTEM, "annotate", "--overwrite", "secret", &record, "kustody.dev/key-state=\"Disabled\""]).good();
    let mut touched = objects::key(&home.name, "team-key");
    touched["spec"]["grants"] = json!([]);
    apply(&touched).good();
    let message = home.not_ready("encryptionkey", "team-key", "KeyNotUsable");
    assert!(message.contains("did not ask for that; enable it at the provider, or set spec.desiredState"), "{message}");
    // The remedy that the message names.
    for (wanted, reason) in [("Disabled", Some("Disabled")), ("Enabled", None)] {
        touched["spec"]["desiredState"] = json!(wanted);
        apply(&touched).good();
        match reason {
            Some(reason) => drop(home.not_ready("encryptionkey", "team-key", reason)),
            None => drop(home.ready("encryptionkey", "team-key")),
        }
    }
}

#[test]
fn a_namespace_without_a_line_of_access_makes_no_key() {
    let home = Home::new("noaccess");
    kubectl(&["label", "namespace", &home.name, "kustody.dev/e2e-"]).good();
    apply(&objects::key(&home.name, "team-key")).good();
    let message = home.not_ready("encryptionkey", "team-key", "AccessDenied");
    assert!(message.contains("spec.access") && message.contains(&home.name), "{message}");
    // The line's label heals it without a touch of the key.
    kubectl(&["label", "namespace", &home.name, "kustody.dev/e2e=true"]).good();
    home.ready("encryptionkey", "team-key");
}

#[test]
fn a_key_is_sealed_for_offline_with_its_document_alone() {
    let home = Home::new("offline");
    let key = home.key();
    let document = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(document.path(), key["status"]["sealingKey"]["document"].as_str().unwrap()).unwrap();
    let value = canary();
    let program = format!("{}/kubectl-kustody", crate::harness::setting("KUSTODY_BIN"));
    let path = document.path().to_str().unwrap();
    let arguments = ["seal", "--key-document", path, "--binding", "trainer", "--secret", "token"];
    let sealed = crate::harness::run(&program, &arguments, value.as_bytes()).good();
    apply(&objects::binding(&home.name, "trainer", sealed.trim())).good();
    home.ready("secretbinding", "trainer");
}
