//! Passes over a `KeyProvider` against an API server in this process.

use axum::http::Method;
use serde_json::json;

use super::*;
use crate::controllers::tests::{self as testing, Writes};

/// An API server that holds no Secret (or forbids them), and takes every write.
fn context(secrets: u16) -> (Arc<Context>, Writes) {
    testing::context(move |method, path, body| {
        if path.contains("/secrets") {
            (secrets, json!({"kind": "Status", "status": "Failure", "code": secrets, "reason": "Forbidden", "message": "no"}))
        } else {
            (200, if method == Method::PATCH { json!(object(1)) } else { body.clone() })
        }
    })
}

fn object(generation: i64) -> KeyProvider {
    let value = json!({
        "apiVersion": "kustody.dev/v1alpha1",
        "kind": "KeyProvider",
        "metadata": {"name": "main", "uid": "u", "resourceVersion": "7", "generation": generation},
        "spec": {"local": {}},
    });
    serde_json::from_value(value).unwrap()
}

fn notes(writes: &Writes) -> Vec<String> {
    let writes = writes.lock().unwrap();
    writes.iter().filter(|(path, _)| path.contains("/events")).map(|(_, body)| format!("{} {}", body["type"], body["note"])).collect()
}

#[tokio::test]
async fn a_provider_that_cannot_be_asked_is_not_ready_with_the_cause_and_an_event() {
    let (context, writes) = context(403);
    let next = reconcile(Arc::new(object(1)), Arc::clone(&context)).await.unwrap();
    assert_eq!(next, Next::Retry);
    let (path, status) = writes.lock().unwrap()[0].clone();
    assert_eq!(path, "/apis/kustody.dev/v1alpha1/keyproviders/main/status");
    assert_eq!(status["metadata"]["resourceVersion"], "7");
    let ready = status["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap().clone();
    assert_eq!((ready["status"].as_str(), ready["reason"].as_str()), (Some("False"), Some("ProviderRefuses")));
    assert!(ready["message"].as_str().unwrap().contains("lacks this right on secrets"), "{ready}");
    let notes = notes(&writes);
    assert!(notes.iter().any(|note| note.starts_with("\"Warning\"") && note.contains("lacks this right")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("emptyDir")), "{notes:?}");
}

#[tokio::test]
async fn a_second_pass_that_sees_the_same_writes_and_tells_nothing() {
    let (context, writes) = context(403);
    reconcile(Arc::new(object(1)), Arc::clone(&context)).await.unwrap();
    let mut written = writes.lock().unwrap()[0].1["status"].clone();
    written.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let mut again = object(1);
    again.status = Some(serde_json::from_value(written).unwrap());
    writes.lock().unwrap().clear();
    reconcile(Arc::new(again), context).await.unwrap();
    assert!(writes.lock().unwrap().is_empty(), "{:?}", writes.lock().unwrap());
}
