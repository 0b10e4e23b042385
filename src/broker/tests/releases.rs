//! Tests of `/v1/release`.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode};
use futures::{FutureExt as _, stream};
use kustody_core::audit::{Chain, Event};
use kustody_core::wire::Refusal;
use serde_json::json;
use tower::ServiceExt as _;

use super::world::{World, ask, binding, encryption_key, make_key, object, plan, pod, sealed, values};
use crate::audit::Log;
use crate::audit::segments::{Directory, Found, Sink};
use crate::audit::writer::{SEGMENT_LIMIT, Writer};
use crate::broker::limits::{RUNNING, Room, STARTING};
use crate::broker::routes;

fn given(password: &str) -> BTreeMap<(String, String), String> {
    [(("db", "password"), password), (("token", ""), "canary-t")]
        .map(|((secret, property), value)| ((secret.to_owned(), property.to_owned()), value.to_owned()))
        .into()
}

#[tokio::test]
async fn a_pod_gets_what_its_plan_names_and_a_record_says_so() {
    let world = World::new().await;
    let answered = ask(&world.router(), "/v1/release", &world.token(), &plan()).await;
    let release = answered.release();
    assert_eq!(values(&release), given("canary-p"));
    assert_eq!(release.withdrawn, []);
    let records = world.records();
    let record = records.last().unwrap();
    assert_eq!(record.event, Event::Release);
    assert_eq!(record.subject.as_ref().unwrap().pod_uid, "pod-1-uid");
    let items: Vec<_> = record.items.iter().map(|item| (item.secret.as_str(), item.key.as_str(), item.sealing_key_version)).collect();
    assert_eq!(items, [("db", "team-key", Some(1)), ("token", "team-key", Some(1))]);
    assert!(!serde_json::to_string(&records).unwrap().contains("canary"));
}

#[tokio::test]
async fn what_was_opened_is_in_no_line_of_the_log_that_is_written_after_it() {
    let world = World::new().await;
    let unsaid = &world.process.unsaid;
    let text = "p: canary-p, t: canary-t, all: {\\\"user\\\": \\\"u\\\", \\\"password\\\": \\\"canary-p\\\"}";
    assert_eq!(&*unsaid.hide(text.as_bytes()), text.as_bytes());
    ask(&world.router(), "/v1/release", &world.token(), &plan()).await.release();
    let hidden = String::from_utf8(unsaid.hide(text.as_bytes()).into_owned()).unwrap();
    assert_eq!(hidden, "p: [redacted], t: [redacted], all: [redacted]");
}

#[tokio::test]
async fn fifty_releases_at_once_cost_one_call_to_the_provider() {
    let world = World::new().await;
    let router = world.router();
    let (before, token, plan) = (world.store.reads(), world.token(), plan());
    let each = (0..50).map(|_| ask(&router, "/v1/release", &token, &plan));
    for answered in futures::future::join_all(each).await {
        assert_eq!(values(&answered.release()).len(), 2);
    }
    let key = |reads: &[String]| reads.iter().filter(|name| name.contains("nonceteamkey1")).count();
    assert_eq!(key(&world.store.reads()) - key(&before), 1);
    let metrics = world.process.metrics.render();
    assert!(metrics.contains("kustody_release_provider_calls_total 1\n"), "{metrics}");
    assert!(metrics.contains("kustody_release_seeds_total 100\n"), "{metrics}");
    assert!(metrics.contains("kustody_release_openings_total 2\n"), "what was opened is there for whoever may have it: {metrics}");
}

/// A disk that waits, or that is full.
struct Gate {
    entered: Mutex<Option<tokio::sync::oneshot::Sender<()>>>,
    go: Mutex<Option<mpsc::Receiver<()>>>,
}

struct Slow(Option<tokio::sync::oneshot::Sender<()>>, mpsc::Receiver<()>);

impl Directory for Gate {
    fn create(&self, _: u64) -> io::Result<Box<dyn Sink>> {
        let go = self.go.lock().map_err(|_| io::Error::other("poisoned"))?.take().ok_or(io::ErrorKind::StorageFull)?;
        let entered = self.entered.lock().map_err(|_| io::Error::other("poisoned"))?.take();
        Ok(Box::new(Slow(entered, go)))
    }
}

impl Sink for Slow {
    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(entered) = self.0.take() {
            let _ = entered.send(());
        }
        self.1.recv().map_err(io::Error::other)
    }
}

fn log(world: &World, gate: Gate) -> Log {
    let found = Found { directory: Box::new(gate), sink: None, length: 0, torn: 0, chain: Chain::default() };
    Log::start(Writer::new(found, SEGMENT_LIMIT), &world.process)
}

