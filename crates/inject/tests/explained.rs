//! The explanation says what the webhook decides, and why, for every recorded pod.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{asking, binding, config, facts, patched, recorded, request};
use kustody_inject::view::Review;
use kustody_inject::{Decision, Explanation, Facts, explain};
use serde_json::{Value, json};

fn explained(review: &Value, facts: &Facts) -> Explanation {
    let text = review.to_string();
    let review: Review<'_> = serde_json::from_str(&text).unwrap();
    let namespace = review.request.namespace.as_deref().unwrap().to_owned();
    explain(&review.request.object.unwrap(), &namespace, facts, &config())
}

fn why<'a>(explanation: &'a Explanation, name: &str) -> &'a str {
    let found = explanation.bindings.iter().find(|considered| considered.binding.name == name).unwrap();
    found.verdict.as_ref().unwrap_err()
}

fn renamed(mut binding: Value, name: &str) -> Value {
    binding["metadata"]["name"] = json!(name);
    binding["metadata"]["uid"] = json!(format!("u-{name}"));
    binding["spec"]["deliver"] = json!({"files": [{"secret": "hf", "path": "token"}]});
    binding
}

#[test]
fn the_bindings_that_serve_are_those_that_the_decision_names() {
    for (name, review) in recorded() {
        let fits = binding(&review);
        let mut other = renamed(fits.clone(), "other");
        other["spec"]["workloads"]["serviceAccounts"] = json!(["somebody-else"]);
        let facts = facts(&[other, fits.clone(), renamed(fits, "zweiter")]);
        for label in ["true", "trainer"] {
            let explanation = explained(&asking(review.clone(), label), &facts);
            let serving: Vec<&str> =
                explanation.bindings.iter().filter(|b| b.verdict.is_ok()).map(|considered| considered.binding.name.as_str()).collect();
            let Decision::Inject { bindings, .. } = &explanation.decision else { panic!("{name}: {:?}", explanation.decision) };
            assert_eq!(&serving, bindings, "{name}");
            let planned: Vec<&str> = explanation.plan.iter().flat_map(|plan| &plan.bindings).map(|b| b.name.as_str()).collect();
            assert_eq!(planned, serving, "{name}");
            assert!(why(&explanation, "other").contains("serviceAccounts"), "{name}");
            assert!(!explanation.admitted, "{name}");
        }
    }
}

#[test]
fn an_admitted_pod_is_explained_by_the_plan_that_it_carries() {
    for (name, review) in recorded() {
        let review = asking(review, "true");
        let serves = binding(&review);
        let after = patched(&review, &common::answer(&review, &facts(std::slice::from_ref(&serves))));
        // One that fits only now is not added, and the one that was promised stands though it is not ready any more.
        let mut unready = serves.clone();
        unready["status"] = Value::Null;
        let explanation = explained(&after, &facts(&[renamed(serves, "later"), unready]));
        assert!(explanation.admitted, "{name}");
        assert!(why(&explanation, "later").contains("when the pod was admitted"), "{name}");
        assert!(explanation.bindings[1].verdict.is_ok(), "{name}: {:?}", explanation.bindings[1].verdict);
        assert_eq!(explanation.plan.unwrap().bindings[0].name, "trainer", "{name}");
    }
}

#[test]
fn a_binding_that_was_made_anew_does_not_serve_a_pod_admitted_before() {
    let review = asking(request("kubernetes/job"), "true");
    let mut serves = binding(&review);
    let after = patched(&review, &common::answer(&review, &facts(std::slice::from_ref(&serves))));
    serves["metadata"]["uid"] = json!("another");
    let explanation = explained(&after, &facts(&[serves]));
    assert!(why(&explanation, "trainer").contains("made anew"));
    assert!(matches!(explanation.decision, Decision::Deny(_)));
}

#[test]
fn each_reason_not_to_serve_is_told() {
    let review = request("kubernetes/job");
    let fits = binding(&review);
    let mut unready = fits.clone();
    unready["status"]["conditions"][0]["status"] = json!("False");
    unready["status"]["conditions"][0]["reason"] = json!("EncryptionKeyNotFound");
    let mut elsewhere = fits.clone();
    elsewhere["spec"]["workloads"]["podSelector"] = json!({"matchLabels": {"team": "none"}});
    let mut nowhere = fits.clone();
    nowhere["spec"]["workloads"]["containers"] = json!(["absent"]);
    for (label, object, part) in [
        ("true", &unready, "EncryptionKeyNotFound"),
        ("true", &elsewhere, "podSelector"),
        ("true", &nowhere, "workloads.containers names absent"),
        ("false", &fits, "the pod says false"),
        ("another", &fits, "asks for SecretBinding another alone"),
    ] {
        let explanation = explained(&asking(review.clone(), label), &facts(std::slice::from_ref(object)));
        assert!(why(&explanation, "trainer").contains(part), "{part}: {:?}", explanation.bindings);
        assert!(explanation.plan.is_none(), "{part}");
    }
}

#[test]
fn how_a_pod_asks_is_said_with_the_label_that_says_it() {
    let review = request("kubernetes/deployment");
    for (pod, namespace, part) in [
        (Some("true"), None, "by the pod's label kustody.dev/inject"),
        (Some("trainer"), None, "for SecretBinding trainer"),
        (Some("false"), None, "no: the pod says false"),
        (None, Some("required"), "required"),
        (None, Some("enabled"), "offers all its pods"),
        (None, None, "neither the pod nor its namespace asks"),
    ] {
        let review = pod.map_or_else(|| review.clone(), |label| asking(review.clone(), label));
        let labels: BTreeMap<String, String> =
            namespace.map(|word| ("kustody.dev/inject".to_owned(), word.to_owned())).into_iter().collect();
        let facts = Facts { namespace_labels: Arc::new(labels), ..facts(&[]) };
        let asking = explained(&review, &facts).asking;
        assert!(asking.contains(part), "{part}: {asking}");
    }
}
