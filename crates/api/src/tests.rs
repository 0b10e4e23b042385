//! The emitted schemas and rules.

use kube::CustomResourceExt;

use serde_json::Value;

use crate::{EncryptionKey, KeyProvider, SecretBinding};

/// Every schema below `node`, with its path.
fn schemas<'a>(path: &str, node: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    found.push((path.to_owned(), node));
    for (name, field) in node["properties"].as_object().into_iter().flatten() {
        schemas(&format!("{path}.{name}"), field, found);
    }
    if node["items"].is_object() {
        schemas(&format!("{path}[]"), &node["items"], found);
    }
}

fn each_schema(check: impl Fn(&str, &Value)) {
    for crd in [KeyProvider::crd(), EncryptionKey::crd(), SecretBinding::crd()] {
        let crd = serde_json::to_value(&crd).expect("a CRD serialises");
        let mut found = Vec::new();
        schemas(
            crd["spec"]["names"]["kind"].as_str().expect("a kind"),
            &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
            &mut found,
        );
        assert!(found.len() > 20);
        for (path, schema) in found {
            check(&path, schema);
        }
    }
}

#[test]
fn no_default_of_the_server_shows_as_a_difference_to_git() {
    each_schema(|path, schema| assert!(schema["default"].is_null(), "{path} has a default"));
}

#[test]
fn every_field_says_what_it_is() {
    each_schema(|path, schema| {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let said = field["description"].as_str().unwrap_or_default();
            assert!(said.len() > 10 || path.matches('.').count() == 0, "{path}.{name} has no description");
        }
    });
}

#[test]
fn every_text_and_list_of_a_spec_is_bounded() {
    // Without bounds the API server cannot estimate what a rule costs, and a value can be of any size.
    each_schema(|path, schema| {
        let in_spec = path.split('.').nth(1) == Some("spec") && !path.contains("elector") && !path.contains(".namespaces");
        if in_spec && schema["type"] == "array" {
            assert!(schema["maxItems"].is_number(), "{path} is a list without maxItems");
        }
    });
}

#[test]
fn conditions_are_a_map_by_type() {
    each_schema(|path, schema| {
        if path.ends_with(".status.conditions") {
            assert_eq!(schema["x-kubernetes-list-type"], "map", "{path}");
            assert_eq!(schema["x-kubernetes-list-map-keys"], serde_json::json!(["type"]), "{path}");
        }
    });
}

#[test]
fn each_crd_is_under_100_kb() {
    for crd in [KeyProvider::crd(), EncryptionKey::crd(), SecretBinding::crd()] {
        let size = serde_json::to_string(&crd).expect("a CRD serialises").len();
        assert!(size < 100_000, "{} has {size} bytes", crd.metadata.name.unwrap_or_default());
    }
}
