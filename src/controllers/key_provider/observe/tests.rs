//! Conditions of a `KeyProvider` for each thing that a probe can say.

use k8s_openapi::jiff::Timestamp;
use kustody_providers::{Capabilities, State};
use serde_json::json;

use super::*;

fn object(generation: i64) -> KeyProvider {
    let mut object = KeyProvider::new("main", serde_json::from_value(json!({"local": {}})).unwrap());
    object.metadata.generation = Some(generation);
    object
}

#[expect(clippy::unnecessary_wraps, reason = "cases hand it on as the result of a probe")]
fn answer(root_key_in_cluster: Option<bool>) -> Result<Probe, Error> {
    Ok(Probe { identity: "embedded KMS".to_owned(), capabilities: Capabilities(vec!["Wrap"]), root_key_in_cluster })
}

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn of(object: &KeyProvider, probe: &Result<Probe, Error>) -> Outcome {
    outcome(object, probe, AuditVolume::PersistentVolumeClaim, &at(1))
}

fn condition<'a>(outcome: &'a Outcome, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let found = outcome.status.conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((&found.status, &found.reason, &found.message))
}

#[test]
fn an_answer_makes_it_ready_and_shows_identity_and_capabilities() {
    let outcome = of(&object(3), &answer(Some(false)));
    assert!(matches!(condition(&outcome, "Ready"), Some(("True", "Available", message)) if message.contains("embedded KMS")));
    assert_eq!(outcome.status.identity.as_deref(), Some("embedded KMS"));
    assert_eq!(outcome.status.capabilities, ["Wrap"]);
    assert_eq!(outcome.status.observed_generation, Some(3));
    assert!(outcome.status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
}

#[test]
fn a_generated_root_key_is_a_warning_that_says_who_can_open_everything() {
    let outcome = of(&object(1), &answer(Some(true)));
    let (status, reason, message) = condition(&outcome, "RootKeyInCluster").unwrap();
    assert_eq!((status, reason), ("True", "GeneratedRootKey"));
    assert!(message.contains("whoever reads Secrets") && message.contains("spec.local.rootKey.file"), "{message}");
    let transition = outcome.transitions.iter().find(|t| t.observation.kind == ConditionType::RootKeyInCluster).unwrap();
    assert!(transition.warning);
}

#[test]
fn a_mounted_root_key_and_a_claim_are_no_warnings() {
    let outcome = of(&object(1), &answer(Some(false)));
    assert!(matches!(condition(&outcome, "RootKeyInCluster"), Some(("False", "MountedRootKey", _))));
    assert_eq!(outcome.transitions.len(), 3);
    assert!(outcome.transitions.iter().all(|transition| !transition.warning));
}

#[test]
fn a_provider_without_a_root_key_says_nothing_of_one() {
    let mut object = object(1);
    object.status = Some(of(&object, &answer(Some(true))).status);
    assert_eq!(condition(&of(&object, &answer(None)), "RootKeyInCluster"), None);
}

#[test]
fn an_empty_dir_says_what_audit_records_do_not_survive() {
    let outcome = outcome(&object(1), &answer(Some(false)), AuditVolume::EmptyDir, &at(1));
    let (status, reason, message) = condition(&outcome, "AuditDurable").unwrap();
    assert_eq!((status, reason), ("False", "EmptyDir"));
    assert!(message.contains("not the end of its pod") && message.contains("broker.audit.volume"), "{message}");
    assert!(outcome.transitions.iter().any(|t| t.warning && t.observation.kind == ConditionType::AuditDurable));
}

#[test]
fn each_failure_has_its_reason_and_its_own_words() {
    let cases = [
        (Error::Configuration { detail: "root key file /k: has mode 0444".to_owned() }, "InvalidSpec", "mode 0444"),
        (Error::RootKey { detail: "restore that Secret".to_owned() }, "RootKeyLost", "restore that Secret"),
        (Error::Denied { operation: "list", id: "Secret x".to_owned(), detail: "Role".to_owned() }, "ProviderRefuses", "Role"),
        (Error::Unavailable { operation: "read", detail: "timed out".to_owned() }, "ProviderUnavailable", "timed out"),
        (Error::NotFound { id: "a/b/c".to_owned() }, "KeyNotFound", "a/b/c"),
        (Error::State { operation: "wrap", id: "a/b/c".to_owned(), state: State::Disabled }, "KeyNotUsable", "Disabled"),
    ];
    for (error, reason, words) in cases {
        let outcome = of(&object(1), &Err(error));
        let found = condition(&outcome, "Ready").unwrap();
        assert_eq!((found.0, found.1), ("False", reason));
        assert!(found.2.contains(words), "{}", found.2);
    }
}

#[test]
fn what_an_unanswered_probe_cannot_know_stays() {
    let mut object = object(1);
    object.status = Some(of(&object, &answer(Some(true))).status);
    let outcome = of(&object, &Err(Error::Unavailable { operation: "read", detail: "timed out".to_owned() }));
    assert_eq!(outcome.status.identity.as_deref(), Some("embedded KMS"));
    assert!(matches!(condition(&outcome, "RootKeyInCluster"), Some(("True", ..))));
    assert_eq!(outcome.transitions.len(), 1, "{:?}", outcome.transitions);
}

#[test]
fn the_same_answer_again_changes_nothing() {
    let mut object = object(1);
    let first = of(&object, &answer(Some(true)));
    object.status = Some(first.status.clone());
    let second = outcome(&object, &answer(Some(true)), AuditVolume::PersistentVolumeClaim, &at(9));
    assert_eq!(second.status, first.status);
    assert!(second.transitions.is_empty());
}
