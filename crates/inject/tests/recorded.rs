//! What holds for every recorded request of a real controller.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

mod common;

use common::{answer, asking, binding, facts, operations, patched, recorded};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// Takes away what was added, and asserts that nothing else is different.
fn assert_only_added(name: &str, before: &Value, after: &Value) {
    let mut stripped = after.clone();
    let ours = |value: &Value| value["name"].as_str().is_some_and(|name| name.starts_with("kustody-"));
    let drop_ours = |list: &mut Value, before: &Value| {
        if let Some(items) = list.as_array_mut() {
            items.retain(|item| !ours(item));
            if items.is_empty() && before.is_null() {
                *list = Value::Null;
            }
        }
    };
    let spec = &mut stripped["spec"];
    drop_ours(&mut spec["volumes"], &before["spec"]["volumes"]);
    drop_ours(&mut spec["initContainers"], &before["spec"]["initContainers"]);
    for list in ["initContainers", "containers"] {
        let old = &before["spec"][list];
        for (i, container) in spec[list].as_array_mut().into_iter().flatten().enumerate() {
            drop_ours(&mut container["volumeMounts"], &old[i]["volumeMounts"]);
            if let Some(env) = container["env"].as_array_mut() {
                env.retain(|variable| variable["name"] != "KUSTODY_TEST_TOKEN");
                if env.is_empty() && old[i]["env"].is_null() {
                    container["env"] = Value::Null;
                }
            }
        }
    }
    if let Some(annotations) = stripped["metadata"]["annotations"].as_object_mut() {
        annotations.remove("kustody.dev/injected");
        if annotations.is_empty() && before["metadata"]["annotations"].is_null() {
            stripped["metadata"]["annotations"] = Value::Null;
        }
    }
    assert_eq!(without_nulls(&stripped), without_nulls(before), "{name}: something else was changed");
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

#[test]
fn a_pod_that_does_not_ask_is_left_as_it_is_to_the_byte() {
    for (name, review) in recorded() {
        let answer = answer(&review, &facts(&[binding(&review)]));
        assert!(operations(&answer).is_empty(), "{name}");
        assert_eq!(answer.outcome, "skipped");
    }
}

#[test]
fn injection_adds_and_changes_nothing_else_whatever_fields_the_pod_has() {
    for (name, review) in recorded() {
        let mut review = asking(review, "true");
        // Fields of a newer Kubernetes, everywhere.
        let pod = &mut review["request"]["object"];
        pod["spec"]["fieldOfTomorrow"] = json!({"a": [1]});
        for list in ["initContainers", "containers"] {
            for (i, container) in pod["spec"][list].as_array_mut().into_iter().flatten().enumerate() {
                container["fieldOfTomorrow"] = json!(i);
            }
        }
        let answer = answer(&review, &facts(&[binding(&review)]));
        assert_eq!(answer.outcome, "injected", "{name}: {:?}", answer.denial);
        let after = patched(&review, &answer);
        assert_only_added(&name, &review["request"]["object"], &after["request"]["object"]);
        serde_json::from_value::<Pod>(after["request"]["object"].clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn injection_is_idempotent() {
    for (name, review) in recorded() {
        let review = asking(review, "true");
        let facts = facts(&[binding(&review)]);
        let once = patched(&review, &answer(&review, &facts));
        let again = answer(&once, &facts);
        assert_eq!((again.outcome, operations(&again)), ("unchanged", Vec::new()), "{name}");
    }
}

#[test]
fn a_container_that_came_in_between_is_served_in_the_next_pass() {
    for (name, review) in recorded() {
        let review = asking(review, "true");
        let mut named = binding(&review);
        let mut containers: Vec<Value> =
            review["request"]["object"]["spec"]["containers"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
        containers.push(json!("late"));
        named["spec"]["workloads"]["containers"] = json!(containers);
        let facts = facts(&[named]);
        let mut once = patched(&review, &answer(&review, &facts));
        let late = json!({"name": "late", "image": "x", "env": [{"name": "A", "value": "$(KUSTODY_TEST_TOKEN)"}]});
        once["request"]["object"]["spec"]["initContainers"].as_array_mut().unwrap().push(late);
        let twice = patched(&once, &answer(&once, &facts));
        let spec = &twice["request"]["object"]["spec"];
        let late = spec["initContainers"].as_array().unwrap().last().unwrap();
        assert_eq!(late["env"][0]["name"], "KUSTODY_TEST_TOKEN", "{name}");
        assert_eq!(late["volumeMounts"].as_array().unwrap().len(), 1, "{name}");
        assert_eq!(spec["volumes"], once["request"]["object"]["spec"]["volumes"], "{name}");
        assert!(operations(&answer(&twice, &facts)).is_empty(), "{name}");
    }
}

#[test]
fn every_operation_on_a_container_of_the_user_s_follows_a_test_of_its_name() {
    for (name, review) in recorded() {
        let review = asking(review, "true");
        let operations = operations(&answer(&review, &facts(&[binding(&review)])));
        let mut guarded = String::new();
        for operation in operations {
            let path = operation["path"].as_str().unwrap();
            if operation["op"] == "test" {
                guarded = path.trim_end_matches("/name").to_owned();
            } else if path.starts_with("/spec/containers/") {
                assert!(path.starts_with(&format!("{guarded}/")), "{name}: {path} after a test of {guarded}");
            }
            assert_ne!(operation["op"], "remove");
        }
    }
}
