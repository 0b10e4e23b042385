//! Tests of states and rotations, and of every crash between two of their steps.

use kustody_api::encryption_key::{DesiredState, KeyState};
use serde_json::json;

use super::*;

fn with(object: &EncryptionKey, spec: &serde_json::Value) -> EncryptionKey {
    let mut value = serde_json::to_value(object).unwrap();
    for (field, wanted) in spec.as_object().unwrap() {
        value["spec"][field] = wanted.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn desire(object: &EncryptionKey, state: &str) -> EncryptionKey {
    with(object, &json!({"desiredState": state}))
}

fn fuse(step: u32, after: bool) -> Fuse {
    Fuse { left: Mutex::new(Some(step)), after }
}

/// The reason of `Ready`, and the object after a pass.
async fn settled(world: &World, object: EncryptionKey) -> (EncryptionKey, Option<Reason>) {
    let (object, result, _) = world.pass(object, &[], Fuse::default()).await;
    (object, result.err().map(|failure| condition_of(&failure, "main").unwrap().reason))
}

#[tokio::test]
async fn a_disabled_key_is_disabled_at_the_provider_and_enabled_again_by_the_spec() {
    let world = World::new();
    let object = world.made().await;
    let (object, why) = settled(&world, desire(&object, "Disabled")).await;
    let status = status_of(&object);
    assert_eq!((why, status.state, status.applied_state), (Some(Reason::Disabled), Some(KeyState::Disabled), Some(DesiredState::Disabled)));
    let (object, why) = settled(&world, object).await;
    assert_eq!(why, Some(Reason::Disabled));
    let (object, why) = settled(&world, desire(&object, "Enabled")).await;
    let status = status_of(&object);
    assert_eq!((why, status.state, status.applied_state), (None, Some(KeyState::Enabled), Some(DesiredState::Enabled)));
    assert_eq!(status.sealing_keys.len(), 1);
}

#[tokio::test]
async fn what_is_said_of_a_retired_key_stays_until_the_spec_asks_for_an_enabled_one() {
    let world = World::new();
    let (mut object, _) = settled(&world, desire(&world.made().await, "Disabled")).await;
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now);
    let said = Observation { kind: ConditionType::Retiring, status: Some(true), reason: Reason::Disabled, message: String::new() };
    conditions::set(&mut object.status.as_mut().unwrap().conditions, &said, Some(1), &now);
    let before = status_of(&object);
    let (object, _) = settled(&world, object).await;
    assert_eq!(status_of(&object), before, "another pass changes nothing, so it writes and tells nothing");
    let (object, _) = settled(&world, desire(&object, "Enabled")).await;
    assert!(status_of(&object).conditions.is_empty());
}

#[tokio::test]
async fn a_key_that_was_disabled_behind_our_back_is_a_condition_with_a_remedy_and_stays_so() {
    let world = World::new();
    let object = world.made().await;
    let id = status_of(&object).key_id.unwrap();
    let provider = world.provider(&Arc::default());
    provider.set_state(&id, &world.facts.claim, &Wanted::Disabled).await.unwrap();
    let (object, result, calls) = world.pass(object, &[], Fuse::default()).await;
    let (why, message) = reason(result);
    assert_eq!((why, calls), (Reason::KeyNotUsable, vec!["describe_key"]));
    assert!(message.contains("did not ask for that; enable it at the provider, or set spec.desiredState"), "{message}");
    // The remedy that the message names.
    let (object, _) = settled(&world, desire(&object, "Disabled")).await;
    assert_eq!(settled(&world, desire(&object, "Enabled")).await.1, None);
}

#[tokio::test]
async fn a_deletion_is_scheduled_with_its_window_and_taken_back() {
    let world = World::new();
    let object = world.made().await;
    let wanted = with(&object, &json!({"desiredState": "PendingDeletion", "deletion": {"windowDays": 7}}));
    let (object, why) = settled(&world, wanted).await;
    let status = status_of(&object);
    assert_eq!((why, status.state), (Some(Reason::PendingDeletion), Some(KeyState::PendingDeletion)));
    assert_eq!(status.deletion_time.unwrap().0.to_string(), "2026-03-08T00:00:00Z");
    let (object, why) = settled(&world, desire(&object, "Enabled")).await;
    let status = status_of(&object);
    assert_eq!((why, status.state, status.deletion_time), (None, Some(KeyState::Enabled), None));
}

#[tokio::test]
async fn a_key_whose_time_is_over_is_destroyed_and_never_made_again() {
    let mut world = World::new();
    let object = world.made().await;
    let (object, _) = settled(&world, desire(&object, "PendingDeletion")).await;
    world.now = "2026-03-31T00:00:00Z".parse().unwrap();
    world.provider(&Arc::default()).probe().await.unwrap();
    let (object, why) = settled(&world, object).await;
    assert_eq!((why, status_of(&object).state), (Some(Reason::Destroyed), Some(KeyState::Destroyed)));
    assert_eq!(settled(&world, desire(&object, "Enabled")).await.1, Some(Reason::Destroyed));
    assert_eq!(world.keys(), 1);
}

#[tokio::test]
async fn a_key_is_not_scheduled_for_deletion_while_bindings_use_it_unless_they_are_named() {
    let mut world = World::new();
    let object = world.made().await;
    world.facts.users = vec!["serve".to_owned(), "train".to_owned()];
    let named = |names: &[&str]| with(&object, &json!({"desiredState": "PendingDeletion", "deletion": {"evenThoughUsedBy": names}}));
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now);
    let (provider, server) =
        (world.provider(&Arc::default()), Server { stored: Mutex::new(named(&["train"])), living: vec![], fuse: Arc::default() });
    let mut pass = Pass::new(named(&["train"]), &world.facts, &provider, &server, now, Instant::now());
    let id = status_of(&object).key_id.unwrap();
    pass.run(Start::Hold(id)).await.unwrap();
    let said = &pass.said[0];
    assert_eq!((said.kind, said.status, said.reason), (ConditionType::Retiring, Some(false), Reason::InUse));
    assert!(said.message.contains("serve;") && said.message.contains("spec.deletion.evenThoughUsedBy"), "{}", said.message);
    assert_eq!(provider.calls.lock().unwrap().as_slice(), ["describe_key"], "it stays as it is, in use");
    assert_eq!(settled(&world, named(&["train", "serve"])).await.1, Some(Reason::PendingDeletion));
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_change_of_state_neither_loses_nor_blames_it() {
    for (state, found) in [("Disabled", KeyState::Disabled), ("PendingDeletion", KeyState::PendingDeletion)] {
        for after in [false, true] {
            for step in 0.. {
                let world = World::new();
                let object = desire(&world.made().await, state);
                let (crashed, result, _) = world.pass(object, &[], fuse(step, after)).await;
                let ended = matches!(result, Err(Failure::Refused(_)));
                // Whoever changes his mind meanwhile is not told that somebody else did it.
                let (object, why) = settled(&world, desire(&crashed, "Enabled")).await;
                assert_eq!((why, status_of(&object).pending_operation), (None, None), "{state}, step {step}, after: {after}");
                let (object, _) = settled(&world, crashed).await;
                let status = status_of(&object);
                assert_eq!((status.state, status.pending_operation), (Some(found), None), "{state}, step {step}, after: {after}");
                if ended {
                    assert!(step >= 3, "only {step} steps were seen to fail");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_deletion_that_failed_once_has_its_whole_window_when_it_is_asked_for_again() {
    for after in [false, true] {
        for step in 0..3 {
            let mut world = World::new();
            let wanted = with(&world.made().await, &json!({"desiredState": "PendingDeletion", "deletion": {"windowDays": 7}}));
            let (failed, _, _) = world.pass(wanted, &[], fuse(step, after)).await;
            let (object, _) = settled(&world, desire(&failed, "Enabled")).await;
            world.now = "2026-04-10T00:00:00Z".parse().unwrap();
            let (object, why) = settled(&world, desire(&object, "PendingDeletion")).await;
            assert_eq!(why, Some(Reason::PendingDeletion), "step {step}, after: {after}");
            assert_eq!(status_of(&object).deletion_time.unwrap().0.to_string(), "2026-04-17T00:00:00Z");
            world.provider(&Arc::default()).probe().await.unwrap();
            assert_eq!(settled(&world, desire(&object, "Enabled")).await.1, None);
        }
    }
}

#[tokio::test]
async fn a_deletion_that_could_not_be_scheduled_for_longer_than_its_window_destroys_nothing() {
    let mut world = World::new();
    let wanted = with(&world.made().await, &json!({"desiredState": "PendingDeletion", "deletion": {"windowDays": 7}}));
    // The intent is written, the provider does not answer.
    let (failed, _, _) = world.pass(wanted, &[], fuse(2, false)).await;
    assert!(status_of(&failed).pending_operation.is_some());
    world.now = "2026-04-10T00:00:00Z".parse().unwrap();
    let (object, _) = settled(&world, failed).await;
    assert_eq!(status_of(&object).deletion_time.unwrap().0.to_string(), "2026-04-17T00:00:00Z");
}

#[tokio::test]
async fn a_key_that_somebody_disables_after_a_change_of_ours_failed_is_not_taken_for_ours() {
    let world = World::new();
    let (failed, _, _) = world.pass(desire(&world.made().await, "Disabled"), &[], fuse(2, false)).await;
    let (object, _) = settled(&world, desire(&failed, "Enabled")).await;
    let id = status_of(&object).key_id.unwrap();
    world.provider(&Arc::default()).set_state(&id, &world.facts.claim, &Wanted::Disabled).await.unwrap();
    assert_eq!(settled(&world, object).await.1, Some(Reason::KeyNotUsable));
}

#[tokio::test]
async fn a_leader_that_slept_before_its_act_leaves_a_key_as_it_is() {
    for spec in [json!({"desiredState": "PendingDeletion"}), json!({"desiredState": "Disabled"}), json!({"rotation": {"request": "r1"}})] {
        let mut world = World::new();
        let made = world.made().await;
        let (begun, _, _) = world.pass(with(&made, &spec), &[], fuse(2, false)).await;
        world.slept = std::time::Duration::from_secs(6);
        let (slept, result, calls) = world.pass(begun, &[], Fuse::default()).await;
        assert!(matches!(result, Err(Failure::Late(_))), "{spec}: {result:?}");
        assert!(calls.iter().all(|call| *call == "describe_key"), "{spec}: {calls:?}");
        // The next pass reads again, and carries it out.
        world.slept = std::time::Duration::ZERO;
        let (object, _) = settled(&world, slept).await;
        let status = status_of(&object);
        assert_eq!(status.pending_operation, None);
        assert_ne!((status.state, status.versions), (status_of(&made).state, status_of(&made).versions), "{spec}");
    }
}

#[tokio::test]
async fn a_rotation_of_a_leader_that_slept_counts_for_the_request_that_it_was_made_for() {
    let world = World::new();
    let object = with(&world.made().await, &json!({"rotation": {"request": "r1"}}));
    let (slept, _, _) = world.pass(object, &[], fuse(2, false)).await;
    let id = status_of(&slept).key_id.unwrap();
    // Another leader begins to disable the key; the first one wakes up between its intent and its act.
    let (begun, _, _) = world.pass(desire(&slept, "Disabled"), &[], fuse(2, false)).await;
    world.provider(&Arc::default()).rotate_key(&id, &world.facts.claim, "1").await.unwrap();
    let (object, _) = settled(&world, begun).await;
    let (object, why) = settled(&world, desire(&object, "Enabled")).await;
    assert_eq!((why, status_of(&object).versions.len()), (None, 2));
}

#[tokio::test]
async fn two_requests_of_which_a_crash_interrupted_one_are_both_served_and_the_schedule_stays() {
    let world = World::new();
    let object = with(&world.made().await, &json!({"rotation": {"request": "r1", "every": "90d"}}));
    let (crashed, _, _) = world.pass(object, &[], fuse(2, false)).await;
    let (object, _) = settled(&world, with(&crashed, &json!({"rotation": {"request": "r2", "every": "90d"}}))).await;
    let status = status_of(&object);
    assert_eq!(status.versions.len(), 3);
    assert_eq!(status.rotation.unwrap().next_rotation.unwrap().0.to_string(), "2026-05-30T00:00:00Z");
}

#[test]
fn a_key_has_no_more_versions_than_its_record_can_hold() {
    let version = |n: usize| Version { id: n.to_string(), created: None, primary: n == 499 };
    let full = Key { versions: (0..500).map(version).collect(), ..key("vision/team-key/a", State::Enabled, None) };
    let wanted = serde_json::from_value(json!({"request": "r1"})).unwrap();
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(World::new().now);
    let refused = rotation::decide(&wanted, &kustody_api::encryption_key::RotationStatus::default(), &full, "u", &now).unwrap_err();
    assert!(refused.starts_with("spec.rotation: ") && refused.contains("make another EncryptionKey"), "{refused}");
}

#[tokio::test]
async fn a_request_rotates_exactly_once_and_old_values_open() {
    let world = World::new();
    let object = world.made().await;
    let first = status_of(&object).sealing_key.unwrap();
    let wanted = with(&object, &json!({"rotation": {"request": "r1"}}));
    let (object, why) = settled(&world, wanted).await;
    let status = status_of(&object);
    assert_eq!((why, status.versions.len(), status.sealing_keys.len()), (None, 2, 2));
    assert_eq!(status.rotation.as_ref().unwrap().last_request.as_deref(), Some("r1"));
    assert_eq!(status.sealing_key.as_ref().unwrap().version, 2);
    let again = status_of(&settled(&world, object.clone()).await.0);
    assert_eq!(again, status);
    let provider = world.provider(&Arc::default());
    for document in [first.document, status.sealing_key.unwrap().document] {
        let header = KeyDocument::parse(&document).unwrap().header;
        let context = core_sealing::wrap_context("vision", "team-key", header.version, &header.public_key_sha256);
        assert_eq!(provider.unwrap(&header.provider_key_id, &header.wrapped_seed, &context).await.unwrap().len(), 32);
    }
}

#[tokio::test]
async fn a_request_that_comes_back_rotates_nothing() {
    let world = World::new();
    let mut object = world.made().await;
    for (request, versions) in [("g", 2), ("x", 3), ("g", 3), ("x", 3), ("y", 4)] {
        let asked = with(&object, &json!({"rotation": {"request": request}}));
        let (settled, why) = settled(&world, asked).await;
        assert_eq!((why, status_of(&settled).versions.len()), (None, versions), "{request}");
        object = settled;
    }
    // What an earlier release noted counts, and no more than sixteen are remembered.
    let status = kustody_api::encryption_key::RotationStatus { last_request: Some("old".to_owned()), ..Default::default() };
    let served = (0..16).fold(status, |mut status, n| {
        assert!(status.served("old"), "{n}");
        status.serve(n.to_string());
        status
    });
    assert!(!served.served("old") && served.served("0") && served.served("15"), "{served:?}");
    assert_eq!(served.served_requests.len(), 16);
}

#[tokio::test]
async fn a_request_that_is_there_when_the_key_is_made_asks_for_nothing() {
    let world = World::new();
    let (object, why) = settled(&world, with(&world.object(None), &json!({"rotation": {"request": "r0"}}))).await;
    let status = status_of(&object);
    assert_eq!((why, status.versions.len()), (None, 1));
    assert_eq!(status.rotation.unwrap().last_request.as_deref(), Some("r0"));
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_rotation_never_rotates_twice() {
    for after in [false, true] {
        for step in 0.. {
            let world = World::new();
            let object = with(&world.made().await, &json!({"rotation": {"request": "r1", "every": "90d"}}));
            let (crashed, result, _) = world.pass(object, &[], fuse(step, after)).await;
            let (object, why) = settled(&world, crashed).await;
            let status = status_of(&object);
            assert_eq!((why, status.versions.len()), (None, 2), "step {step}, after: {after}");
            let rotation = status.rotation.unwrap();
            assert_eq!(rotation.last_request.as_deref(), Some("r1"), "step {step}, after: {after}");
            assert_eq!(rotation.next_rotation.unwrap().0.to_string(), "2026-05-30T00:00:00Z");
            assert_eq!((status.pending_operation, status.sealing_keys.len()), (None, 2), "step {step}, after: {after}");
            if result.is_ok() {
                assert!(step >= 6, "only {step} steps were seen to fail");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_is_disabled_in_the_middle_of_a_rotation_rotates_once_for_the_request() {
    for after in [false, true] {
        for step in 0..4 {
            let world = World::new();
            let object = with(&world.made().await, &json!({"rotation": {"request": "r1"}}));
            let (crashed, _, _) = world.pass(object, &[], fuse(step, after)).await;
            let (object, why) = settled(&world, desire(&crashed, "Disabled")).await;
            assert_eq!(why, Some(Reason::Disabled));
            let (object, why) = settled(&world, desire(&object, "Enabled")).await;
            assert_eq!((why, status_of(&object).versions.len()), (None, 2), "step {step}, after: {after}");
        }
    }
}

#[tokio::test]
async fn a_schedule_that_was_missed_many_times_rotates_once() {
    let mut world = World::new();
    let object = with(&world.made().await, &json!({"rotation": {"schedule": "0 3 * * *"}}));
    let (object, _) = settled(&world, object).await;
    assert_eq!(status_of(&object).rotation.unwrap().next_rotation.unwrap().0.to_string(), "2026-03-01T03:00:00Z");
    world.now = "2026-03-11T12:00:00Z".parse().unwrap();
    let (object, _) = settled(&world, object).await;
    let (object, _) = settled(&world, object).await;
    let status = status_of(&object);
    assert_eq!(status.versions.len(), 2);
    assert_eq!(status.rotation.unwrap().next_rotation.unwrap().0.to_string(), "2026-03-12T03:00:00Z");
}

#[tokio::test]
async fn a_clock_that_leaps_ahead_rotates_a_key_with_a_schedule_once_and_the_next_counts_from_there() {
    let mut world = World::new();
    let (object, _) = settled(&world, with(&world.made().await, &json!({"rotation": {"every": "90d"}}))).await;
    let right = world.now;
    world.now = "2036-03-01T00:00:00Z".parse().unwrap();
    let (object, _) = settled(&world, object).await;
    world.now = right;
    let (object, _) = settled(&world, object).await;
    let status = status_of(&object);
    assert_eq!((status.versions.len(), status.sealing_keys.len()), (2, 2));
    assert_eq!(status.rotation.unwrap().next_rotation.unwrap().0.to_string(), "2036-05-30T00:00:00Z");
    // The remedy that the documentation names.
    let asked = with(&object, &json!({"rotation": {"every": "90d", "request": "now"}}));
    assert_eq!(status_of(&settled(&world, asked).await.0).versions.len(), 3);
}

#[tokio::test]
async fn an_adopted_key_is_rotated_and_retired_only_where_access_says_so() {
    let mut world = World::new();
    let id = status_of(&world.made().await).key_id.unwrap();
    (world.facts.claim.namespace, world.facts.claim.namespace_uid, world.facts.claim.owner_uid) =
        ("other".to_owned(), "n2".to_owned(), "k2".to_owned());
    let adopt = json!({"keyId": id});
    let line = |operations: &[&str]| json!([{"namespaces": {}, "adopt": [{"ids": ["vision/*"], "operations": operations}]}]);
    world.access(line(&["Use"]));
    let (object, why) = settled(&world, with(&world.object(Some(adopt)), &json!({"desiredState": "Disabled"}))).await;
    assert_eq!((why, status_of(&object).state), (Some(Reason::AccessDenied), Some(KeyState::Enabled)), "the broker opens nothing");
    let rotated = with(&desire(&object, "Enabled"), &json!({"rotation": {"request": "r1"}}));
    let (object, why) = settled(&world, rotated).await;
    assert_eq!((why, status_of(&object).versions.len()), (None, 1));
    world.access(line(&["Use", "Rotate", "Retire"]));
    let (object, _) = settled(&world, object).await;
    assert_eq!(status_of(&object).versions.len(), 2);
    assert_eq!(settled(&world, desire(&object, "Disabled")).await.1, Some(Reason::Disabled));
}

#[tokio::test]
async fn status_counts_the_values_that_are_sealed_for_an_old_sealing_key() {
    let mut world = World::new();
    let object = world.made().await;
    world.facts.sealed = BTreeMap::from([(status_of(&object).sealing_keys[0].public_key_sha256.clone(), 3)]);
    let (object, _) = settled(&world, object).await;
    let counted = status_of(&object).sealed_values.unwrap();
    assert_eq!((counted.total, counted.outdated), (3, 0));
    let (object, _) = settled(&world, with(&object, &json!({"rotation": {"request": "r1"}}))).await;
    let counted = status_of(&object).sealed_values.unwrap();
    assert_eq!((counted.total, counted.outdated), (3, 3));
}

#[tokio::test]
async fn a_key_that_was_published_before_versions_were_recorded_keeps_its_sealing_key() {
    let world = World::new();
    let mut object = world.made().await;
    let status = object.status.as_mut().unwrap();
    status.sealing_keys.iter_mut().for_each(|record| record.key_version = None);
    (status.applied_state, status.sealed_values) = (None, None);
    let (object, why) = settled(&world, object).await;
    assert_eq!((why, status_of(&object).sealing_keys.len()), (None, 1));
}
