//! Tests of resolution and of counting pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kustody_api::{EncryptionKey, KeyProvider, Reason, SecretBinding};
use kustody_core::sealing::{self, Header, KeyDocument, Place};
use kustody_core::secret::SecretBytes;
use kustody_core::wire::{InspectAnswer, Inspected};
use serde_json::{Value, json};

use super::pods::{Count, count, not_asked_for};
use super::resolve::{Facts, Resolution, merge, resolve};
use super::{Caches, Next, reconcile};
use crate::controllers::tests as testing;

/// A key's document, and a value sealed for `trainer`/`token` with it.
fn sealed() -> (KeyDocument, String) {
    let (_, public_key) = sealing::generate().unwrap();
    let header = Header {
        provider_key_id: "vision/k/n1".to_owned(),
        version: 1,
        public_key_sha256: public_key.sha256(),
        wrapped_seed: vec![1, 2, 3],
    };
    let document = KeyDocument { header, namespace: "vision".to_owned(), key: "k".to_owned(), public_key };
    let place = Place { namespace: "vision", binding: "trainer", secret: "token" };
    let value = sealing::seal(&document, &place, &SecretBytes::new(b"v".to_vec())).unwrap().to_string();
    (document, value)
}

fn key(document: &KeyDocument) -> Value {
    json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "EncryptionKey", "metadata": {"name": "k", "namespace": "vision"},
        "spec": {"providerRef": {"name": "local"}, "grants": [{"serviceAccount": "trainer", "operations": ["Open"]}]},
        "status": {
            "keyId": "vision/k/n1",
            "conditions": [{"type": "Ready", "status": "True", "reason": "Available", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "sealingKeys": [{"version": 1, "publicKeySha256": sealing::format::hex(&document.header.public_key_sha256)}],
        },
    })
}

fn provider() -> Value {
    json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "KeyProvider", "metadata": {"name": "local"},
        "spec": {"local": {}, "access": [
            {"namespaces": {"matchLabels": {"team": "vision"}}, "allowVariables": ["PIP_*"]},
            {"namespaces": {"matchLabels": {"team": "other"}}, "allowVariables": ["PATH"]},
        ]},
    })
}

fn binding(value: &str) -> Value {
    json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": "trainer", "namespace": "vision"},
        "spec": {
            "workloads": {"serviceAccounts": ["trainer"]},
            "secrets": [{"name": "token", "sealed": {"key": "k", "value": value}}],
            "deliver": {"env": [{"name": "TOKEN", "secret": "token"}]},
        },
    })
}

fn of(binding: &Value, key: Option<&Value>) -> Resolution {
    let binding: SecretBinding = serde_json::from_value(binding.clone()).unwrap();
    let key: Option<Arc<EncryptionKey>> = key.map(|key| Arc::new(serde_json::from_value(key.clone()).unwrap()));
    let provider: Arc<KeyProvider> = Arc::new(serde_json::from_value(provider()).unwrap());
    let labels = BTreeMap::from([("team".to_owned(), "vision".to_owned())]);
    let facts = Facts {
        namespace_labels: &labels,
        key: &|name| key.clone().filter(|_| name == "k"),
        provider: &|name| (name == "local").then(|| Arc::clone(&provider)),
    };
    resolve(&binding, &facts)
}

fn failed(resolution: &Resolution) -> (Reason, &str) {
    let (reason, message) = resolution.failed.as_ref().unwrap();
    (*reason, message)
}

#[test]
fn a_binding_whose_references_are_all_there_resolves() {
    let (document, value) = sealed();
    let resolution = of(&binding(&value), Some(&key(&document)));
    assert_eq!(resolution.failed, None);
    assert!(resolution.secrets[0].resolved && resolution.variables[0].env_file);
}

