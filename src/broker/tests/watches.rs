//! Tests of `/v1/watch`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::future::join;
use kustody_core::audit::Event;
use kustody_core::wire::Release;
use kustody_core::wire::watch::{Authorities, HeldAnswer, HeldOf, Revision, WITH_REVISIONS, is_revision};
use kustody_providers::{Provider as _, Wanted};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::signer::claims;
use super::world::{Answered, World, ask, binding, encryption_key, make_key, object, plan, pod, sealed, values};

const LONG: Duration = Duration::from_secs(30);

/// Until as many wait for a change: they have looked, and nothing but a change or the end of their patience wakes them.
async fn until_waiting(world: &World, count: usize) {
    while world.changes.waiting("vision") < count {
        tokio::task::yield_now().await;
    }
}

fn asked(known: &Value) -> Value {
    json!({"plan": plan(), "known": known})
}

/// What an agent knows that was told `seen` last and whose files are of `held`.
fn knowing(seen: &[Revision], held: &[Revision]) -> Value {
    asked(&json!([{"binding": "train", "seen": seen[0].revision, "held": held[0].revision}]))
}

async fn watch(router: &Router, world: &World, body: &Value) -> Answered {
    ask(router, "/v1/watch", &world.token(), body).await
}

/// What a pod is told that knows nothing yet.
async fn first(router: &Router, world: &World) -> Release {
    watch(router, world, &asked(&json!([]))).await.release()
}

/// Binding `train` with another token.
fn resealed(world: &World, value: &str) -> Value {
    let mut changed = binding(&world.document);
    changed["metadata"]["generation"] = json!(2);
    changed["spec"]["secrets"][1]["sealed"]["value"] = json!(sealed(&world.document, "vision", "train", "token", value));
    changed
}

fn provider_calls(world: &World) -> String {
    let metrics = world.process.metrics.render();
    metrics.lines().find(|line| line.starts_with("kustody_release_provider_calls_total")).unwrap().to_owned()
}

#[tokio::test]
async fn a_pod_that_knows_nothing_is_told_at_once_and_one_that_knows_everything_waits() {
    let world = World::new().await;
    let router = world.router();
    let told = first(&router, &world).await;
    assert_eq!(values(&told)[&("token".to_owned(), String::new())], "canary-t");
    assert!(told.revisions[0].binding == "train" && is_revision(&told.revisions[0].revision));
    let (records, calls) = (world.records().len(), provider_calls(&world));
    let answered = watch(&router, &world, &knowing(&told.revisions, &told.revisions)).await;
    assert_eq!((answered.status, answered.body.len()), (StatusCode::NO_CONTENT, 0));
    assert_eq!((world.records().len(), provider_calls(&world)), (records, calls), "waiting asks nobody and releases nothing");
}

#[tokio::test]
async fn a_value_that_is_sealed_again_wakes_the_pod_and_a_record_says_that_it_has_it() {
    let mut world = World::new().await;
    world.hold = LONG;
    let router = world.router();
    let told = first(&router, &world).await;
    let (token, body) = (world.token(), knowing(&told.revisions, &told.revisions));
    let changed = resealed(&world, "canary-2");
    let waiting = ask(&router, "/v1/watch", &token, &body);
    let change = async {
        until_waiting(&world, 1).await;
        world.bindings.put(object(changed));
        world.changes.tell(Some("vision"));
    };
    let release = join(waiting, change).await.0.release();
    assert_eq!(values(&release)[&("token".to_owned(), String::new())], "canary-2");
    assert_ne!(release.revisions, told.revisions);
    let record = world.records().pop().unwrap();
    assert_eq!((record.event, record.items.len()), (Event::Release, 2));
    assert_eq!(provider_calls(&world), "kustody_release_provider_calls_total 1", "the seed is still there");
}

#[tokio::test]
async fn a_revision_is_the_same_at_every_broker_and_does_not_follow_statuses() {
    let mut world = World::new().await;
    let one = first(&world.router(), &world).await.revisions;
    let mut written = serde_json::to_value(&*world.bindings.reader.state()[0]).unwrap();
    written["metadata"]["resourceVersion"] = json!("77");
    written["status"] = json!({"matchingPods": 9});
    world.bindings.put(object(written));
    let mut granted = encryption_key(&world.document);
    granted["spec"]["grants"].as_array_mut().unwrap().push(json!({"serviceAccount": "other", "operations": ["Open"]}));
    world.keys.put(object(granted));
    world.audit = tempfile::tempdir().unwrap();
    assert_eq!(first(&world.router(), &world).await.revisions, one);
}

