//! Who is woken by what.

use kube::runtime::watcher::Event;
use kustody_api::{EncryptionKey, KeyProvider, SecretBinding};
use serde_json::{Value, json};

use super::world::object;
use crate::broker::changes::{Changes, of_key, of_namespace, of_spec};

fn binding(generation: i64, status: &Value) -> SecretBinding {
    object(json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding",
        "metadata": {"namespace": "vision", "name": "train", "uid": "u", "generation": generation},
        "spec": {"workloads": {"serviceAccounts": ["trainer"]}, "secrets": [], "deliver": {}}, "status": status,
    }))
}

fn key(state: &str, message: &str) -> EncryptionKey {
    object(json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "EncryptionKey",
        "metadata": {"namespace": "vision", "name": "team-key", "uid": "k", "generation": 1},
        "spec": {"providerRef": {"name": "main"}},
        "status": {"state": state, "conditions": [
            {"type": "Ready", "status": "True", "reason": "R", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]},
    }))
}

/// Whether somebody who waits in `vision` was woken since.
fn woken(waiting: &mut tokio::sync::watch::Receiver<()>) -> bool {
    let woken = waiting.has_changed().unwrap();
    waiting.borrow_and_update();
    woken
}

#[test]
fn a_binding_wakes_its_namespace_when_its_spec_changed_and_not_when_its_status_did() {
    let changes = Changes::default();
    let (mut here, mut there) = (changes.of("vision"), changes.of("elsewhere"));
    let mut tell = changes.teller(of_spec::<SecretBinding>);
    tell(&Event::Init);
    tell(&Event::InitApply(binding(1, &json!({}))));
    assert!(!woken(&mut here), "the store does not have it yet");
    tell(&Event::InitDone);
    assert!(woken(&mut here) && woken(&mut there), "anything may have changed");
    tell(&Event::Apply(binding(1, &json!({"matchingPods": 2}))));
    assert!(!woken(&mut here));
    tell(&Event::Apply(binding(2, &json!({}))));
    assert!(woken(&mut here) && !woken(&mut there));
    tell(&Event::Delete(binding(2, &json!({}))));
    assert!(woken(&mut here));
    tell(&Event::Apply(binding(2, &json!({}))));
    assert!(woken(&mut here), "restored");
}

#[test]
fn a_key_wakes_its_namespace_when_its_state_changed_and_not_when_a_condition_did() {
    let changes = Changes::default();
    let mut here = changes.of("vision");
    let mut tell = changes.teller(of_key);
    tell(&Event::Apply(key("Enabled", "a")));
    assert!(woken(&mut here));
    tell(&Event::Apply(key("Enabled", "b")));
    assert!(!woken(&mut here));
    tell(&Event::Apply(key("Disabled", "b")));
    assert!(woken(&mut here));
}

#[test]
fn a_provider_wakes_everybody_and_a_namespace_those_in_it() {
    let changes = Changes::default();
    let (mut here, mut there) = (changes.of("vision"), changes.of("elsewhere"));
    let provider: KeyProvider = object(json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "KeyProvider",
        "metadata": {"name": "main", "uid": "p", "generation": 1}, "spec": {"local": {}, "access": []},
    }));
    changes.teller(of_spec::<KeyProvider>)(&Event::Apply(provider));
    assert!(woken(&mut here) && woken(&mut there));
    let mut tell = changes.teller(of_namespace);
    let namespace = |team: &str| object(json!({"metadata": {"name": "vision", "labels": {"team": team}}}));
    tell(&Event::Apply(namespace("a")));
    assert!(woken(&mut here) && !woken(&mut there));
    tell(&Event::Apply(namespace("a")));
    assert!(!woken(&mut here));
    tell(&Event::Apply(namespace("b")));
    assert!(woken(&mut here));
}

#[test]
fn namespaces_in_which_nobody_waits_are_forgotten() {
    let changes = Changes::default();
    let mut kept = changes.of("vision");
    drop(changes.of("elsewhere"));
    changes.sweep();
    changes.tell(Some("vision"));
    assert!(woken(&mut kept));
}