#[test]
fn the_reference_that_is_missing_is_named_with_object_field_and_remedy() {
    let (document, value) = sealed();
    let ready = key(&document);
    let change = |path: &str, to: Value| {
        let mut changed = ready.clone();
        *changed.pointer_mut(path).unwrap() = to;
        changed
    };
    let cases = [
        (None, Reason::EncryptionKeyNotFound, "EncryptionKey k does not exist in namespace vision; create it or correct the name"),
        (Some(change("/status/conditions/0/status", json!("False"))), Reason::EncryptionKeyNotReady, "EncryptionKey k is not ready"),
        (Some(change("/spec/grants", json!([]))), Reason::NotGranted, "service account trainer; add one to its spec.grants"),
        (Some(change("/spec/grants/0/serviceAccount", json!("other"))), Reason::NotGranted, "service account trainer"),
        (Some(change("/status/keyId", json!("vision/k/n2"))), Reason::SealedValueInvalid, "sealed under key vision/k/n1"),
        (Some(change("/status/sealingKeys", json!([]))), Reason::SealedValueInvalid, "does not list the sealing key"),
    ];
    for (key, reason, text) in cases {
        let resolution = of(&binding(&value), key.as_ref());
        let (found, message) = failed(&resolution);
        assert_eq!(found, reason, "{message}");
        assert!(message.contains(text) && message.starts_with("spec.secrets[token]"), "{message}");
        assert!(!resolution.secrets[0].resolved);
    }
}

#[test]
fn a_value_that_cannot_be_read_is_refused_without_being_shown() {
    let (document, value) = sealed();
    for (text, rule) in [
        ("not a sealed value", "it is not one line of base64url without padding; copy the whole line again"),
        (&value[..1024], "it is truncated; copy the whole line again"),
    ] {
        let resolution = of(&binding(text), Some(&key(&document)));
        let said = format!("spec.secrets[token].sealed.value: the sealed value cannot be read: {rule}");
        assert_eq!(failed(&resolution), (Reason::SealedValueInvalid, said.as_str()));
    }
}

#[test]
fn every_service_account_of_the_binding_needs_a_grant() {
    let (document, value) = sealed();
    let mut two = binding(&value);
    two["spec"]["workloads"]["serviceAccounts"] = json!(["trainer", "stranger"]);
    let resolution = of(&two, Some(&key(&document)));
    assert!(failed(&resolution).1.contains("service account stranger"));
}

#[test]
fn a_variable_is_allowed_by_a_line_for_its_own_namespace_alone() {
    let (document, value) = sealed();
    for (name, allowed) in [("PIP_INDEX_URL", true), ("PATH", false), ("LD_PRELOAD", false)] {
        let mut named = binding(&value);
        named["spec"]["deliver"]["env"][0]["name"] = json!(name);
        let resolution = of(&named, Some(&key(&document)));
        assert_eq!(resolution.failed.is_none(), allowed, "{name}: {:?}", resolution.failed);
        assert_eq!(resolution.variables[0].env_file, allowed);
    }
}

#[test]
fn what_the_broker_cannot_open_or_deliver_is_said_of_the_item() {
    let (document, value) = sealed();
    let good = of(&binding(&value), Some(&key(&document)));
    let no = |name: &str| vec![Inspected { name: name.to_owned(), ok: false, message: Some("has a single quote".to_owned()) }];
    let yes = |name: &str| vec![Inspected { name: name.to_owned(), ok: true, message: None }];

    let all = InspectAnswer { secrets: yes("token"), variables: yes("TOKEN"), files: yes("a"), ..InspectAnswer::default() };
    assert_eq!(merge(good.clone(), &all), good);

    let secret = merge(good.clone(), &InspectAnswer { secrets: no("token"), ..InspectAnswer::default() });
    assert_eq!(failed(&secret), (Reason::SealedValueInvalid, "spec.secrets[token]: has a single quote"));
    assert!(!secret.secrets[0].resolved);

    let variable = merge(good.clone(), &InspectAnswer { variables: no("TOKEN"), ..InspectAnswer::default() });
    assert_eq!(failed(&variable), (Reason::VariableNotRepresentable, "spec.deliver.env[TOKEN]: has a single quote"));
    assert!(!variable.variables[0].env_file);

    let file = merge(good, &InspectAnswer { files: no("db.json"), ..InspectAnswer::default() });
    assert_eq!(failed(&file).0, Reason::SealedValueInvalid);
    assert!(failed(&file).1.starts_with("spec.deliver.files[db.json]"));
}

