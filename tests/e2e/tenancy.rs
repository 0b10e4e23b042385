//! One namespace cannot reach another's keys; proven by what was asked of the key's record.

use std::fs;

use serde_json::{Value, json};

use crate::harness::canary::canary;
use crate::harness::home::Home;
use crate::harness::{apply, cluster_directory, eventually, objects, setting};

/// How often the operator touched the record of a key, by the API server's own audit log.
fn touches(key: &Value) -> usize {
    let id = key["status"]["keyId"].as_str().unwrap();
    let record = format!("\"kustody-key-{}\"", id.rsplit('/').next().unwrap());
    // What the API server has answered is in its log a moment later: a marker of our own comes back first.
    let marker = format!("marker-{}", crate::harness::unique());
    let _ = crate::harness::kubectl(&["get", "namespace", &marker]);
    let read = || fs::read_to_string(cluster_directory().join("log/audit.log")).unwrap();
    let log = eventually("the audit log to be written", || if read().contains(&marker) { Ok(read()) } else { Err("no marker".to_owned()) });
    log.lines().filter(|line| line.contains(&record) && line.contains("ResponseComplete")).count()
}

/// Two namespaces, of which the name of one begins with the other's.
fn neighbours(topic: &str) -> (Home, Home) {
    let a = Home::new(topic);
    let b = Home { name: format!("{}-b", a.name) };
    apply(&json!([
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": b.name, "labels": {"kustody.dev/e2e": "true"}}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainer", "namespace": b.name}},
    ]))
    .good();
    (a, b)
}

#[test]
fn another_namespace_s_sealed_value_is_refused_without_a_call_to_its_key() {
    let (a, b) = neighbours("sealed");
    a.key();
    let key = b.key();
    b.binding(&canary());
    let stolen = b.get("secretbinding", "trainer")["spec"]["secrets"][0]["sealed"]["value"].as_str().unwrap().to_owned();
    let before = touches(&key);
    assert!(before > 0, "the record's reads are in the log");
    apply(&objects::binding(&a.name, "trainer", &stolen)).good();
    let message = a.not_ready("secretbinding", "trainer", "SealedValueInvalid");
    assert!(message.contains("sealed under key") && message.contains(&b.name), "{message}");
    apply(&objects::pod(&a.name, "train", "true")).refused();
    assert_eq!(touches(&key), before, "the key was not asked");
}

#[test]
fn another_namespace_s_key_is_not_adopted_and_not_asked() {
    let (a, b) = neighbours("adopt");
    let key = b.key();
    let before = touches(&key);
    let mut thief = objects::key(&a.name, "team-key");
    thief["spec"]["adopt"] = json!({"keyId": key["status"]["keyId"]});
    apply(&thief).good();
    let message = a.not_ready("encryptionkey", "team-key", "AccessDenied");
    assert!(message.contains("adopt"), "{message}");
    assert_eq!(touches(&key), before, "the key was not asked");
}

#[test]
fn a_pod_with_another_service_account_is_not_served() {
    let home = Home::new("identity");
    home.key();
    home.binding(&canary());
    let mut pod = objects::pod(&home.name, "train", "true");
    pod["spec"]["serviceAccountName"] = json!("default");
    let refusal = apply(&pod).refused();
    assert!(refusal.contains("default") && refusal.contains("serviceAccounts"), "{refusal}");
}

#[test]
fn a_token_of_another_audience_or_of_nobody_gets_nothing_from_the_broker() {
    let home = Home::new("token");
    let agent = |token: &str| {
        let url = format!("https://{}:443/v1/release", broker_address());
        let body = json!({"version": 1, "bindings": []}).to_string();
        let header = format!("authorization: Bearer {token}");
        let arguments =
            ["-sk", "-o", "/dev/stdout", "-w", "\n%{http_code}", "-H", &header, "-H", "content-type: application/json", "-d", &body, &url];
        crate::harness::run("curl", &arguments, b"").good()
    };
    let for_the_api = home.kubectl(&["create", "token", "trainer"]).good();
    let unbound = home.kubectl(&["create", "token", "trainer", "--audience", "broker.kustody.dev"]).good();
    for token in ["", "nonsense", for_the_api.trim(), unbound.trim()] {
        let answer = agent(token);
        assert!(answer.ends_with("401") || answer.ends_with("403"), "{answer}");
        assert!(answer.contains("the token is not a valid token of a running pod for this broker"), "{answer}");
        assert!(answer.contains("correlationId"), "{answer}");
    }
}

fn broker_address() -> String {
    let service = crate::harness::get(&["-n", crate::harness::SYSTEM, "service", "kustody-broker"]);
    service["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

#[test]
fn each_role_may_do_no_more_than_it_needs() {
    let can = |role: &str, verb: &str, resource: &str| {
        let account = format!("system:serviceaccount:{}:kustody-{role}", crate::harness::SYSTEM);
        crate::harness::kubectl(&["-n", crate::harness::SYSTEM, "auth", "can-i", verb, resource, "--as", &account]).out.trim() == "yes"
    };
    assert!(can("webhook", "get", "secrets/kustody-webhook-tls"));
    for (role, verb, resource) in [
        ("webhook", "list", "secrets"),
        ("webhook", "get", "secrets/kustody-ca"),
        ("webhook", "get", "secrets/kustody-broker-tls"),
        ("webhook", "create", "pods"),
        ("broker", "create", "secrets"),
        ("broker", "update", "secrets"),
        ("broker", "delete", "secrets"),
        ("controller", "delete", "secrets"),
        ("controller", "delete", "encryptionkeys.kustody.dev"),
        ("controller", "create", "pods/exec"),
    ] {
        assert!(!can(role, verb, resource), "{role} {verb} {resource}");
    }
    let elsewhere = Home::new("rbac");
    for role in ["controller", "webhook", "broker"] {
        let account = format!("system:serviceaccount:{}:kustody-{role}", crate::harness::SYSTEM);
        let said = elsewhere.kubectl(&["auth", "can-i", "get", "secrets", "--as", &account]);
        assert_eq!(said.out.trim(), "no", "{role}");
    }
    // `setting` fails loudly when this runs outside `make test`.
    setting("KUSTODY_E2E_DIR");
}
