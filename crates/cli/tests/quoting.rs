//! A secret that was put in the wrong place of a file or an object is never quoted.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Said, Server, list, manifest, run};
use serde_json::{Value, json};

const CANARY: &str = "canary-8d1f-in-the-wrong-place";

#[track_caller]
fn silent(said: &Said, code: i32, parts: &[&str]) {
    assert_eq!(said.code, Some(code), "{}", said.err);
    assert!(!said.err.contains("canary") && !said.out.contains("canary"), "{}{}", said.out, said.err);
    for part in parts {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
}

/// Objects of every kind that is read, each with the secret where something else belongs.
fn misshapen() -> Vec<(Value, &'static str)> {
    let of = |kind: &str, rest: Value| {
        let api = if kind == "SecretBinding" { "kustody.dev/v1alpha1" } else { "v1" };
        let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": "x"}});
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object
    };
    vec![
        (of("Pod", json!({"spec": CANARY})), "Pod x"),
        (of("Pod", json!({"spec": {"containers": CANARY}})), "Pod x"),
        (of("Pod", json!({"spec": {"containers": [{"name": "main", "env": CANARY}]}})), "Pod x"),
        (of("Pod", json!({"metadata": {"name": "x", "labels": CANARY}, "spec": {"containers": []}})), "Pod x"),
        (of("SecretBinding", json!({"spec": CANARY})), "SecretBinding x"),
        (of("SecretBinding", json!({"spec": {"workloads": {}, "secrets": [CANARY], "deliver": {}}})), "SecretBinding x"),
        (
            of("SecretBinding", json!({"spec": {"workloads": {}, "secrets": [{"name": "hf", "sealed": CANARY}], "deliver": {}}})),
            "SecretBinding x",
        ),
        (of("SecretBinding", json!({"spec": {"workloads": {"serviceAccounts": CANARY}, "secrets": [], "deliver": {}}})), "SecretBinding x"),
        (of("Namespace", json!({"metadata": {"name": "x", "labels": CANARY}})), "Namespace x"),
        (of("Node", json!({"status": CANARY})), "Node x"),
        (of("ResourceQuota", json!({"spec": {"hard": CANARY}})), "ResourceQuota x"),
        (of("LimitRange", json!({"spec": {"limits": CANARY}})), "LimitRange x"),
    ]
}

#[test]
fn a_secret_in_the_wrong_place_of_a_file_is_never_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f.yaml");
    let file = path.to_str().unwrap();
    let server = Server::of(vec![]);
    for (object, title) in misshapen() {
        std::fs::write(&path, object.to_string()).unwrap();
        silent(&run(&["inject", "-f", file, "-f", &manifest("pod.yaml")], ""), 1, &[title]);
        if object["kind"] == "SecretBinding" {
            silent(&server.run(&["reseal", "-f", file]), 1, &[title, file, "of another type"]);
        }
    }
    for broken in [
        format!("kind: SecretBinding\nspec: {{value: {CANARY}\n"),
        format!("kind: SecretBinding\n{CANARY}: a\n{CANARY}: b\n"),
        format!("kind: SecretBinding\nspec: *{CANARY}\n"),
        format!("kind: SecretBinding\nspec: !!int {CANARY}\n"),
        format!("{{\"kind\": \"SecretBinding\", \"spec\": \"{CANARY}"),
    ] {
        std::fs::write(&path, &broken).unwrap();
        silent(&run(&["inject", "-f", file], ""), 1, &[file]);
        assert_ne!(server.run(&["reseal", "-f", file]).code, Some(0), "{broken}");
        let said = server.run(&["reseal", "-f", file]);
        assert!(!said.err.contains("canary") && !said.out.contains("canary"), "{}{}", said.out, said.err);
    }
    std::fs::write(&path, CANARY).unwrap();
    silent(&run(&["seal", "--key-document", file, "--binding", "b", "--secret", "s"], "value"), 1, &[file]);
    silent(&server.run(&["import-keys", "--file", file, "--root", file]), 1, &["is not an export"]);
}

#[test]
fn a_secret_in_the_wrong_place_of_a_kubeconfig_is_never_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    let file = path.to_str().unwrap();
    let binding = manifest("bindings.yaml");
    for text in [
        format!("apiVersion: v1\nkind: Config\nusers:\n- name: u\n  user: {CANARY}\n"),
        format!("apiVersion: v1\nkind: Config\nusers: {{token: {CANARY}\n"),
    ] {
        std::fs::write(&path, text).unwrap();
        for arguments in [
            &["explain", "pod/x"][..],
            &["rotate", "x"],
            &["refresh", "pod/x"],
            &["reseal", "-f", &binding],
            &["inject", "-f", &manifest("pod.yaml"), "--from-cluster"],
            &["seal", "--key", "a/b", "--binding", "b", "--secret", "s"],
            &["export-keys", "--provider", "p", "--root", "r", "--output", "/nonexistent/o"],
        ] {
            silent(&run(&[arguments, &["--kubeconfig", file]].concat(), "value"), 3, &["kubeconfig", "line"]);
        }
    }
}

#[test]
fn a_secret_in_the_wrong_place_of_an_object_of_the_cluster_is_never_quoted() {
    for (object, _) in misshapen() {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let pod = if kind == "Pod" { object.clone() } else { json!({"metadata": {"name": "x"}, "spec": {"containers": []}}) };
        let all = |wanted: &str| if kind == wanted { list(std::slice::from_ref(&object)) } else { list(&[]) };
        let namespace = if kind == "Namespace" { object.clone() } else { json!({"metadata": {"name": "vision"}}) };
        let server = Server::of(vec![
            ("/api/v1/namespaces/vision/pods/x", pod),
            ("/apis/kustody.dev/v1alpha1/namespaces/vision/secretbindings", all("SecretBinding")),
            ("/api/v1/nodes", all("Node")),
            ("/api/v1/namespaces/vision", namespace),
            ("/api/v1/namespaces/vision/resourcequotas", all("ResourceQuota")),
            ("/api/v1/namespaces/vision/limitranges", all("LimitRange")),
            ("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", list(&[])),
            ("/apis/kustody.dev/v1alpha1/namespaces/vision/encryptionkeys/k", json!({"metadata": {"name": "k"}, "spec": CANARY})),
            (
                "/api/v1/namespaces/kustody-system/secrets",
                list(&[json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "k"}, "data": CANARY})]),
            ),
        ]);
        for (arguments, unless) in [
            (&["explain", "pod/x"][..], &["ResourceQuota", "LimitRange"][..]),
            (&["inject", "-f", &manifest("pod.yaml"), "--from-cluster"], &["Pod"]),
            (&["seal", "--key", "vision/k", "--binding", "b", "--secret", "s"], &[]),
            (&["export-keys", "--provider", "p", "--root", "/nonexistent/r", "--output", "/nonexistent/o"], &[]),
        ] {
            if !unless.contains(&kind.as_str()) {
                silent(&server.run(arguments), 3, &[]);
            }
        }
    }
}
