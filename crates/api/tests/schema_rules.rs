//! What the rules of the schemas refuse, and what they say, evaluated as the API server evaluates them.

#![allow(clippy::unwrap_used, reason = "a test panics when a sentence is not true")]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kube::core::cel::{ValidationErrors, Validator};
use kustody_api::{KeyProvider, SecretBinding};
use serde_json::{Value, json};

fn binding() -> Value {
    json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": "trainer"},
        "spec": {
            "workloads": {"serviceAccounts": ["trainer"]},
            "secrets": [{"name": "token", "sealed": {"key": "team-key", "value": "AgEB"}}],
            "deliver": {"files": [{"secret": "token", "path": "token"}], "env": [{"secret": "token", "name": "TOKEN"}]},
        },
    })
}

/// What is said of the object, one line for each rule that it breaks.
fn said_of(object: &Value) -> String {
    said_by(SecretBinding::crd(), object)
}

fn said_by(crd: CustomResourceDefinition, object: &Value) -> String {
    let crd = serde_json::to_value(crd).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let errors = Validator::new().validate(schema, object, None).err().map(ValidationErrors::into_vec).unwrap_or_default();
    errors.iter().map(|error| format!("{}: {}", error.field_path, error.message)).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_path_that_leaves_its_directory_is_refused_with_field_rule_and_remedy() {
    assert_eq!(said_of(&binding()), "");
    for path in ["/etc/passwd", "a/../b", "..", "../a", "..data", "a//b", "a/", "./a", "a/."] {
        let mut escaping = binding();
        escaping["spec"]["deliver"]["files"][0]["path"] = json!(path);
        let rule = "spec.deliver.files[].path: a path is relative and stays below the binding's directory: no segment is empty, a dot or \
                    begins with two dots; correct the path";
        assert_eq!(said_of(&escaping), format!("spec.deliver.files[0]: {rule}"), "{path}");
    }
}

#[test]
fn a_path_that_is_a_directory_of_another_is_refused_with_field_rule_and_remedy() {
    let mut nested = binding();
    nested["spec"]["deliver"]["files"] = json!([{"secret": "token", "path": "a"}, {"secret": "token", "path": "a/b"}]);
    let rule = "spec.deliver.files[].path: one path is a directory of another; rename one of them";
    assert_eq!(said_of(&nested), format!("spec.deliver: {rule}"));
}

#[test]
fn a_secret_that_the_binding_does_not_have_is_refused_with_field_rule_and_remedy() {
    for list in ["files", "env"] {
        let mut unknown = binding();
        unknown["spec"]["deliver"][list][0]["secret"] = json!("tokne");
        let rule = "must be the name of an entry of spec.secrets; correct the name or add the entry";
        assert_eq!(said_of(&unknown), format!("spec: spec.deliver.{list}[].secret {rule}"));
    }
}

#[test]
fn a_line_of_access_may_allow_to_use_rotate_and_retire_an_adopted_key() {
    let provider = json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "KeyProvider", "metadata": {"name": "main"},
        "spec": {"local": {}, "access": [{"namespaces": {}, "adopt": [{"ids": ["vision/*"], "operations": ["Use", "Rotate", "Retire"]}]}]},
    });
    assert_eq!(said_by(KeyProvider::crd(), &provider), "");
}
