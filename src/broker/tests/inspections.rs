//! Tests of `/v1/inspect`.

use axum::http::StatusCode;
use kustody_core::audit::Event;
use kustody_core::sealing::{Header, KeyDocument, SealedValue, generate, wrap_context};
use kustody_core::wire::InspectAnswer;
use kustody_providers::Provider as _;
use serde_json::json;

use super::signer::claims;
use super::world::{World, ask, binding, encryption_key, object, sealed};

fn question() -> serde_json::Value {
    json!({"namespace": "vision", "binding": "train", "uid": "train-uid", "generation": 1})
}

fn controller(world: &World) -> String {
    world.signer.sign(&claims("kustody-system", "kustody-controller", "controller-1"))
}

#[tokio::test]
async fn the_controller_learns_what_opens_and_what_fits_and_no_value() {
    let mut world = World::new().await;
    let mut changed = binding(&world.document);
    let secrets = changed["spec"]["secrets"].as_array_mut().unwrap();
    for (name, place, value) in [("quoted", "quoted", "it's canary"), ("stray", "elsewhere", "canary")] {
        let value = sealed(&world.document, "vision", "train", place, value);
        secrets.push(json!({"name": name, "sealed": {"key": "team-key", "value": value}}));
    }
    changed["spec"]["deliver"]["env"] = json!([{"name": "GOOD", "secret": "token"}, {"name": "BAD", "secret": "quoted"}]);
    changed["spec"]["deliver"]["files"] = json!([
        {"secret": "db", "property": "password", "path": "a"}, {"secret": "db", "property": "absent", "path": "b"},
        {"secret": "token", "path": "c"}, {"secret": "stray", "property": "x", "path": "d"},
    ]);
    world.bindings.put(object(changed));
    let answered = ask(&world.router(), "/v1/inspect", &controller(&world), &question()).await;
    assert_eq!(answered.status, StatusCode::OK);
    let text = String::from_utf8(answered.body).unwrap();
    assert!(!text.contains("canary"), "{text}");
    let answer: InspectAnswer = serde_json::from_str(&text).unwrap();
    let oks = |items: &[kustody_core::wire::Inspected]| items.iter().map(|item| (item.name.clone(), item.ok)).collect::<Vec<_>>();
    let expect = |pairs: &[(&str, bool)]| pairs.iter().map(|(name, ok)| ((*name).to_owned(), *ok)).collect::<Vec<_>>();
    assert_eq!(oks(&answer.secrets), expect(&[("db", true), ("token", true), ("quoted", true), ("stray", false)]));
    assert_eq!(oks(&answer.variables), expect(&[("GOOD", true), ("BAD", false)]));
    assert_eq!(oks(&answer.files), expect(&[("a", true), ("b", false), ("d", false)]));
    let quote = "variable BAD: its value contains a single quote, which an environment file cannot carry; deliver it as a file";
    assert_eq!(answer.variables[1].message.as_deref(), Some(quote));
    assert!(answer.secrets[3].message.as_ref().unwrap().ends_with("or was altered; seal it again for this place"), "{:?}", answer.secrets);
    let absent = answer.files[1].message.as_ref().unwrap();
    assert!(absent.starts_with("property \"absent\": the secret's value has no such member") && absent.contains("correct the property"));
    let records = world.records();
    let record = records.last().unwrap();
    assert_eq!((record.event, record.items.len()), (Event::Inspect, 4));
}

#[tokio::test]
async fn a_binding_that_the_cache_has_not_seen_is_a_conflict() {
    let world = World::new().await;
    let router = world.router();
    for (field, value) in [("generation", json!(2)), ("uid", json!("new")), ("binding", json!("none")), ("namespace", json!("other"))] {
        let mut question = question();
        question[field] = value;
        let answered = ask(&router, "/v1/inspect", &controller(&world), &question).await;
        assert_eq!((answered.status, answered.refusal().retry), (StatusCode::CONFLICT, true), "{field}");
    }
}

#[tokio::test]
async fn nobody_but_the_controller_may_inspect() {
    let world = World::new().await;
    let router = world.router();
    let other = world.signer.sign(&claims("vision", "kustody-controller", "pod-1"));
    for token in [world.token(), other] {
        let answered = ask(&router, "/v1/inspect", &token, &question()).await;
        assert_eq!((answered.status, answered.refusal().reason.as_str()), (StatusCode::FORBIDDEN, "NotTheController"));
        assert_eq!(world.records().last().unwrap().event, Event::Refusal);
    }
}

