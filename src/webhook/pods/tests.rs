//! Reviews that are large, cut off or of another version, and what caches of very many bindings say.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode};
use kustody_inject::Config;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Admission, MAX_BODY, Source};
use crate::runtime::log::tests::Kept;
use crate::runtime::metrics::Metrics;
use crate::webhook::caches::tests::known;

fn review(padding: usize) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "u-1", "namespace": "vision", "object": {
            "metadata": {"labels": {"kustody.dev/inject": "true"}, "annotations": {"padding": "x".repeat(padding)}},
            "spec": {"serviceAccountName": "trainer", "containers": [{"name": "main", "image": "x"}]},
        }},
    })
}

async fn ask(source: Source, body: impl Into<Body>) -> (StatusCode, Bytes) {
    let config = Config { agent_image: "agent:1".to_owned(), namespace: "kustody-system".to_owned() };
    let router = Admission::new(source, config, &Metrics::default()).router();
    let response = router.oneshot(Request::post("/mutate-pods").body(body.into()).unwrap()).await.unwrap();
    (response.status(), to_bytes(response.into_body(), 1 << 20).await.unwrap())
}

/// What is known of a namespace with these bindings, as the caches have it.
fn source(bindings: usize) -> Source {
    let caches = known(bindings);
    Arc::new(move |namespace| caches.facts(namespace))
}

fn denial(answer: &Bytes) -> String {
    let answer: Value = serde_json::from_slice(answer).unwrap();
    assert_eq!(answer["response"]["allowed"], false, "{answer}");
    answer["response"]["status"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_review_of_three_mebibytes_is_decided_about_as_any_other() {
    let large = review(3 << 20).to_string();
    let (status, answer) = ask(source(0), large).await;
    assert_eq!(status, StatusCode::OK);
    let said = denial(&answer);
    assert!(said.contains("no SecretBinding of namespace vision fits it (service account trainer): there is none; create one"), "{said}");
}

#[tokio::test]
async fn a_review_that_is_too_large_is_refused_with_the_limit() {
    let (status, said) = ask(source(0), review(MAX_BODY).to_string()).await;
    assert_eq!((status, &said[..]), (StatusCode::PAYLOAD_TOO_LARGE, &b"the request has more than 4194304 bytes"[..]));
}

#[tokio::test]
async fn a_review_that_is_cut_off_or_of_another_version_is_a_failed_call_with_the_cause() {
    let whole = review(0).to_string();
    let old = whole.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1");
    let cut = whole[..whole.len() - 9].to_owned();
    for (body, part) in [(cut, "it ends too early (line 1, column"), (old, "admissionReviewVersions of the webhook must say v1")] {
        let (status, said) = ask(source(0), body).await;
        let said = String::from_utf8_lossy(&said);
        assert!(status == StatusCode::BAD_REQUEST && said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn what_is_not_known_yet_is_a_failed_call_that_says_so() {
    let (status, said) = ask(Arc::new(|_| None), review(0).to_string()).await;
    assert_eq!((status, &said[..]), (StatusCode::SERVICE_UNAVAILABLE, &b"what admission needs to know is not known yet; try again"[..]));
}

#[tokio::test]
async fn a_cache_of_ten_thousand_bindings_says_the_right_thing_in_a_short_denial() {
    let caches = known(10_000);
    let (_, answer) = ask(Arc::new(move |namespace| caches.facts(namespace)), review(0).to_string()).await;
    let said = denial(&answer);
    assert!(said.contains("SecretBinding b00000: its workloads.serviceAccounts do not name service account trainer"), "{said}");
    assert!(said.ends_with("; and 9995 more") && said.len() < 1910, "{said}");
}

#[tokio::test]
async fn each_answer_for_a_pod_is_one_line_of_the_log_that_says_how_it_was() {
    let log = Kept::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _listening = tracing::subscriber::set_default(subscriber);
    let mut skipped = review(0);
    skipped["request"]["object"]["metadata"] = json!({"name": "other", "labels": {}});
    let mut made = review(0);
    made["request"]["object"]["metadata"]["generateName"] = "train-".into();
    for (body, parts) in [
        (skipped.to_string(), ["INFO", "outcome=\"skipped\" pod=\"vision/other\""]),
        (made.to_string(), ["INFO", "outcome=\"denied\" pod=\"vision/train-*\" why=\"the pod asks for secrets"]),
        ("{}".to_owned(), ["WARN", "outcome=\"failed\""]),
    ] {
        ask(source(0), body).await;
        let said = log.take();
        assert!(said.lines().count() == 1 && parts.iter().all(|part| said.contains(part)), "{parts:?} in {said}");
    }
}

#[tokio::test]
async fn a_request_that_is_shed_is_counted() {
    let metrics = Metrics::default();
    let config = Config { agent_image: "agent:1".to_owned(), namespace: "kustody-system".to_owned() };
    let router = Admission::new(source(0), config, &metrics).router();
    let body = Body::from(review(MAX_BODY).to_string());
    router.oneshot(Request::post("/mutate-pods").body(body).unwrap()).await.unwrap();
    let text = metrics.render();
    assert!(text.contains("kustody_admission_total{outcome=\"shed\"} 1"), "{text}");
}
