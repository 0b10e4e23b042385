//! `reseal` against an API server that answers as broker and controller would.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::sync::{Arc, Mutex};

use common::{Answers, Said, Server, failure};
use kustody_api::names::RESEAL_ANNOTATION;
use serde_json::{Value, json};

const PATH: &str = "/apis/kustody.dev/v1alpha1/namespaces/vision/secretbindings/trainer";
const OLD: &str = "AgEBold-value-of-hf";
/// SHA-256 of it.
const OLD_SHA256: &str = "ad2bef6dd2a5e76fc69d82872bde87cdb5c17e59800b5f053430e8dc5524acb1";

/// One binding that is answered at once; `then` changes it after a read: the first compares, the second finds the answer, the
/// third looks whether the question is still ours.
fn server(after: usize, then: fn(&mut Value)) -> (Server, Arc<Mutex<Value>>) {
    let binding = json!({"apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding",
        "metadata": {"name": "trainer", "namespace": "vision", "resourceVersion": "1"},
        "spec": {"secrets": [{"name": "hf", "sealed": {"key": "k", "value": OLD}}]}, "status": {}});
    let live = Arc::new(Mutex::new(binding));
    let (known, mut reads) = (Arc::clone(&live), 0);
    let state = Mutex::new(move |(method, path, body): &common::Request| {
        assert_eq!(path.split('?').next(), Some(PATH));
        let mut live = known.lock().unwrap();
        if method == "GET" {
            reads += 1;
            let read = live.clone();
            if reads == after {
                then(&mut live);
            }
            return (200, read);
        }
        let expected = &body["metadata"]["resourceVersion"];
        if !expected.is_null() && *expected != live["metadata"]["resourceVersion"] {
            let (code, mut status) = failure(409, "the object has been modified");
            status["reason"] = json!("Conflict");
            return (code, status);
        }
        let request = &body["metadata"]["annotations"][RESEAL_ANNOTATION];
        live["metadata"]["annotations"] = if request.is_null() { json!({}) } else { json!({RESEAL_ANNOTATION: request}) };
        live["metadata"]["resourceVersion"] = json!("2");
        if !request.is_null() {
            live["status"] = json!({"resealed": {"request": request,
                "secrets": [{"name": "hf", "value": "AgEBnew", "replacesSha256": OLD_SHA256}]}});
        }
        (200, live.clone())
    });
    let answers: Answers = Box::new(move |request| state.lock().unwrap()(request));
    (Server::new(answers), live)
}

fn reseal(server: &Server, value: &str) -> (Said, String) {
    reseal_as(server, value, &[])
}

fn reseal_as(server: &Server, value: &str, more: &[&str]) -> (Said, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("binding.yaml");
    let text = format!(
        "apiVersion: kustody.dev/v1alpha1\nkind: SecretBinding\nmetadata: {{name: trainer}}\nspec:\n  workloads: {{serviceAccounts: [trainer]}}\n  secrets:\n  - name: hf\n    sealed: {{key: k, value: {value}}}\n  deliver: {{files: [{{secret: hf, path: hf}}]}}\n"
    );
    std::fs::write(&path, text).unwrap();
    let said = server.run(&[&["reseal", "-f", path.to_str().unwrap()], more].concat());
    (said, std::fs::read_to_string(path).unwrap())
}

#[test]
fn a_value_that_was_sealed_anew_stands_in_the_file_and_the_question_is_gone() {
    let (server, live) = server(0, |_| ());
    let (said, text) = reseal(&server, OLD);
    assert!(said.good().contains("1 of 1 values sealed anew"));
    assert!(text.contains("value: AgEBnew") && !text.contains(OLD), "{text}");
    assert_eq!(live.lock().unwrap()["metadata"]["annotations"], json!({}));
}

#[test]
fn what_was_resealed_is_told_as_json_and_yaml_and_the_manifest_on_standard_output_leaves_the_file_alone() {
    for (format, parse) in [
        ("json", (|said| serde_json::from_str(said).unwrap()) as fn(&str) -> Value),
        ("yaml", |said| serde_saphyr::from_str(said).unwrap()),
    ] {
        let (said, _) = reseal_as(&server(0, |_| ()).0, OLD, &["-o", format]);
        let told = parse(&said.good());
        assert_eq!((&told["values"], &told["resealed"]), (&json!(1), &json!(1)), "{told}");
    }
    let (said, text) = reseal_as(&server(0, |_| ()).0, OLD, &["--stdout"]);
    let printed = said.good();
    assert!(printed.contains("value: AgEBnew") && text.contains(OLD), "{printed}");
}

#[test]
fn a_value_that_does_not_stand_in_the_file_as_one_piece_is_refused_before_anybody_is_asked() {
    let (server, _) = server(0, |_| ());
    let (said, text) = reseal(&server, "\"AgEBold-value\\x2dof-hf\"");
    let refusal = said.refused(1);
    for part in ["SecretBinding vision/trainer", "spec.secrets[hf]", "write it on one line"] {
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
    assert!(!refusal.contains("AgEB") && text.contains("x2d"), "{refusal}{text}");
    assert!(server.requests().is_empty());
}

#[test]
fn the_question_of_another_is_not_taken_away() {
    let (server, live) = server(2, |live| live["metadata"]["annotations"] = json!({RESEAL_ANNOTATION: "of another"}));
    let (said, text) = reseal(&server, OLD);
    said.good();
    assert!(text.contains("AgEBnew"), "{text}");
    assert_eq!(live.lock().unwrap()["metadata"]["annotations"], json!({RESEAL_ANNOTATION: "of another"}));
}

#[test]
fn a_question_is_taken_away_though_somebody_writes_meanwhile() {
    let (server, live) = server(3, |live| live["metadata"]["resourceVersion"] = json!("7"));
    reseal(&server, OLD).0.good();
    assert_eq!(live.lock().unwrap()["metadata"]["annotations"], json!({}));
}