#[tokio::test]
async fn files_that_are_too_large_together_are_told_before_a_pod_asks_for_them() {
    let mut world = World::new().await;
    let mut changed = binding(&world.document);
    let large = sealed(&world.document, "vision", "train", "large", &"x".repeat(60 * 1024));
    changed["spec"]["secrets"].as_array_mut().unwrap().push(json!({"name": "large", "sealed": {"key": "team-key", "value": large}}));
    changed["spec"]["deliver"] =
        json!({"sizeLimit": "64Ki", "files": [{"secret": "token", "path": "token"}, {"secret": "large", "path": "large"}]});
    world.bindings.put(object(changed));
    let answered = ask(&world.router(), "/v1/inspect", &controller(&world), &question()).await;
    let answer: InspectAnswer = serde_json::from_slice(&answered.body).unwrap();
    assert_eq!((answer.files.len(), answer.files[0].name.as_str(), answer.files[0].ok), (1, "large", false));
    assert!(answer.files[0].message.as_ref().unwrap().contains("spec.deliver.sizeLimit"));
}

#[tokio::test]
async fn files_may_take_half_of_their_volume_because_both_states_are_there_while_they_are_swapped() {
    let mut world = World::new().await;
    let mut changed = binding(&world.document);
    changed["spec"]["deliver"] = json!({"sizeLimit": "64Ki", "files": [{"secret": "large", "path": "large"}]});
    for (mode, kib, fits) in [("OnRestart", 40, false), ("Live", 40, false), ("OnRestart", 28, true), ("Live", 28, true)] {
        let large = sealed(&world.document, "vision", "train", "large", &"x".repeat(kib * 1024));
        changed["spec"]["secrets"] = json!([{"name": "large", "sealed": {"key": "team-key", "value": large}}]);
        changed["spec"]["update"] = json!({"mode": mode});
        world.bindings.put(object(changed.clone()));
        world.audit = tempfile::tempdir().unwrap();
        let answered = ask(&world.router(), "/v1/inspect", &controller(&world), &question()).await;
        let answer: InspectAnswer = serde_json::from_slice(&answered.body).unwrap();
        assert_eq!(answer.files.iter().all(|file| file.ok), fits, "{mode} {kib}: {:?}", answer.files);
    }
}

#[tokio::test]
async fn an_inspection_that_a_provider_does_not_answer_is_on_record_too() {
    let world = World::new().await;
    let router = world.router_with(crate::audit::Log::open(world.audit.path(), &world.process).unwrap(), true);
    let answered = ask(&router, "/v1/inspect", &controller(&world), &question()).await;
    assert_eq!((answered.status, answered.refusal().retry), (StatusCode::SERVICE_UNAVAILABLE, true));
    let records = world.records();
    assert_eq!(records.last().unwrap().event, Event::Inspect);
    assert!(records.last().unwrap().reasons[0].contains("ProviderUnavailable"));
}

/// A second sealing key of the world's key, and the key's object that lists and publishes it.
async fn newer(world: &World) -> (KeyDocument, serde_json::Value) {
    let first = &world.document;
    let (seed, public_key) = generate().unwrap();
    let hash = public_key.sha256();
    let context = wrap_context("vision", &first.key, 2, &hash);
    let wrapped_seed = world.local.wrap(&first.header.provider_key_id, &seed, &context).await.unwrap().ciphertext;
    let header = Header { version: 2, public_key_sha256: hash, wrapped_seed, ..first.header.clone() };
    let document = KeyDocument { header, public_key, ..first.clone() };
    let mut key = encryption_key(first);
    let hash = kustody_core::hex::hex(&hash);
    key["status"]["sealingKeys"].as_array_mut().unwrap().push(json!({"version": 2, "publicKeySha256": hash}));
    key["status"]["sealingKey"] = json!({"version": 2, "publicKeySha256": hash, "document": document.to_string()});
    (document, key)
}

async fn resealed(world: &World) -> InspectAnswer {
    let mut question = question();
    question["reseal"] = json!(true);
    let answered = ask(&world.router(), "/v1/inspect", &controller(world), &question).await;
    assert!(!String::from_utf8_lossy(&answered.body).contains("canary"));
    serde_json::from_slice(&answered.body).unwrap()
}

