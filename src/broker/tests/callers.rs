//! Tests of who is let in.

use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use kustody_core::audit::Event;
use serde_json::json;

use super::signer::{Signer, claims, keys};
use super::world::{World, ask, object, plan, pod};

#[tokio::test]
async fn a_token_that_is_wrong_asks_nothing_of_the_api_server_and_learns_nothing() {
    let world = World::new().await;
    let router = world.router();
    let forged = Signer::es256("key-1").sign(&claims("vision", "trainer", "unknown"));
    for token in [forged.as_str(), "junk", ""] {
        let answered = ask(&router, "/v1/release", token, &plan()).await;
        let refusal = answered.refusal();
        assert_eq!((answered.status, refusal.reason.as_str(), refusal.retry), (StatusCode::UNAUTHORIZED, "Unauthenticated", false));
        assert!(!refusal.message.contains("vision") && !refusal.correlation_id.is_empty());
    }
    assert_eq!(world.asked.reviews.load(Ordering::Relaxed), 0);
    assert_eq!(world.records().len(), 1, "strangers write nothing to the disk");
}

#[tokio::test]
async fn a_signing_key_that_is_new_is_fetched_once() {
    let world = World::new().await;
    let router = world.router();
    let new = Signer::rs256("key-2");
    assert_eq!(ask(&router, "/v1/release", &world.token(), &plan()).await.status, StatusCode::OK);
    assert_eq!(world.asked.fetches.load(Ordering::Relaxed), 1);
    *world.asked.keys.lock().unwrap() = Some(keys(&[&world.signer, &new]));
    for _ in 0..3 {
        let answered = ask(&router, "/v1/release", &new.sign(&claims("vision", "trainer", "pod-1")), &plan()).await;
        assert_eq!((answered.status, answered.refusal().retry), (StatusCode::UNAUTHORIZED, true));
    }
    assert_eq!(world.asked.fetches.load(Ordering::Relaxed), 1, "not again so soon");
}

#[tokio::test]
async fn a_pod_that_is_not_alive_gets_nothing_and_its_refusal_is_recorded() {
    let mut world = World::new().await;
    let router = world.router();
    let with = |path: &str, value: serde_json::Value| {
        let mut pod = pod("vision", "pod-1", "trainer");
        *pod.pointer_mut(path).unwrap() = value;
        pod
    };
    let mut ending = pod("vision", "pod-1", "trainer");
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let another = with("/metadata/uid", json!("another"));
    for (pod, cause) in [
        (ending, "it is being deleted"),
        (with("/status/phase", json!("Succeeded")), "it has ended"),
        (with("/spec/serviceAccountName", json!("admin")), "another service account"),
        (another, "does not exist any more"),
    ] {
        world.pods.put(object(pod));
        let answered = ask(&router, "/v1/release", &world.token(), &plan()).await;
        let refusal = answered.refusal();
        assert_eq!((answered.status, refusal.reason.as_str()), (StatusCode::FORBIDDEN, "PodNotAlive"));
        assert!(refusal.message.contains(cause), "{}", refusal.message);
        let records = world.records();
        let record = records.last().unwrap();
        assert_eq!((record.event, &record.correlation_id), (Event::Refusal, &refusal.correlation_id));
        assert_eq!(record.subject.as_ref().unwrap().pod, "pod-1");
    }
}

#[tokio::test]
async fn a_service_account_that_was_made_anew_is_another() {
    let mut world = World::new().await;
    let account = json!({"metadata": {"namespace": "vision", "name": "trainer", "uid": "new"}});
    world.accounts.put(object(account.clone()));
    world.asked.pods.lock().unwrap().push(object(pod("vision", "pod-1", "trainer")));
    world.asked.accounts.lock().unwrap().push(object(account));
    let answered = ask(&world.router(), "/v1/release", &world.token(), &plan()).await;
    assert_eq!(answered.status, StatusCode::FORBIDDEN);
    assert!(answered.refusal().message.contains("its service account was deleted or made anew"), "{}", answered.refusal().message);
}

#[tokio::test]
async fn a_pod_that_the_cache_does_not_know_yet_is_asked_after_at_the_api_server() {
    let mut world = World::new().await;
    let young = pod("vision", "pod-1", "trainer");
    world.pods.delete(object(young.clone()));
    world.asked.pods.lock().unwrap().push(object(young));
    world
        .asked
        .accounts
        .lock()
        .unwrap()
        .push(object(json!({"metadata": {"namespace": "vision", "name": "trainer", "uid": "trainer-uid"}})));
    let answered = ask(&world.router(), "/v1/release", &world.token(), &plan()).await;
    assert_eq!(answered.status, StatusCode::OK, "{}", String::from_utf8_lossy(&answered.body));
    assert_eq!(world.asked.reviews.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_broker_that_the_api_server_has_not_confirmed_releases_nothing() {
    let mut world = World::new().await;
    world.stale = std::time::Duration::ZERO;
    let answered = ask(&world.router(), "/v1/release", &world.token(), &plan()).await;
    let refusal = answered.refusal();
    assert_eq!((answered.status, refusal.reason.as_str(), refusal.retry), (StatusCode::SERVICE_UNAVAILABLE, "ClusterUnavailable", true));
}

#[tokio::test]
async fn one_watch_that_the_api_server_does_not_take_up_any_more_stops_release_though_its_keys_are_confirmed() {
    let world = World::new().await;
    let router = world.router();
    assert_eq!(ask(&router, "/v1/release", &world.token(), &plan()).await.status, StatusCode::OK);
    let nobody = tower::service_fn(|_: axum::http::Request<kube::client::Body>| async {
        Err::<axum::http::Response<kube::client::Body>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
    });
    let _client = world.confirmed.noting("bindings", &kube::Client::new(nobody, "default"));
    let answered = ask(&router, "/v1/release", &world.token(), &plan()).await;
    let refusal = answered.refusal();
    assert_eq!((answered.status, refusal.reason.as_str(), refusal.retry), (StatusCode::SERVICE_UNAVAILABLE, "ClusterUnavailable", true));
    assert!(refusal.message.contains("watch of bindings for 60 s"), "{}", refusal.message);
}
