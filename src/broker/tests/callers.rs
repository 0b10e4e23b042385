//! Tests of who is let in.

use std::io;
use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use kustody_core::audit::Event;
use serde_json::json;

use super::signer::{NOW, Signer, claims, keys};
use super::world::{World, ask, object, plan, pod};
use crate::runtime::log::tests::Kept;

/// What everybody is told whose token is wrong, whatever is wrong with it.
const STRANGER: &str =
    "the token is not a valid token of a running pod for this broker; whoever runs the operator finds the cause in its log";

#[tokio::test]
async fn whoever_comes_with_a_wrong_token_is_told_one_thing_and_the_log_says_the_cause() {
    let world = World::new().await;
    let router = world.router();
    let with = |field: &str, value: serde_json::Value| {
        let mut claims = claims("vision", "trainer", "pod-1");
        claims[field] = value;
        world.signer.sign(&claims)
    };
    let pod = claims("vision", "trainer", "pod-1");
    let mut unbound = pod["kubernetes.io"].clone();
    unbound.as_object_mut().unwrap().remove("pod");
    let log = Kept::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _listening = tracing::subscriber::set_default(subscriber);
    for (token, cause) in [
        (with("aud", json!(["https://kubernetes.default.svc"])), "its audience is not broker.kustody.dev"),
        (with("exp", json!(NOW - 60)), "its time is over or has not come"),
        (with("nbf", json!(NOW + 60)), "its time is over or has not come"),
        (with("iss", json!("https://elsewhere")), "its issuer is not this cluster's"),
        (Signer::es256("key-1").sign(&pod), "it was not signed with the key that it names"),
        (Signer::es256("key-9").sign(&pod), "it names a signing key that the API server does not publish"),
        (with("kubernetes.io", unbound), "it is bound to no pod"),
        ("junk".to_owned(), "it is no token of a service account"),
    ] {
        log.take();
        let answered = ask(&router, "/v1/release", &token, &plan()).await;
        let refusal = answered.refusal();
        assert_eq!((answered.status, refusal.message.as_str()), (StatusCode::UNAUTHORIZED, STRANGER), "{cause}");
        // A key that is new may be published a moment later.
        assert_eq!(refusal.retry, cause.contains("signing key"), "{cause}");
        let said = log.take();
        assert!(said.contains("a token was refused") && said.contains(cause) && !said.contains(&token), "{cause}: {said}");
    }
}

#[tokio::test]
async fn a_token_of_another_namespace_reaches_nothing_of_this_one() {
    let mut world = World::new().await;
    world.pods.put(object(pod("other", "thief", "trainer")));
    world.accounts.put(object(json!({"metadata": {"namespace": "other", "name": "trainer", "uid": "trainer-uid"}})));
    let token = world.signer.sign(&claims("other", "trainer", "thief"));
    let release = ask(&world.router(), "/v1/release", &token, &plan()).await.release();
    assert_eq!(release.values.len(), 0);
    assert_eq!(release.withdrawn[0].reason, "SecretBinding other/train does not exist any more; restore it, or recreate the pod");
    assert_eq!(world.records().last().unwrap().event, Event::Refusal);
}

#[tokio::test]
async fn a_token_of_a_pod_that_was_deleted_or_made_anew_is_refused_with_the_pod_and_its_uid() {
    let mut world = World::new().await;
    world.pods.delete(object(pod("vision", "pod-1", "trainer")));
    let router = world.router();
    let mut anew = pod("vision", "pod-1", "trainer");
    anew["metadata"]["uid"] = json!("another");
    let told = async |why: &str| {
        let answered = ask(&router, "/v1/release", &world.token(), &plan()).await;
        let refusal = answered.refusal();
        assert_eq!((answered.status, refusal.reason.as_str()), (StatusCode::FORBIDDEN, "PodNotAlive"));
        assert_eq!(refusal.message, format!("pod vision/pod-1 (UID pod-1-uid): {why}"));
    };
    told("it does not exist any more").await;
    world.asked.pods.lock().unwrap().push(object(anew));
    told("it does not exist any more").await;
    world.asked.rejects.store(true, Ordering::Relaxed);
    told("the API server does not accept its token any more").await;
}

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
        assert_eq!(refusal.message, STRANGER);
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
        assert!(
            refusal.message.starts_with("pod vision/pod-1 (UID pod-1-uid): ") && refusal.message.contains(cause),
            "{}",
            refusal.message
        );
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
    let said = "the broker has not reached the API server for 0 s and cannot know what was withdrawn since";
    assert_eq!(refusal.message, said);
}

#[tokio::test]
async fn one_watch_that_the_api_server_does_not_take_up_any_more_stops_release_though_its_keys_are_confirmed() {
    let world = World::new().await;
    let router = world.router();
    assert_eq!(ask(&router, "/v1/release", &world.token(), &plan()).await.status, StatusCode::OK);
    let nobody = tower::service_fn(|_: axum::http::Request<kube::client::Body>| async {
        Err::<axum::http::Response<kube::client::Body>, _>(io::Error::from(io::ErrorKind::ConnectionRefused))
    });
    let _client = world.confirmed.noting("bindings", &kube::Client::new(nobody, "default"));
    let answered = ask(&router, "/v1/release", &world.token(), &plan()).await;
    let refusal = answered.refusal();
    assert_eq!((answered.status, refusal.reason.as_str(), refusal.retry), (StatusCode::SERVICE_UNAVAILABLE, "ClusterUnavailable", true));
    assert!(refusal.message.contains("watch of bindings for 60 s"), "{}", refusal.message);
}
