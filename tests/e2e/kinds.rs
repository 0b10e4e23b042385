//! What the API server itself refuses, and that it says what to do.

use serde_json::{Value, json};

use crate::harness::home::Home;
use crate::harness::{kubectl, objects, run};

/// Sends the object as a dry run that the schema and its rules judge.
fn refusal(object: &Value) -> String {
    run("kubectl", &["apply", "--dry-run=server", "-f", "-"], object.to_string().as_bytes()).refused()
}

#[test]
fn what_a_later_release_brings_is_refused_with_a_message_that_says_so() {
    let home = Home::new("later");
    let cases: Vec<(&str, Value, &str)> = vec![
        ("key", json!({"spec": {"rotation": {"every": "90d", "schedule": "0 3 * * *"}}}), "not both"),
        ("key", json!({"spec": {"rotation": {"every": "90 days"}}}), "spec.rotation.every"),
        ("key", json!({"spec": {"rotation": {"window": {"start": "02:00", "duration": "3h"}}}}), "add every or schedule"),
        ("key", json!({"spec": {"deletionPolicy": "Delete"}}), "only Retain is available in this release"),
        ("binding", json!({"spec": {"update": {"mode": "Restart"}}}), "spec.update.mode: Restart comes in a later release"),
        (
            "binding",
            json!({"spec": {"secrets": [{"name": "token", "store": {"provider": "local", "id": "a"}}]}}),
            "not available in this release",
        ),
        (
            "binding",
            json!({"spec": {"secrets": [{"name": "token", "kubernetesSecret": {"name": "a", "key": "b"}}]}}),
            "not available as a source in this release",
        ),
        ("binding", json!({"spec": {"deliver": {"exec": true}}}), "the exec wrapper is not available in this release"),
        ("provider", json!({"spec": {"aws": {"region": "eu-central-1"}, "local": null}}), "AWS is not available in this release"),
        ("provider", json!({"spec": {"limits": {"requestsPerSecond": 1}}}), "remove spec.limits"),
    ];
    for (kind, change, message) in cases {
        let mut object = match kind {
            "key" => objects::key(&home.name, "k"),
            "binding" => objects::binding(&home.name, "b", "AgEB"),
            _ => objects::provider(&home.name),
        };
        json_patch::merge(&mut object, &change);
        let said = refusal(&object);
        assert!(said.contains(message), "{change}: {said}");
    }
}

#[test]
fn a_live_binding_without_a_file_is_refused_because_variables_do_not_change_in_a_running_pod() {
    let mut binding = objects::binding("default", "b", "AgEB");
    binding["spec"]["update"] = json!({"mode": "Live"});
    binding["spec"]["deliver"]["files"] = json!([]);
    let said = refusal(&binding);
    assert!(said.contains("variables change only when a container starts"), "{said}");
}

#[test]
fn what_cannot_be_changed_is_refused_by_the_api_server() {
    let home = Home::new("immutable");
    home.key();
    let mut key = objects::key(&home.name, "team-key");
    key["spec"]["providerRef"]["name"] = json!("other");
    assert!(refusal(&key).contains("spec.providerRef cannot be changed"));
    let mut key = objects::key(&home.name, "team-key");
    key["spec"]["keySpec"] = json!("SymmetricDefault");
    assert!(refusal(&key).contains("spec.keySpec cannot be changed"));
}

#[test]
fn a_binding_has_a_name_that_a_label_can_hold() {
    let home = Home::new("names");
    for name in ["true", "false", "enabled", "required", &"a".repeat(64)] {
        let said = refusal(&objects::binding(&home.name, name, "AgEB"));
        assert!(said.contains("at most 63 characters, and not true, false, enabled or required"), "{name}: {said}");
    }
}

#[test]
fn a_path_that_leaves_the_binding_s_directory_is_refused() {
    let home = Home::new("paths");
    for path in ["/etc/passwd", "a/../b", "..data", "a//b", "./a"] {
        let mut binding = objects::binding(&home.name, "b", "AgEB");
        binding["spec"]["deliver"]["files"][0]["path"] = json!(path);
        let said = refusal(&binding);
        for part in ["spec.deliver.files[0]", "stays below the binding's directory", "correct the path"] {
            assert!(said.contains(part), "{path}: {part}: {said}");
        }
    }
}

#[test]
fn a_path_or_variable_that_a_binding_names_twice_is_refused_with_its_place() {
    let home = Home::new("twice");
    for list in ["files", "env"] {
        let mut binding = objects::binding(&home.name, "b", "AgEB");
        let entry = binding["spec"]["deliver"][list][0].clone();
        binding["spec"]["deliver"][list].as_array_mut().unwrap().push(entry);
        let said = refusal(&binding);
        assert!(said.contains(&format!("spec.deliver.{list}[1]: Duplicate value")), "{said}");
    }
}

#[test]
fn a_field_that_is_not_known_is_refused_by_its_path() {
    let home = Home::new("unknown");
    let mut key = objects::key(&home.name, "k");
    key["spec"]["grnats"] = json!([]);
    let mut binding = objects::binding(&home.name, "b", "AgEB");
    binding["spec"]["deliver"]["files"][0]["pth"] = json!("x");
    for (object, field) in [(key, "spec.grnats"), (binding, "spec.deliver.files[0].pth")] {
        let said = refusal(&object);
        assert!(said.contains(&format!("unknown field \"{field}\"")), "{said}");
    }
}

#[test]
fn what_is_applied_comes_back_without_a_field_that_nobody_wrote() {
    let home = Home::new("gitops");
    home.key();
    for object in [objects::key(&home.name, "team-key"), objects::provider("local")] {
        let said = run("kubectl", &["diff", "-f", "-"], object.to_string().as_bytes());
        assert!(said.ok, "{}{}", said.out, said.err);
    }
    let spec = home.get("encryptionkey", "team-key")["spec"].clone();
    assert_eq!(spec, objects::key("", "")["spec"], "the server adds no default");
}

#[test]
fn explain_is_the_manual_of_every_field() {
    for path in ["keyprovider.spec.access", "encryptionkey.spec.grants", "secretbinding.spec.deliver.files.mode"] {
        let text = kubectl(&["explain", path]).good();
        assert!(text.contains("DESCRIPTION") && text.len() > 200 && !text.contains("<empty>"), "{path}: {text}");
    }
}