#[tokio::test]
async fn the_answer_waits_until_its_record_is_on_disk() {
    let world = World::new().await;
    let (entered, mut syncing) = tokio::sync::oneshot::channel();
    let (go, gate) = mpsc::channel();
    let router = world.router_with(log(&world, Gate { entered: Mutex::new(Some(entered)), go: Mutex::new(Some(gate)) }), false);
    let (token, plan) = (world.token(), plan());
    let asking = ask(&router, "/v1/release", &token, &plan);
    tokio::pin!(asking);
    tokio::select! {
        _ = &mut asking => panic!("answered before the record was written"),
        _ = &mut syncing => {}
    }
    assert!(asking.as_mut().now_or_never().is_none(), "answered while the record was being written");
    go.send(()).unwrap();
    assert_eq!(asking.await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_answer_that_is_not_read_holds_its_place_and_its_room_until_it_is_given_up() {
    let world = World::new().await;
    let broker = world.broker(Log::open(world.audit.path(), &world.process).unwrap(), false);
    let (router, limits) = (routes::router(Arc::clone(&broker)), &broker.limits);
    let whole = |kib: usize, room: &Room| (0..kib >> 10).map(|_| room.enter(1 << 20)).collect::<Result<Vec<_>, _>>();
    let places = || (0..256).map(|_| limits.enter()).collect::<Result<Vec<_>, _>>();
    let release = [("/v1/release", plan()), ("/v1/watch", json!({"plan": plan(), "known": []}))];
    for (path, body) in release {
        let request = Request::post(path).header("authorization", format!("Bearer {}", world.token()));
        let answered = router.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
        assert_eq!(answered.status(), StatusCode::OK);
        // As the server does: it takes the bytes, drops the body, and only then writes.
        let unread = to_bytes(answered.into_body(), 1 << 20).await.unwrap();
        let starting = path == "/v1/release";
        assert_eq!((whole(STARTING, &limits.starting).is_ok(), places().is_ok()), (!starting, !starting), "{path}");
        assert_eq!(whole(RUNNING, &broker.watch.room).is_ok(), starting, "{path}");
        drop(unread);
        assert!(whole(STARTING, &limits.starting).is_ok() && whole(RUNNING, &broker.watch.room).is_ok() && places().is_ok(), "{path}");
    }
    let full = whole(STARTING, &limits.starting).unwrap();
    let refused = ask(&router, "/v1/release", &world.token(), &plan()).await;
    assert_eq!(
        (refused.status, refused.refusal().reason.as_str(), refused.refusal().retry),
        (StatusCode::SERVICE_UNAVAILABLE, "Busy", true)
    );
    drop(full);
    ask(&router, "/v1/release", &world.token(), &plan()).await.release();
}

#[tokio::test]
async fn a_full_disk_stops_release() {
    let world = World::new().await;
    let router = world.router_with(log(&world, Gate { entered: Mutex::default(), go: Mutex::default() }), false);
    let answered = ask(&router, "/v1/release", &world.token(), &plan()).await;
    assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE);
    let refusal = answered.refusal();
    assert_eq!((refusal.reason.as_str(), refusal.retry), ("AuditUnavailable", true));
    assert!(!String::from_utf8_lossy(&answered.body).contains("canary"));
}

#[tokio::test]
async fn a_plan_that_names_very_much_makes_a_record_of_bounded_size() {
    let world = World::new().await;
    let router = world.router();
    let bindings: Vec<_> = (0..32).map(|i| json!({"name": format!("{i:03}{}", "é".repeat(1000)), "uid": "u", "files": []})).collect();
    let answered = ask(&router, "/v1/release", &world.token(), &json!({"version": 1, "bindings": bindings})).await;
    assert_eq!(answered.release().withdrawn.len(), 32);
    let record = world.records().pop().unwrap();
    assert_eq!(record.reasons.len(), 9);
    assert!(record.reasons[..8].iter().all(|reason| reason.starts_with("00") && reason.len() == 399), "{:?}", record.reasons);
    assert_eq!(record.reasons[8], "and 24 more");
}

#[tokio::test]
async fn what_is_not_for_the_held_key_is_refused_without_a_call_to_the_provider() {
    let mut world = World::new().await;
    let other = make_key(&world.local, "other-key").await;
    let mut unlisted = world.document.clone();
    let (_, stranger) = kustody_core::sealing::generate().unwrap();
    unlisted.header.public_key_sha256 = stranger.sha256();
    unlisted.public_key = stranger;
    let router = world.router();
    for (document, cause) in [(&other, "and EncryptionKey team-key holds"), (&unlisted, "does not list the sealing key")] {
        let mut changed = binding(&world.document);
        for (i, secret) in ["db", "token"].into_iter().enumerate() {
            changed["spec"]["secrets"][i]["sealed"]["value"] = json!(sealed(document, "vision", "train", secret, "x"));
        }
        world.bindings.put(object(changed));
        let reads = world.store.reads().len();
        let release = ask(&router, "/v1/release", &world.token(), &plan()).await.release();
        assert_eq!(release.values.len(), 0);
        assert!(release.withdrawn.iter().all(|withdrawn| withdrawn.reason.contains(cause)), "{:?}", release.withdrawn);
        assert_eq!(world.store.reads().len(), reads, "no call to the provider");
        assert_eq!(world.records().last().unwrap().event, Event::Refusal);
    }
}

#[tokio::test]
async fn a_value_of_another_place_does_not_open_and_the_rest_is_given() {
    let mut world = World::new().await;
    let router = world.router();
    for (namespace, train, db) in [("other", "train", "db"), ("vision", "other", "db"), ("vision", "train", "other")] {
        let mut changed = binding(&world.document);
        changed["spec"]["secrets"][0]["sealed"]["value"] = json!(sealed(&world.document, namespace, train, db, "x"));
        world.bindings.put(object(changed));
        let release = ask(&router, "/v1/release", &world.token(), &plan()).await.release();
        assert_eq!(release.values.len(), 1);
        let field = "SecretBinding vision/train: spec.secrets[db].sealed.value";
        let rule = "the value does not open here: it was sealed for another namespace, binding or secret name, or was altered";
        assert_eq!(release.withdrawn[0].reason, format!("{field}: {rule}; seal it again for this place"));
        let records = world.records();
        let record = records.last().unwrap();
        assert_eq!((record.event, record.items.len(), record.reasons.len()), (Event::Release, 1, 1));
    }
}

#[tokio::test]
async fn a_value_that_is_cut_off_or_lacks_a_member_is_withdrawn_with_field_rule_and_remedy() {
    let mut world = World::new().await;
    let router = world.router();
    let whole = sealed(&world.document, "vision", "train", "db", "{}");
    let cut = whole[..1024].to_owned();
    for (value, rule) in [
        (cut, "spec.secrets[db].sealed.value: the sealed value cannot be read: it is truncated; copy the whole line again"),
        (
            whole,
            "spec.secrets[db]: property \"password\": the secret's value has no such member at its top level; correct the property, or \
             seal a value that has it",
        ),
    ] {
        let mut changed = binding(&world.document);
        changed["spec"]["secrets"][0]["sealed"]["value"] = json!(value);
        world.bindings.put(object(changed));
        let release = ask(&router, "/v1/release", &world.token(), &plan()).await.release();
        assert_eq!(release.withdrawn[0].reason, format!("SecretBinding vision/train: {rule}"));
    }
}

#[tokio::test]
async fn a_pod_of_a_namespace_that_was_deleted_is_given_nothing_and_told_so() {
    let mut world = World::new().await;
    let router = world.router();
    // Caches learn of it in any order: first the namespace, then the pod.
    world.namespaces.delete(object(json!({"metadata": {"name": "vision"}})));
    let refusal = ask(&router, "/v1/release", &world.token(), &plan()).await.refusal();
    let said = "the broker does not know namespace vision: it was made a moment ago, then try again, or it was deleted";
    assert_eq!((refusal.reason.as_str(), refusal.message.as_str(), refusal.retry), ("CacheBehind", said, true));
    world.pods.delete(object(pod("vision", "pod-1", "trainer")));
    let refusal = ask(&router, "/v1/release", &world.token(), &plan()).await.refusal();
    let said = "pod vision/pod-1 (UID pod-1-uid): it does not exist any more";
    assert_eq!((refusal.reason.as_str(), refusal.message.as_str(), refusal.retry), ("PodNotAlive", said, false));
    assert!(world.records()[1..].iter().all(|record| record.event == Event::Refusal));
}

#[tokio::test]
async fn a_plan_that_does_not_arrive_or_breaks_off_is_refused_with_its_bounds() {
    let world = World::new().await;
    let router = world.router();
    let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(io::Error::from(io::ErrorKind::ConnectionReset))]);
    for body in [Body::from_stream(broken), Body::from_stream(stream::pending::<io::Result<Bytes>>())] {
        let token = format!("Bearer {}", world.token());
        let request = Request::post("/v1/release").header("authorization", token).body(body).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let refusal: Refusal = serde_json::from_slice(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap();
        assert_eq!(refusal.message, "the plan: it has at most 262144 bytes and arrives within 3 s; recreate the pod");
    }
}