#[tokio::test]
async fn an_agent_that_starts_a_pod_is_told_the_revisions_that_its_watch_compares() {
    let world = World::new().await;
    let router = world.router();
    let request = |accept: &str| {
        let bearer = format!("Bearer {}", world.token());
        let request = Request::post("/v1/release").header("authorization", bearer).header("accept", accept);
        let response = router.clone().oneshot(request.body(Body::from(plan().to_string())).unwrap());
        async { axum::body::to_bytes(response.await.unwrap().into_body(), 1 << 20).await.unwrap() }
    };
    let told = Release::decode(&request(WITH_REVISIONS).await).unwrap();
    assert_eq!(told.revisions, first(&router, &world).await.revisions);
    assert!(request("*/*").await.starts_with(b"KRL1"), "an agent of an earlier release reads what it always read");
}

#[tokio::test]
async fn what_is_withdrawn_is_named_once_and_the_pod_counts_as_behind_until_it_holds_what_is_new() {
    let mut world = World::new().await;
    let router = world.router();
    let told = first(&router, &world).await.revisions;
    world.bindings.delete(object(binding(&world.document)));
    let gone = watch(&router, &world, &knowing(&told, &told)).await.release();
    assert!(gone.values.is_empty() && gone.withdrawn[0].reason.contains("does not exist any more"), "{:?}", gone.withdrawn);
    assert_eq!(world.records().last().unwrap().event, Event::Refusal);
    let again = watch(&router, &world, &knowing(&gone.revisions, &told)).await;
    assert_eq!(again.status, StatusCode::NO_CONTENT, "it was told");
    // As an agent would that could not write.
    world.bindings.put(object(resealed(&world, "canary-2")));
    let restored = watch(&router, &world, &knowing(&gone.revisions, &told)).await.release().revisions;
    let held = watch(&router, &world, &knowing(&restored, &restored)).await;
    assert_eq!(held.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn pods_behind_are_counted_by_cause() {
    let mut world = World::new().await;
    for name in ["pod-2", "pod-3"] {
        world.pods.put(object(pod("vision", name, "trainer")));
    }
    let broker = world.broker(crate::audit::Log::open(world.audit.path(), &world.process).unwrap(), false);
    let router = crate::broker::routes::router(std::sync::Arc::clone(&broker));
    let token = |name: &str| world.signer.sign(&claims("vision", "trainer", name));
    let told = first(&router, &world).await.revisions;
    ask(&router, "/v1/watch", &token("pod-1"), &knowing(&told, &told)).await;
    let old = [Revision { binding: "train".to_owned(), revision: "0".repeat(32) }];
    ask(&router, "/v1/watch", &token("pod-2"), &knowing(&told, &old)).await;
    let mut key = encryption_key(&world.document);
    key["spec"]["grants"] = json!([]);
    world.keys.put(object(key));
    ask(&router, "/v1/watch", &token("pod-3"), &knowing(&told, &told)).await;
    broker.watch.sweep().await;
    let metrics = world.process.metrics.render();
    for line in [
        "kustody_broker_pods_behind{cause=\"Pending\"} 1\n",
        "kustody_broker_pods_behind{cause=\"Withdrawn\"} 1\n",
        "kustody_broker_pods_watching 3\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn what_pods_hold_is_told_by_revision_and_to_the_controller_alone() {
    let mut world = World::new().await;
    let names = ["pod-2", "pod-3", "pod-4"];
    for name in names {
        world.pods.put(object(pod("vision", name, "trainer")));
    }
    let router = world.router();
    let told = first(&router, &world).await.revisions;
    let token = |name: &str| world.signer.sign(&claims("vision", "trainer", name));
    let old = [Revision { binding: "train".to_owned(), revision: "0".repeat(32) }];
    ask(&router, "/v1/watch", &token("pod-1"), &knowing(&told, &told)).await;
    ask(&router, "/v1/watch", &token("pod-2"), &knowing(&told, &told)).await;
    ask(&router, "/v1/watch", &token("pod-3"), &knowing(&told, &old)).await;
    // Of a binding that is not there, and of one of another UID, nothing is remembered.
    let mut other = knowing(&told, &told);
    other["plan"]["bindings"][0]["uid"] = json!("x".repeat(1000));
    other["known"][0]["revision"] = json!("not a revision");
    ask(&router, "/v1/watch", &token("pod-4"), &other).await;
    let records = world.records().len();
    let controller = world.signer.sign(&claims("kustody-system", "kustody-controller", "controller-1"));
    let answered = ask(&router, "/v1/held", &controller, &json!({})).await;
    let held: HeldAnswer = serde_json::from_slice(&answered.body).unwrap();
    let mut expected = HeldOf { uid: "train-uid".to_owned(), pods: 3, behind: 1, ..HeldOf::default() };
    expected.count(&told[0].revision, 2, true);
    expected.count(&old[0].revision, 1, false);
    assert_eq!(held.bindings, [expected]);
    assert_eq!(world.records().len(), records, "nothing was opened");
    let refused = ask(&router, "/v1/held", &world.token(), &json!({})).await;
    assert_eq!((refused.status, refused.refusal().reason.as_str()), (StatusCode::FORBIDDEN, "NotTheController"));
    assert_eq!(world.records().last().unwrap().event, Event::Refusal);
}

#[tokio::test]
async fn an_agent_is_told_the_authorities_that_it_does_not_know_and_one_that_does_not_ask_for_them_is_not() {
    let world = World::new().await;
    let router = world.router();
    let told = first(&router, &world).await.revisions;
    let records = world.records().len();
    let with = |known: &str| {
        let mut body = knowing(&told, &told);
        body["authorities"] = json!(known);
        body
    };
    let authorities = async |known: &str| -> Authorities {
        let answered = watch(&router, &world, &with(known)).await;
        assert_eq!(answered.status, StatusCode::OK);
        serde_json::from_slice(&answered.body).unwrap()
    };
    let one = authorities("").await;
    assert!(one.bundle == "PEM\n" && is_revision(&one.name));
    assert_eq!(watch(&router, &world, &with(&one.name)).await.status, StatusCode::NO_CONTENT);
    world.authority.store(Some(std::sync::Arc::new("PEM\nNEXT\n".to_owned())));
    let two = authorities(&one.name).await;
    assert_eq!(two.bundle, "PEM\nNEXT\n");
    assert_eq!(watch(&router, &world, &with(&two.name)).await.status, StatusCode::NO_CONTENT);
    assert_eq!(watch(&router, &world, &knowing(&told, &told)).await.status, StatusCode::NO_CONTENT, "an agent of an earlier release");
    assert_eq!(world.records().len(), records, "nothing was opened");
}

#[tokio::test]
async fn a_change_of_one_binding_releases_that_one_alone() {
    let mut world = World::new().await;
    let mut other = binding(&world.document);
    (other["metadata"]["name"], other["metadata"]["uid"]) = (json!("other"), json!("other-uid"));
    let seal = |secret: &str, value: &str| json!(sealed(&world.document, "vision", "other", secret, value));
    other["spec"]["secrets"][0]["sealed"]["value"] = seal("db", r#"{"password": "canary-o"}"#);
    other["spec"]["secrets"][1]["sealed"]["value"] = seal("token", "canary-o");
    world.bindings.put(object(other));
    let router = world.router();
    let mut both = plan();
    let mut second = both["bindings"][0].clone();
    (second["name"], second["uid"]) = (json!("other"), json!("other-uid"));
    both["bindings"].as_array_mut().unwrap().push(second);
    let told = watch(&router, &world, &json!({"plan": both, "known": []})).await.release();
    assert_eq!(told.revisions.len(), 2);
    world.bindings.put(object(resealed(&world, "canary-2")));
    let known: Vec<_> = told.revisions.iter().map(|r| json!({"binding": r.binding, "seen": r.revision, "held": r.revision})).collect();
    let release = watch(&router, &world, &json!({"plan": both, "known": known})).await.release();
    assert_eq!(release.revisions.len(), 1);
    assert!(release.values.iter().all(|value| value.binding == "train"));
    assert!(world.records().last().unwrap().items.iter().all(|item| item.binding == "train"));
}

#[tokio::test]
async fn a_pod_that_ended_while_it_waited_is_given_nothing() {
    let mut world = World::new().await;
    world.hold = LONG;
    let router = world.router();
    let told = first(&router, &world).await.revisions;
    let (token, body, changed) = (world.token(), knowing(&told, &told), resealed(&world, "canary-2"));
    let change = async {
        until_waiting(&world, 1).await;
        let mut ended = pod("vision", "pod-1", "trainer");
        ended["status"]["phase"] = json!("Succeeded");
        world.pods.put(object(ended));
        world.bindings.put(object(changed));
        world.changes.tell(None);
    };
    let answered = join(ask(&router, "/v1/watch", &token, &body), change).await.0;
    assert_eq!((answered.status, answered.refusal().reason.as_str()), (StatusCode::FORBIDDEN, "PodNotAlive"));
    assert_eq!(world.records().last().unwrap().event, Event::Refusal);
}

#[tokio::test]
async fn those_who_wait_keep_no_place_from_pods_that_start() {
    let mut world = World::new().await;
    world.hold = LONG;
    // More than all places together.
    let names: Vec<String> = (0..300).map(|number| format!("waiting-{number}")).collect();
    for name in &names {
        world.pods.put(object(pod("vision", name, "trainer")));
    }
    let router = world.router();
    let told = first(&router, &world).await.revisions;
    let body = knowing(&told, &told);
    let tokens: Vec<String> = names.iter().map(|name| world.signer.sign(&claims("vision", "trainer", name))).collect();
    let waiting = futures::future::join_all(tokens.iter().map(|token| ask(&router, "/v1/watch", token, &body)));
    let starting = async {
        until_waiting(&world, names.len()).await;
        let started = ask(&router, "/v1/release", &world.token(), &plan()).await;
        world.process.stop.cancel();
        started
    };
    let (waited, started) = join(waiting, starting).await;
    assert_eq!(values(&started.release()).len(), 2);
    for answered in waited {
        assert_eq!((answered.status, answered.refusal().reason.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "Stopping"));
    }
}

#[tokio::test]
async fn a_newer_request_of_a_pod_ends_the_one_that_waits() {
    let mut world = World::new().await;
    world.hold = LONG;
    let router = world.router();
    let told = first(&router, &world).await.revisions;
    let body = knowing(&told, &told);
    let token = world.token();
    let older = ask(&router, "/v1/watch", &token, &body);
    let newer = async {
        until_waiting(&world, 1).await;
        ask(&router, "/v1/watch", &token, &body).await
    };
    let stop = async {
        until_waiting(&world, 2).await;
        while world.changes.waiting("vision") > 1 {
            tokio::task::yield_now().await;
        }
        world.process.stop.cancel();
    };
    let ((older, newer), ()) = join(join(older, newer), stop).await;
    assert_eq!(older.status, StatusCode::NO_CONTENT);
    assert_eq!(newer.refusal().reason, "Stopping", "it went on waiting");
}

#[tokio::test]
async fn what_a_provider_refuses_to_a_running_pod_is_given_once_it_is_repaired_there() {
    let world = World::new().await;
    let router = world.router();
    let id = &world.document.header.provider_key_id;
    let claim = world.local.describe_key(id).await.unwrap().claim().unwrap();
    world.local.set_state(id, &claim, &Wanted::Disabled).await.unwrap();
    let refused = watch(&router, &world, &asked(&json!([]))).await;
    assert_eq!((refused.status, refused.refusal().reason.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "ProviderRefuses"));
    assert!(refused.refusal().retry);
    world.local.set_state(id, &claim, &Wanted::Enabled).await.unwrap();
    assert_eq!(values(&first(&router, &world).await)[&("token".to_owned(), String::new())], "canary-t");
}

#[tokio::test]
async fn one_without_a_token_or_with_an_unreadable_plan_never_waits() {
    let world = World::new().await;
    let router = world.router();
    let anonymous = ask(&router, "/v1/watch", "nonsense", &asked(&json!([]))).await;
    assert_eq!(anonymous.refusal().reason, "Unauthenticated");
    let mut later = asked(&json!([]));
    later["plan"]["version"] = json!(2);
    let unreadable = watch(&router, &world, &later).await.refusal();
    assert!(unreadable.reason == "PlanUnreadable" && unreadable.message.contains("version is 2"), "{unreadable:?}");
    assert_eq!(world.asked.reviews.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_rotation_that_leaves_a_sealed_value_as_it_is_tells_nobody() {
    let mut world = World::new().await;
    let router = world.router();
    let told = first(&router, &world).await.revisions;
    let next = make_key(&world.local, "next-key").await;
    let mut rotated = encryption_key(&world.document);
    let hash = kustody_core::hex::hex(&next.header.public_key_sha256);
    rotated["status"]["sealingKeys"].as_array_mut().unwrap().push(json!({"version": 2, "publicKeySha256": hash}));
    world.keys.put(object(rotated));
    assert_eq!(watch(&router, &world, &knowing(&told, &told)).await.status, StatusCode::NO_CONTENT);
}
