//! Recorded requests, and facts to hold them against.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kustody_inject::{Answer, Binding, Config, Facts, Kubelet, respond};
use serde_json::{Value, json};

/// Every recorded request, by its path below the fixtures.
pub fn recorded() -> Vec<(String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/pods");
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let name = path.strip_prefix(&root).unwrap().with_extension("").display().to_string();
                found.push((name, serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.len() > 40, "the fixtures are there");
    found
}

/// One of them.
pub fn request(name: &str) -> Value {
    recorded().into_iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("{name}")).1
}

/// The same with a label that asks.
pub fn asking(mut review: Value, label: &str) -> Value {
    let metadata = &mut review["request"]["object"]["metadata"];
    if metadata["labels"].is_null() {
        metadata["labels"] = json!({});
    }
    metadata["labels"]["kustody.dev/inject"] = json!(label);
    review
}

/// A ready binding `trainer` of the pod's service account, with a file and a variable.
pub fn binding(review: &Value) -> Value {
    let account = review["request"]["object"]["spec"]["serviceAccountName"].as_str().unwrap_or("default");
    json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding",
        "metadata": {"name": "trainer", "namespace": review["request"]["namespace"], "uid": "u-trainer", "generation": 1},
        "spec": {
            "workloads": {"serviceAccounts": [account]},
            "secrets": [{"name": "hf", "sealed": {"key": "k", "value": "AA"}}],
            "deliver": {"files": [{"secret": "hf", "path": "hf-token"}], "env": [{"secret": "hf", "name": "KUSTODY_TEST_TOKEN"}]},
        },
        "status": {"conditions": [
            {"type": "Ready", "status": "True", "reason": "Available", "message": "", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]},
    })
}

pub fn facts(bindings: &[Value]) -> Facts {
    Facts {
        namespace_labels: Arc::new(BTreeMap::new()),
        bindings: Arc::new(bindings.iter().map(|b| Arc::new(Binding::new(&serde_json::from_value(b.clone()).unwrap()))).collect()),
        demands_cpu_limit: false,
        oldest_kubelet: Some(Arc::new(Kubelet { node: "node1".to_owned(), version: "v1.36.4".to_owned() })),
        broker: Arc::from("https://10.96.0.42:443"),
        authority: Arc::new("-----BEGIN CERTIFICATE-----\n".to_owned()),
    }
}

pub fn config() -> Config {
    Config { agent_image: "localhost/kustody-agent:1".to_owned(), namespace: "kustody-system".to_owned() }
}

pub fn answer(review: &Value, facts: &Facts) -> Answer {
    respond(review.to_string().as_bytes(), |_| Some(facts.clone()), &config()).unwrap()
}

/// The operations of an answer, none when it has no patch.
pub fn operations(answer: &Answer) -> Vec<Value> {
    use base64::Engine as _;
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["response"]["allowed"], true, "{body}");
    let Some(patch) = body["response"]["patch"].as_str() else { return Vec::new() };
    serde_json::from_slice(&base64::engine::general_purpose::STANDARD.decode(patch).unwrap()).unwrap()
}

/// The request as it would be after the answer.
pub fn patched(review: &Value, answer: &Answer) -> Value {
    let mut after = review.clone();
    let patch: json_patch::Patch = serde_json::from_value(Value::Array(operations(answer))).unwrap();
    json_patch::patch(&mut after["request"]["object"], &patch).unwrap();
    after
}

/// Why it was denied.
pub fn denial(review: &Value, facts: &Facts) -> String {
    let answer = answer(review, facts);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["response"]["allowed"], false, "{body}");
    assert_eq!(body["response"]["status"]["code"], 403);
    body["response"]["status"]["message"].as_str().unwrap().to_owned()
}