#[tokio::test]
async fn a_grant_that_is_gone_stops_release_though_the_seed_is_in_memory() {
    let mut world = World::new().await;
    let router = world.router();
    assert_eq!(values(&ask(&router, "/v1/release", &world.token(), &plan()).await.release()).len(), 2);
    let mut key = encryption_key(&world.document);
    key["spec"]["grants"] = json!([]);
    world.keys.put(object(key));
    let release = ask(&router, "/v1/release", &world.token(), &plan()).await.release();
    assert_eq!((release.values.len(), release.withdrawn.len()), (0, 2));
    assert!(release.withdrawn[0].reason.contains("no grant with operation Open for service account trainer"));
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_a_refusal_to_be_tried_again() {
    let world = World::new().await;
    let log = Log::open(world.audit.path(), &world.process).unwrap();
    let answered = ask(&world.router_with(log, true), "/v1/release", &world.token(), &plan()).await;
    let refusal = answered.refusal();
    assert_eq!((answered.status, refusal.reason.as_str(), refusal.retry), (StatusCode::SERVICE_UNAVAILABLE, "ProviderUnavailable", true));
    let cause = "KeyProvider main: the provider did not answer unwrap: it is silent";
    assert_eq!(refusal.message, format!("SecretBinding vision/train: spec.secrets[db].sealed.value: {cause}"));
    let records = world.records();
    assert_eq!(records.last().unwrap().correlation_id, refusal.correlation_id);
}

#[tokio::test]
async fn a_plan_that_is_not_one_is_refused() {
    let world = World::new().await;
    let router = world.router();
    let mut versioned = plan();
    versioned["version"] = json!(2);
    let mut unknown = plan();
    unknown["bindings"][0]["namespace"] = json!("other");
    let mut twice = plan();
    twice["bindings"].as_array_mut().unwrap().push(plan()["bindings"][0].clone());
    let large = json!({"version": 1, "bindings": [], "padding": "x".repeat(300 * 1024)});
    for (body, cause) in [(versioned, "version 1"), (unknown, "unknown field"), (twice, "twice"), (large, "at most 262144")] {
        let answered = ask(&router, "/v1/release", &world.token(), &body).await;
        let refusal = answered.refusal();
        assert_eq!((answered.status, refusal.reason.as_str()), (StatusCode::BAD_REQUEST, "PlanUnreadable"));
        assert!(refusal.message.contains(cause), "{}", refusal.message);
    }
}

#[tokio::test]
async fn a_release_that_is_too_large_is_refused() {
    let mut world = World::new().await;
    let mut changed = binding(&world.document);
    let mut asked = plan();
    let names: Vec<String> = (0..5).map(|i| format!("s{i}")).collect();
    let large = "x".repeat(250 * 1024);
    let seal = |name: &String| json!({"name": name, "sealed": {"key": "team-key", "value": sealed(&world.document, "vision", "train", name, &large)}});
    changed["spec"]["secrets"] = names.iter().map(seal).collect();
    changed["spec"]["deliver"] = json!({"files": names.iter().map(|name| json!({"secret": name, "path": name})).collect::<Vec<_>>()});
    asked["bindings"][0]["files"] = names.iter().map(|name| json!({"secret": name, "path": name, "mode": 256})).collect();
    asked["bindings"][0]["env"] = json!([]);
    world.bindings.put(object(changed));
    let answered = ask(&world.router(), "/v1/release", &world.token(), &asked).await;
    assert_eq!((answered.status, answered.refusal().reason.as_str()), (StatusCode::FORBIDDEN, "ReleaseTooLarge"));
    assert!(world.records().last().unwrap().items.is_empty(), "nothing was given");
}

#[tokio::test]
async fn one_pod_cannot_fill_the_disk_with_records() {
    let world = World::new().await;
    let router = world.router();
    let (token, empty) = (world.token(), json!({}));
    let mut last = None;
    for _ in 0..70 {
        last = Some(ask(&router, "/v1/release", &token, &empty).await);
    }
    let last = last.unwrap();
    assert_eq!((last.status, last.refusal().retry), (StatusCode::TOO_MANY_REQUESTS, true));
    assert_eq!(world.records().len(), 61);
    assert_eq!(world.asked.reviews.load(Ordering::Relaxed), 0);
}
