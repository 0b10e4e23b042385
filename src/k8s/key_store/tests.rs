//! The store of Secrets against an API server in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kustody_core::secret::SecretBytes;
use serde_json::{Value, json};

use super::*;
use crate::k8s::testing;

type Seen = Arc<Mutex<Vec<(String, String, Value)>>>;

/// A store in front of an API server that answers everything with `status` and `answer`.
fn against(status: u16, answer: Value) -> (Secrets, Seen) {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let client = testing::client(move |method, path, body| {
        log.lock().unwrap().push((method.to_string(), path.to_owned(), body));
        (status, answer.clone())
    });
    (Secrets::new(client, "kustody-system"), seen)
}

fn refused(code: u16, reason: &str) -> (Secrets, Seen) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason});
    against(code, status)
}

fn record(revision: &str) -> Record {
    Record {
        name: "kustody-key-n".to_owned(),
        revision: revision.to_owned(),
        labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        annotations: BTreeMap::new(),
        data: BTreeMap::from([("version-1".to_owned(), SecretBytes::new(b"wrapped".to_vec()))]),
    }
}

fn secret() -> Value {
    json!({"metadata": {"name": "kustody-key-n", "resourceVersion": "7"}, "data": {"version-1": "d3JhcHBlZA=="}})
}

#[tokio::test]
async fn a_record_is_a_labelled_secret_of_our_type_in_the_operator_s_namespace() {
    let (store, seen) = against(201, secret());
    assert!(store.create(&record("")).await.unwrap());
    let (method, uri, body) = seen.lock().unwrap().pop().unwrap();
    assert_eq!((method.as_str(), uri.trim_end_matches(['?', '&'])), ("POST", "/api/v1/namespaces/kustody-system/secrets"));
    assert_eq!(body["type"], "kustody.dev/local-key");
    assert_eq!(body["data"], json!({"version-1": "d3JhcHBlZA=="}));
    let labels = json!({"a": "b", "app.kubernetes.io/managed-by": "kustody", "kustody.dev/local-key": "true"});
    assert_eq!(body["metadata"]["labels"], labels);
    assert_eq!(body["metadata"].get("resourceVersion"), None);
}

#[tokio::test]
async fn a_record_is_replaced_only_at_the_revision_that_was_read() {
    let (store, seen) = against(200, secret());
    let found = store.read("kustody-key-n").await.unwrap().unwrap();
    assert_eq!(found.revision, "7");
    store.replace(&found).await.unwrap();
    let (method, _, body) = seen.lock().unwrap().pop().unwrap();
    assert_eq!((method.as_str(), &body["metadata"]["resourceVersion"]), ("PUT", &json!("7")));
}

#[tokio::test]
async fn a_write_s_time_is_the_api_server_s() {
    let mut answer = secret();
    let managed = |time: &str| json!({"manager": "m", "operation": "Update", "time": time});
    answer["metadata"]["managedFields"] = json!([managed("2026-01-01T00:00:00Z"), managed("2026-01-02T00:00:00Z")]);
    let (store, _) = against(200, answer);
    let found = store.read("kustody-key-n").await.unwrap().unwrap();
    let written = store.replace(&found).await.unwrap();
    assert_eq!((written.revision.as_str(), written.at), ("7", Some("2026-01-02T00:00:00Z".parse().unwrap())));
}

#[tokio::test]
async fn a_record_that_was_never_read_replaces_nothing() {
    let (store, seen) = against(200, secret());
    let error = store.replace(&record("")).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_another_wrote_or_deleted_first_is_a_conflict() {
    for (code, reason) in [(409, "Conflict"), (404, "NotFound")] {
        let error = refused(code, reason).0.replace(&record("6")).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_stays_as_it_is_and_an_absent_one_is_none() {
    assert!(!refused(409, "AlreadyExists").0.create(&record("")).await.unwrap());
    assert!(refused(404, "NotFound").0.read("kustody-key-n").await.unwrap().is_none());
}

#[tokio::test]
async fn a_missing_right_and_a_silent_server_are_told_apart() {
    let denied = refused(403, "Forbidden").0.read("kustody-key-n").await.err().unwrap();
    assert!(matches!(&denied, Error::Denied { .. }) && denied.to_string().contains("Role"), "{denied}");
    let down = refused(503, "ServiceUnavailable").0.list(&Selector::default()).await.err().unwrap();
    assert!(matches!(down, Error::Unavailable { .. }), "{down}");
}

#[tokio::test]
async fn records_are_listed_by_their_labels() {
    let (store, seen) = against(200, json!({"metadata": {}, "items": [secret()]}));
    let selector = Selector::default().and("kustody.dev/local-owner", ["a".to_owned(), "b".to_owned()]);
    let selector = selector.and("kustody.dev/local-provider", ["0123456789".to_owned()]);
    assert_eq!(store.list(&selector).await.unwrap().len(), 1);
    let (_, uri, _) = seen.lock().unwrap().pop().unwrap();
    let wanted = "labelSelector=kustody.dev%2Flocal-owner+in+%28a%2Cb%29%2Ckustody.dev%2Flocal-provider%3D0123456789";
    assert!(uri.contains(wanted), "{uri}");
}
