//! What a SecretBinding says of itself.

use serde_json::json;

use crate::harness::canary::canary;
use crate::harness::home::Home;
use crate::harness::{apply, condition, eventually, get, objects};

#[test]
fn each_reference_that_is_missing_is_named() {
    let home = Home::new("missing");
    apply(&objects::binding(&home.name, "trainer", "AgEBQ")).good();
    let message = home.not_ready("secretbinding", "trainer", "EncryptionKeyNotFound");
    assert!(message.contains("spec.secrets[token].sealed.key") && message.contains("team-key"), "{message}");

    let mut key = objects::key(&home.name, "team-key");
    key["spec"]["providerRef"]["name"] = json!("nowhere");
    apply(&key).good();
    let message = home.not_ready("encryptionkey", "team-key", "ProviderNotFound");
    assert!(message.contains("nowhere"), "{message}");
    let message = home.not_ready("secretbinding", "trainer", "EncryptionKeyNotReady");
    assert!(message.contains("ProviderNotFound"), "{message}");
}

#[test]
fn a_service_account_without_a_grant_is_named() {
    let home = Home::new("grant");
    home.key();
    let sealed = home.seal("trainer", "token", &canary());
    let mut binding = objects::binding(&home.name, "trainer", &sealed);
    binding["spec"]["workloads"]["serviceAccounts"] = json!(["trainer", "stranger"]);
    apply(&binding).good();
    let message = home.not_ready("secretbinding", "trainer", "NotGranted");
    assert!(message.contains("stranger") && message.contains("grants"), "{message}");
}

#[test]
fn status_says_for_each_variable_whether_an_environment_file_can_carry_it() {
    let home = Home::new("envfile");
    home.key();
    let good = home.seal("trainer", "good", &canary());
    let bad = home.seal("trainer", "bad", &format!("it's {}", canary()));
    let mut binding = objects::binding(&home.name, "trainer", "");
    binding["spec"]["secrets"] = json!([
        {"name": "good", "sealed": {"key": "team-key", "value": good}},
        {"name": "bad", "sealed": {"key": "team-key", "value": bad}},
    ]);
    binding["spec"]["deliver"] = json!({"env": [{"name": "GOOD", "secret": "good"}, {"name": "BAD", "secret": "bad"}]});
    apply(&binding).good();
    let message = home.not_ready("secretbinding", "trainer", "VariableNotRepresentable");
    assert!(message.contains("BAD") && !message.contains("GOOD"), "{message}");
    let status = home.get("secretbinding", "trainer")["status"]["variables"].clone();
    assert_eq!((&status[0]["name"], &status[0]["envFile"]), (&json!("GOOD"), &json!(true)), "{status}");
    assert_eq!((&status[1]["name"], &status[1]["envFile"]), (&json!("BAD"), &json!(false)), "{status}");
}

#[test]
fn a_value_that_was_sealed_for_another_place_does_not_open() {
    let home = Home::new("place");
    home.key();
    let sealed = home.seal("other", "token", &canary());
    apply(&objects::binding(&home.name, "trainer", &sealed)).good();
    let message = home.not_ready("secretbinding", "trainer", "SealedValueInvalid");
    assert!(message.contains("sealed for another namespace, binding or secret name"), "{message}");
}

#[test]
fn a_variable_that_changes_how_programs_load_is_refused_unless_the_provider_allows_it() {
    let home = Home::new("refused");
    home.key();
    let sealed = home.seal("trainer", "token", &canary());
    let mut binding = objects::binding(&home.name, "trainer", &sealed);
    binding["spec"]["deliver"]["env"] = json!([{"secret": "token", "name": "https_proxy"}]);
    apply(&binding).good();
    let message = home.not_ready("secretbinding", "trainer", "VariableRefused");
    assert!(message.contains("https_proxy") && message.contains("allowVariables"), "{message}");

    // A provider of this test's own: others read `local`.
    let provider = format!("{}-allows", home.name);
    let mut object = objects::provider(&provider);
    object["spec"]["access"][0]["allowVariables"] = json!(["HTTPS_PROXY"]);
    let mut key = objects::key(&home.name, "lenient");
    key["spec"]["providerRef"]["name"] = json!(provider);
    apply(&json!([object, key])).good();
    home.ready("encryptionkey", "lenient");
    let program = format!("{}/kubectl-kustody", crate::harness::setting("KUSTODY_BIN"));
    let name = format!("{}/lenient", home.name);
    let arguments = ["seal", "--key", &name, "--binding", "trainer", "--secret", "token"];
    let sealed = crate::harness::run(&program, &arguments, canary().as_bytes()).good();
    binding["spec"]["secrets"] = json!([{"name": "token", "sealed": {"key": "lenient", "value": sealed.trim()}}]);
    apply(&binding).good();
    home.ready("secretbinding", "trainer");
    let mut pod = objects::pod(&home.name, "train", "test -n \"$https_proxy\"");
    pod["metadata"]["labels"]["kustody.dev/inject"] = json!("trainer");
    apply(&pod).good();
    let pod = home.pod("train");
    assert_eq!(pod["status"]["phase"], "Succeeded", "{}", pod["status"]);
    crate::harness::kubectl(&["delete", "keyprovider", &provider, "--wait=false"]).good();
}

#[test]
fn status_counts_the_pods_that_match_and_says_when_none_of_them_asks() {
    let home = Home::new("count");
    home.key();
    home.binding(&canary());
    let mut silent = objects::pod(&home.name, "silent", "sleep 1000");
    silent["metadata"]["labels"] = json!({});
    apply(&silent).good();
    eventually("NotAskedFor", || {
        let binding = home.get("secretbinding", "trainer");
        let says = condition(&binding, "NotAskedFor").is_some_and(|condition| condition["status"] == "True");
        if says && binding["status"]["matchingPods"] == 1 { Ok(()) } else { Err(binding["status"].to_string()) }
    });
    apply(&objects::pod(&home.name, "asks", "sleep 1000")).good();
    eventually("two pods, one of which asks", || {
        let binding = home.get("secretbinding", "trainer");
        let says = condition(&binding, "NotAskedFor").is_some_and(|condition| condition["status"] == "False");
        if says && binding["status"]["matchingPods"] == 2 { Ok(()) } else { Err(binding["status"].to_string()) }
    });
}

#[test]
fn a_table_of_objects_answers_the_first_questions() {
    let home = Home::new("columns");
    home.key();
    home.binding(&canary());
    let table = home.kubectl(&["get", "encryptionkey,secretbinding"]).good();
    for column in ["READY", "REASON", "PROVIDER", "STATE", "PODS", "True", "Available", "Enabled"] {
        assert!(table.contains(column), "{column}: {table}");
    }
    let events = get(&["-n", &home.name, "events"]);
    let of = |kind: &str| events["items"].as_array().unwrap().iter().any(|event| event["involvedObject"]["kind"] == kind);
    assert!(of("EncryptionKey") && of("SecretBinding"), "{events}");
}