#[tokio::test]
async fn what_is_outdated_is_sealed_anew_for_the_same_place_and_a_record_says_so() {
    let mut world = World::new().await;
    let (document, key) = newer(&world).await;
    world.keys.put(object(key));
    let answer = resealed(&world).await;
    assert_eq!((answer.resealed.len(), answer.not_resealed.len()), (2, 0));
    for value in &answer.resealed {
        assert_eq!(SealedValue::parse(&value.sealed).unwrap().header, document.header);
    }
    assert_eq!(world.records().last().unwrap().event, Event::Reseal);
    // It opens where the old one did.
    let mut changed = binding(&world.document);
    for (secret, value) in changed["spec"]["secrets"].as_array_mut().unwrap().iter_mut().zip(&answer.resealed) {
        assert_eq!(secret["name"], value.name.as_str());
        secret["sealed"]["value"] = json!(value.sealed);
    }
    world.bindings.put(object(changed));
    world.audit = tempfile::tempdir().unwrap();
    let answer = resealed(&world).await;
    assert!(answer.secrets.iter().all(|secret| secret.ok) && answer.resealed.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn nothing_is_sealed_for_a_public_key_that_somebody_planted_in_status() {
    let mut world = World::new().await;
    let (document, mut key) = newer(&world).await;
    let (_, planted) = generate().unwrap();
    for document in [
        // The listed header with another public key, and a public key whose seed the provider never wrapped.
        KeyDocument { public_key: planted.clone(), ..document.clone() },
        KeyDocument {
            header: Header { public_key_sha256: planted.sha256(), ..document.header.clone() },
            public_key: planted.clone(),
            ..document.clone()
        },
    ] {
        let hash = kustody_core::hex::hex(&document.header.public_key_sha256);
        key["status"]["sealingKeys"][1]["publicKeySha256"] = json!(hash);
        key["status"]["sealingKey"]["document"] = json!(document.to_string());
        world.keys.put(object(key.clone()));
        world.audit = tempfile::tempdir().unwrap();
        let answer = resealed(&world).await;
        assert!(answer.resealed.is_empty());
        let reason = &answer.not_resealed[0];
        assert!(reason.starts_with("EncryptionKey team-key: status.sealingKey.document: "), "{reason}");
        assert_eq!(world.records().last().unwrap().event, Event::Inspect);
    }
}

#[tokio::test]
async fn of_what_is_outdated_one_answer_holds_a_part_and_names_the_rest_and_what_does_not_open() {
    let mut world = World::new().await;
    let (_, key) = newer(&world).await;
    world.keys.put(object(key));
    let mut changed = binding(&world.document);
    let secrets = changed["spec"]["secrets"].as_array_mut().unwrap();
    let stray = sealed(&world.document, "vision", "train", "elsewhere", "canary");
    secrets.push(json!({"name": "stray", "sealed": {"key": "team-key", "value": stray}}));
    for name in ["large-1", "large-2", "large-3"] {
        let value = sealed(&world.document, "vision", "train", name, &"x".repeat(240 * 1024));
        secrets.push(json!({"name": name, "sealed": {"key": "team-key", "value": value}}));
    }
    world.bindings.put(object(changed));
    let answer = resealed(&world).await;
    let names: Vec<&str> = answer.resealed.iter().map(|value| value.name.as_str()).collect();
    assert_eq!(names, ["db", "token"]);
    assert!(answer.not_resealed[0].starts_with("spec.secrets[stray] is outdated and does not open"), "{:?}", answer.not_resealed);
    assert!(answer.not_resealed[1].starts_with("3 more values are outdated"), "{:?}", answer.not_resealed);
}

#[tokio::test]
async fn small_files_are_counted_in_the_pages_that_they_take() {
    let mut world = World::new().await;
    let mut changed = binding(&world.document);
    let files: Vec<_> = (0..9).map(|n| json!({"secret": "token", "path": format!("file-{n}")})).collect();
    changed["spec"]["deliver"] = json!({"sizeLimit": "64Ki", "files": files});
    world.bindings.put(object(changed));
    let answered = ask(&world.router(), "/v1/inspect", &controller(&world), &question()).await;
    let answer: InspectAnswer = serde_json::from_slice(&answered.body).unwrap();
    assert_eq!((answer.files.len(), answer.files[0].name.as_str()), (2, "file-7"), "seven pages of four KiB, twice");
}