fn pod(account: &str, labels: &Value, phase: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "vision", "labels": labels}, "spec": {"serviceAccountName": account, "containers": []},
        "status": {"phase": phase},
    }))
    .unwrap()
}

#[test]
fn live_pods_of_the_service_accounts_and_labels_are_counted_and_asked() {
    let mut selecting = binding("");
    selecting["spec"]["workloads"]["podSelector"] = json!({"matchLabels": {"app": "a"}});
    let selecting: SecretBinding = serde_json::from_value(selecting).unwrap();
    let pods = [
        pod("trainer", &json!({"app": "a", "kustody.dev/inject": "true"}), "Running"),
        pod("trainer", &json!({"app": "a", "kustody.dev/inject": "trainer"}), "Pending"),
        pod("trainer", &json!({"app": "a", "kustody.dev/inject": "other"}), "Running"),
        pod("trainer", &json!({"app": "a"}), "Running"),
        pod("trainer", &json!({"app": "b", "kustody.dev/inject": "true"}), "Running"),
        pod("default", &json!({"app": "a", "kustody.dev/inject": "true"}), "Running"),
        pod("trainer", &json!({"app": "a", "kustody.dev/inject": "true"}), "Succeeded"),
    ];
    let labels = |inject: &str| BTreeMap::from([("kustody.dev/inject".to_owned(), inject.to_owned())]);
    assert_eq!(count(&selecting, &BTreeMap::new(), pods.iter()), Count { matching: 4, asking: 2 });
    assert_eq!(count(&selecting, &labels("enabled"), pods.iter()), Count { matching: 4, asking: 3 });
    assert_eq!(count(&selecting, &labels("required"), pods.iter()), Count { matching: 4, asking: 3 });
}

#[tokio::test]
async fn of_a_binding_whose_namespace_goes_nothing_is_written_and_the_broker_is_not_asked() {
    let (document, value) = sealed();
    let binding: SecretBinding = serde_json::from_value(binding(&value)).unwrap();
    let going = json!({"metadata": {"name": "vision", "deletionTimestamp": "2026-03-01T00:00:00Z"}});
    // A namespace that is not known may be too young for the cache: that is waited for, longer each time.
    for (namespaces, next) in [(vec![going], Next::Settled), (vec![], Next::Retry)] {
        let (context, writes) = testing::context(|_, path, _| panic!("{path}"));
        let caches = Caches {
            bindings: testing::filled(vec![binding.clone()]),
            keys: testing::filled(vec![serde_json::from_value(key(&document)).unwrap()]),
            providers: testing::filled(vec![serde_json::from_value(provider()).unwrap()]),
            namespaces: testing::filled(namespaces.into_iter().map(|one| serde_json::from_value(one).unwrap()).collect()),
            pods: testing::filled(Vec::new()),
            answers: std::sync::Mutex::default(),
            held: super::held::Seen::default(),
        };
        assert_eq!(reconcile(&binding, &caches, &context).await.unwrap(), next);
        assert!(writes.lock().unwrap().is_empty());
    }
}

#[test]
fn a_binding_whose_pods_never_ask_says_how_to_ask() {
    assert_eq!(not_asked_for(Count { matching: 0, asking: 0 }).reason, Reason::NoMatchingPods);
    assert_eq!(not_asked_for(Count { matching: 2, asking: 1 }).status, Some(false));
    let silent = not_asked_for(Count { matching: 2, asking: 0 });
    assert_eq!(silent.status, Some(true));
    assert!(silent.message.contains("2 pods") && silent.message.contains("kustody.dev/inject"), "{}", silent.message);
}
