//! Admission of a recorded training pod: over TLS beside a canned answer of the same size, and in process.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use kustody::runtime::metrics::Metrics;
use kustody::webhook::pods::Admission;
use kustody_inject::{Binding, Bindings, Config, Facts, Kubelet, respond};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::load;
use super::summary::{Row, Target, median};

/// How many answers are timed at once, and how often.
const BATCH: u32 = 2000;
const BATCHES: usize = 11;

/// The review as the API server sends it: in one line, and asking.
fn review() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pods/training-operator/pytorchjob-worker.json");
    let mut review: Value = serde_json::from_slice(&fs::read(path).expect("the fixture")).expect("JSON");
    review["request"]["object"]["metadata"]["labels"]["kustody.dev/inject"] = json!("true");
    serde_json::to_vec(&review).expect("JSON")
}

fn facts(review: &[u8], count: usize) -> Facts {
    let review: Value = serde_json::from_slice(review).expect("JSON");
    let account = review["request"]["object"]["spec"]["serviceAccountName"].clone();
    let binding = json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": "trainer", "uid": "u", "generation": 1},
        "spec": {
            "workloads": {"serviceAccounts": [account]},
            "secrets": [{"name": "hf", "sealed": {"key": "k", "value": "AA"}}, {"name": "db", "sealed": {"key": "k", "value": "AA"}}],
            "deliver": {
                "files": [{"secret": "hf", "path": "hf-token"}, {"secret": "db", "path": "db.json"}],
                "env": [{"secret": "hf", "name": "HF_TOKEN"}, {"secret": "db", "property": "password", "name": "DB_PASSWORD"}],
            },
        },
        "status": {"conditions": [
            {"type": "Ready", "status": "True", "reason": "Available", "message": "", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]},
    });
    let authority = rcgen::generate_simple_self_signed(["kustody".to_owned()]).expect("a certificate").cert.pem();
    Facts {
        namespace_labels: Arc::new(BTreeMap::new()),
        bindings: Arc::new(among(&binding, count)),
        demands_cpu_limit: false,
        oldest_kubelet: Some(Arc::new(Kubelet { node: "node1".to_owned(), version: "v1.36.4".to_owned() })),
        broker: Arc::from("https://10.96.0.42:443"),
        authority: Arc::new(authority),
    }
}

/// The binding that serves the pod, among those of other service accounts: `count` together.
fn among(binding: &Value, count: usize) -> Bindings {
    let others = (1..count).map(|number| {
        let mut other = binding.clone();
        // On both sides of it in order of name.
        let side = if number % 2 == 0 { "a" } else { "z" };
        other["metadata"]["name"] = json!(format!("{side}-{number}"));
        other["spec"]["workloads"]["serviceAccounts"] = json!([format!("account-{number}")]);
        other
    });
    others.chain([binding.clone()]).map(|object| Arc::new(Binding::new(&serde_json::from_value(object).expect("a binding")))).collect()
}

/// Every figure of admission.
pub async fn rows() -> Vec<Row> {
    let review = review();
    let facts = facts(&review, 1);
    let config = Config { agent_image: "localhost/kustody-agent:0.1.0".to_owned(), namespace: "kustody-system".to_owned() };
    let canned = respond(&review, |_| Some(facts.clone()), &config).expect("an answer");
    assert_eq!(canned.outcome, "injected");

    let known = [facts.clone(), self::facts(&review, 100), self::facts(&review, 10_000)];
    let [one, hundred, ten_thousand] = in_process(&review, &known, &config);
    let source = facts.clone();
    let admission = Admission::new(Arc::new(move |_| Some(source.clone())), config, &Metrics::default());
    let floor = load::canned("/mutate-pods", "application/json", canned.body.into());
    let certificate = load::certificate();
    let stop = CancellationToken::new();
    let real = load::serve(admission.router(), &certificate, &stop).await;
    let floor = load::serve(floor, &certificate, &stop).await;
    let [floor, real] = load::compare(&review, "/mutate-pods", [floor, real]).await;
    stop.cancel();
    vec![
        Row {
            name: "admission over TLS, 32 connections",
            value: real.requests_per_second,
            unit: "req/s",
            floor: Some(floor.requests_per_second),
            target: Target::RatioAtLeast(0.4),
        },
        Row {
            name: "admission over TLS, p99",
            value: real.p99_ms,
            unit: "ms",
            floor: Some(floor.p99_ms),
            target: Target::RatioAtMost(3.0),
        },
        Row { name: "admission in process", value: one, unit: "us", floor: None, target: Target::ValueAtMost(40.0) },
        Row {
            name: "the same with 100 bindings in the namespace",
            value: hundred,
            unit: "us",
            floor: Some(one),
            target: Target::RatioAtMost(1.5),
        },
        Row {
            name: "the same with 10,000 bindings in the namespace",
            value: ten_thousand,
            unit: "us",
            floor: Some(one),
            target: Target::RatioAtMost(1.5),
        },
    ]
}

/// Medians in us a pod, for each of these facts in turn.
fn in_process<const N: usize>(review: &[u8], known: &[Facts; N], config: &Config) -> [f64; N] {
    let mut figures: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..BATCHES {
        for (facts, figures) in known.iter().zip(&mut figures) {
            let started = Instant::now();
            for _ in 0..BATCH {
                let answer = respond(std::hint::black_box(review), |_| Some(facts.clone()), config);
                std::hint::black_box(answer).expect("an answer");
            }
            figures.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH));
        }
    }
    figures.map(median)
}
