//! 1,000 keys and 1,000 bindings applied at once, beside a plain loop that makes the same writes.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use kustody::runtime::clock::{Clock as _, SystemClock};
use kustody_api::conditions::{Condition, ConditionType, is_true};
use kustody_api::{EncryptionKey, SecretBinding};
use kustody_core::sealing::{self, KeyDocument, Place};
use kustody_core::secret::SecretBytes;
use serde_json::{Value, json};

use super::cluster::{self, NAMESPACE, at_once, calls, parsed};
use super::summary::{Row, Target};

const COUNT: usize = 1000;
const CONTROLLER: &str = "system:serviceaccount:kustody-system:kustody-controller";
const PATIENCE: Duration = Duration::from_mins(10);

/// The writes of each kind, and the time beside the loop's; the installation has no controller afterwards.
pub async fn rows() -> Vec<Row> {
    let client = cluster::client().await;
    let keys: Api<EncryptionKey> = Api::namespaced(client.clone(), NAMESPACE);
    let bindings: Api<SecretBinding> = Api::namespaced(client.clone(), NAMESPACE);
    let document = keys.get("team-key").await.expect("the key").status.and_then(|status| status.sealing_key).expect("ready").document;
    let document = KeyDocument::parse(&document).expect("a key document");
    let sealed: Vec<String> = (0..COUNT).map(|number| sealed(&document, number)).collect();

    let from = SystemClock.now();
    let started = Instant::now();
    at_once(2 * COUNT, |number| {
        let (keys, bindings, sealed) = (keys.clone(), bindings.clone(), &sealed);
        async move {
            if number < COUNT {
                keys.create(&PostParams::default(), &parsed(key(number))).await.map(drop).expect("a key");
            } else {
                let number = number - COUNT;
                bindings.create(&PostParams::default(), &parsed(binding(number, &sealed[number]))).await.map(drop).expect("a binding");
            }
        }
    })
    .await;
    let all = ListParams::default().labels("bench=apply");
    loop {
        let ready = |conditions: &[Condition]| is_true(conditions, ConditionType::Ready, None);
        let keys = keys.list(&all).await.expect("keys").into_iter();
        let keys = keys.filter(|key| key.status.as_ref().is_some_and(|status| ready(&status.conditions))).count();
        let bindings = bindings.list(&all).await.expect("bindings").into_iter();
        let bindings = bindings.filter(|binding| binding.status.as_ref().is_some_and(|status| ready(&status.conditions))).count();
        if keys + bindings == 2 * COUNT {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{keys} keys and {bindings} bindings of {COUNT} are ready");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let took = started.elapsed().as_secs_f64();
    // What is still written afterwards counts too, and the API server writes its log a moment later.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let writes = calls(from, |call| call["user"]["username"] == CONTROLLER && is_write(call));
    let of = |what: &dyn Fn(&Value) -> bool| writes.iter().filter(|call| what(call)).count();
    let (to_keys, to_bindings, records) =
        (of(&|call| belongs(call, "bench-key-")), of(&|call| belongs(call, "bench-binding-")), of(&is_record));
    println!("writes of the controller: {} of {} are the keys' or bindings'", to_keys + to_bindings + records, writes.len());
    #[expect(clippy::cast_precision_loss, reason = "a few thousands")]
    let [a_key, a_binding] = [to_keys + records, to_bindings].map(|writes| writes as f64 / COUNT as f64);
    keys.delete_collection(&DeleteParams::default(), &all).await.expect("the keys go");
    bindings.delete_collection(&DeleteParams::default(), &all).await.expect("the bindings go");
    cluster::without_controller(&client).await;
    let floor = plain(&client, &sealed, &writes).await;
    vec![
        Row {
            name: "1,000 keys at once: API-server writes a key",
            value: a_key,
            unit: "writes",
            floor: None,
            target: Target::ValueAtMost(7.0),
        },
        Row {
            name: "1,000 bindings at once: API-server writes a binding",
            value: a_binding,
            unit: "writes",
            floor: None,
            target: Target::ValueAtMost(3.0),
        },
        Row {
            name: "1,000 keys and bindings at once: until all are Ready",
            value: took,
            unit: "s",
            floor: Some(floor),
            target: Target::RatioAtMost(2.0),
        },
    ]
}

fn is_write(call: &Value) -> bool {
    matches!(call["verb"].as_str(), Some("create" | "update" | "patch" | "delete")) && call["objectRef"]["resource"] != "leases"
}

fn belongs(call: &Value, part: &str) -> bool {
    call["objectRef"]["name"].as_str().is_some_and(|name| name.starts_with(part))
}

fn is_record(call: &Value) -> bool {
    call["objectRef"]["resource"] == "secrets" && call["objectRef"]["name"].as_str().is_some_and(|name| name.starts_with("kustody-key-"))
}

/// The same writes one after the other, and nothing that decides upon them: the objects with their statuses as they were
/// written, and Secrets and Events of the same size.
async fn plain(client: &Client, sealed: &[String], observed: &[Value]) -> f64 {
    let keys: Api<EncryptionKey> = Api::namespaced(client.clone(), NAMESPACE);
    let bindings: Api<SecretBinding> = Api::namespaced(client.clone(), NAMESPACE);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let events: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
    let (create, change) = (PostParams::default(), PatchParams::default());
    let counted = |call: &&Value| belongs(call, "bench-") || is_record(call);
    let taken = |call: &&Value| call["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300);
    let started = Instant::now();
    for (number, value) in sealed.iter().enumerate() {
        keys.create(&create, &parsed(key(number))).await.expect("a key");
        bindings.create(&create, &parsed(binding(number, value))).await.expect("a binding");
    }
    for (number, call) in observed.iter().filter(taken).filter(counted).enumerate() {
        let of = &call["objectRef"];
        let name = of["name"].as_str().unwrap_or_default();
        let record = || {
            let annotations = json!({"number": number.to_string(), "claim": "x".repeat(600)});
            let metadata = json!({"name": name, "labels": {"bench": "apply"}, "annotations": annotations});
            parsed(json!({"metadata": metadata, "stringData": {"record": "x".repeat(200)}}))
        };
        let status = Patch::Merge(json!({"status": call["requestObject"]["status"]}));
        match (call["verb"].as_str().unwrap_or_default(), of["resource"].as_str().unwrap_or_default()) {
            ("patch", "encryptionkeys") => drop(keys.patch_status(name, &change, &status).await.expect("a status")),
            ("patch", "secretbindings") => drop(bindings.patch_status(name, &change, &status).await.expect("a status")),
            ("create", "secrets") => drop(secrets.create(&create, &record()).await.expect("a Secret")),
            ("update", "secrets") => drop(secrets.replace(name, &create, &record()).await.expect("a Secret")),
            ("create", "events") => drop(events.create(&create, &event(name)).await.expect("an Event")),
            other => panic!("the controller makes a write that the loop does not know: {other:?}"),
        }
    }
    let took = started.elapsed().as_secs_f64();
    let all = ListParams::default().labels("bench=apply");
    keys.delete_collection(&DeleteParams::default(), &all).await.expect("the keys go");
    bindings.delete_collection(&DeleteParams::default(), &all).await.expect("the bindings go");
    secrets.delete_collection(&DeleteParams::default(), &all).await.expect("the Secrets go");
    took
}

fn event(name: &str) -> Event {
    parsed(json!({
        "metadata": {"name": format!("plain-{name}")}, "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Available",
        "action": "Reconcile", "note": "values can be sealed for this key and opened under it", "reportingController": "bench",
        "reportingInstance": "bench", "regarding": {"kind": "EncryptionKey", "namespace": NAMESPACE, "name": name},
    }))
}

fn sealed(document: &KeyDocument, number: usize) -> String {
    let name = format!("bench-binding-{number}");
    let place = Place { namespace: NAMESPACE, binding: &name, secret: "token" };
    sealing::seal(document, &place, &SecretBytes::new(b"benchmark-value".to_vec())).expect("a sealed value").to_string()
}

fn key(number: usize) -> Value {
    json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "EncryptionKey",
        "metadata": {"name": format!("bench-key-{number}"), "namespace": NAMESPACE, "labels": {"bench": "apply"}},
        "spec": {"providerRef": {"name": "local"}, "grants": [{"serviceAccount": "trainer", "operations": ["Open"]}]},
    })
}

fn binding(number: usize, sealed: &str) -> Value {
    json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding",
        "metadata": {"name": format!("bench-binding-{number}"), "namespace": NAMESPACE, "labels": {"bench": "apply"}},
        "spec": {
            "workloads": {"serviceAccounts": ["trainer"]},
            "secrets": [{"name": "token", "sealed": {"key": "team-key", "value": sealed}}],
            "deliver": {"files": [{"secret": "token", "path": "token"}]},
        },
    })
}
