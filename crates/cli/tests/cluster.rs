//! `rotate`, `refresh` and `explain` against an API server: what is asked, what is written, what is said.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::sync::Mutex;

use common::{Request, Server, failure, list};
use serde_json::{Value, json};

const KEY: &str = "/apis/kustody.dev/v1alpha1/namespaces/vision/encryptionkeys/team-key";
const BINDING: &str = "/apis/kustody.dev/v1alpha1/namespaces/vision/secretbindings/trainer";

/// A server of one key that merges rotation requests and serves them after `looks` more looks.
fn rotating(looks: u32) -> Server {
    let state = Mutex::new((
        json!({"metadata": {"name": "team-key"}, "spec": {"rotation": {"request": "old"}},
        "status": {"rotation": {"lastRequest": "older"}, "conditions": [{"type": "Ready", "status": "False", "reason": "KeyNotFound", "message": "restore it"}]}}),
        looks,
    ));
    Server::new(Box::new(move |(method, path, body): &Request| {
        assert_eq!(path.split('?').next(), Some(KEY));
        let (key, left) = &mut *state.lock().unwrap();
        if method == "PATCH" {
            key["spec"]["rotation"]["request"] = body["spec"]["rotation"]["request"].clone();
        } else if key["spec"]["rotation"]["request"] != "old" {
            *left = left.saturating_sub(1);
            if *left == 0 {
                key["status"]["rotation"] =
                    json!({"lastRequest": key["spec"]["rotation"]["request"], "lastRotation": "2026-01-01T00:00:00Z"});
            }
        }
        (200, key.clone())
    }))
}

#[test]
fn rotate_writes_a_fresh_token_and_nothing_else_and_says_what_to_watch() {
    let server = rotating(1);
    let said = server.run(&["rotate", "team-key"]);
    assert!(said.err.contains("request old was not served yet"), "{}", said.err);
    let out = said.good();
    let requests = server.requests();
    let patches: Vec<_> = requests.iter().filter(|(method, _, _)| method == "PATCH").collect();
    let [(_, path, body)] = patches[..] else { unreachable!("{requests:?}") };
    assert!(path.contains("fieldManager=kubectl-kustody"), "{path}");
    let token = body["spec"]["rotation"]["request"].as_str().unwrap();
    assert_eq!(*body, json!({"spec": {"rotation": {"request": token}}}));
    assert!(out.contains(token) && out.contains("kubectl -n vision wait encryptionkey/team-key --for=jsonpath="), "{out}");
    server.run(&["rotate", "vision/team-key"]).good();
    let again = server.requests();
    let (_, _, body) = again.iter().find(|(method, _, _)| method == "PATCH").unwrap();
    assert_ne!(body["spec"]["rotation"]["request"], token, "each request has a token of its own");
}

#[test]
fn rotate_stops_waiting_once_another_request_takes_its_place() {
    let server = Server::new(Box::new(|_: &Request| {
        (
            200,
            json!({"metadata": {"name": "team-key"}, "spec": {"rotation": {"request": "theirs"}}, "status": {"rotation": {"lastRequest": "old"}}}),
        )
    }));
    let said = server.run(&["rotate", "team-key", "--wait", "--timeout", "1h"]).refused(3);
    assert!(said.contains("is theirs by now") && said.contains("lastRequest}'=theirs"), "{said}");
}

#[test]
fn rotate_waits_until_the_status_repeats_the_token() {
    let said: Value = serde_json::from_str(&rotating(2).run(&["rotate", "team-key", "--wait", "-o", "json"]).good()).unwrap();
    assert_eq!(said["rotated"], true);
    assert_eq!(said["status"]["lastRequest"], said["request"]);
    let late = rotating(100).run(&["rotate", "team-key", "--wait", "--timeout", "1s"]).refused(3);
    for part in [
        "EncryptionKey vision/team-key was not rotated within 1 s",
        "stands",
        "Ready is False (KeyNotFound): restore it",
        "kubectl -n vision wait",
    ] {
        assert!(late.contains(part), "{part:?} in {late}");
    }
}

#[test]
fn what_the_cluster_refuses_is_said_in_its_own_words() {
    let server = Server::new(Box::new(|(method, path, _)| {
        if path.contains("absent") {
            failure(404, "not found")
        } else if method == "PATCH" {
            failure(422, "spec.rotation: rotation is not available in this release; remove spec.rotation")
        } else {
            (200, json!({}))
        }
    }));
    let refusal = server.run(&["rotate", "team-key"]).refused(3);
    assert!(refusal.contains("refuses to patch EncryptionKey vision/team-key: spec.rotation: rotation is not available"), "{refusal}");
    let absent = server.run(&["rotate", "absent"]).refused(3);
    assert!(absent.contains("EncryptionKey vision/absent does not exist"), "{absent}");
    let forbidden = Server::new(Box::new(|_| {
        failure(
            403,
            "secretbindings.kustody.dev \"trainer\" is forbidden: User \"eve\" cannot patch resource \"secretbindings\" in API group",
        )
    }));
    let right = forbidden.run(&["refresh", "trainer"]).refused(3);
    assert!(right.contains("you may not patch SecretBinding vision/trainer: it takes the verb patch on secretbindings"), "{right}");
}

#[test]
fn refresh_writes_a_fresh_token_into_the_annotation_and_nothing_else() {
    let server = Server::of(vec![(BINDING, json!({}))]);
    let mut tokens = Vec::new();
    for name in ["trainer", "vision/trainer"] {
        let out = server.run(&["refresh", name]).good();
        let requests = server.requests();
        let [(method, _, body)] = &requests[..] else { unreachable!("{requests:?}") };
        assert_eq!(method, "PATCH");
        let token = body["metadata"]["annotations"]["kustody.dev/refresh-requested"].as_str().unwrap();
        assert_eq!(*body, json!({"metadata": {"annotations": {"kustody.dev/refresh-requested": token}}}));
        assert!(out.contains(token) && out.contains("kubectl -n vision describe secretbinding trainer"), "{out}");
        tokens.push(token.to_owned());
    }
    assert_ne!(tokens[0], tokens[1]);
}

#[test]
fn requests_are_told_as_json_and_yaml() {
    for (command, name, kind) in [("rotate", "team-key", "EncryptionKey"), ("refresh", "trainer", "SecretBinding")] {
        let server = Server::new(Box::new(|_: &Request| (200, json!({}))));
        let json: Value = serde_json::from_str(&server.run(&[command, name, "-o", "json"]).good()).unwrap();
        let yaml: Value = serde_saphyr::from_str(&server.run(&[command, name, "-o", "yaml"]).good()).unwrap();
        for told in [json, yaml] {
            assert_eq!((&told["kind"], &told["namespace"], &told["name"]), (&kind.into(), &"vision".into(), &name.into()), "{told}");
            assert!(told["request"].is_string(), "{told}");
        }
    }
}

#[test]
fn two_namespaces_are_one_too_many() {
    let server = Server::of(vec![]);
    for command in ["rotate", "refresh"] {
        let refusal = server.run(&[command, "vision/x", "-n", "other"]).refused(2);
        assert!(refusal.contains("two namespaces"), "{refusal}");
    }
    assert!(server.requests().is_empty());
}

fn binding(name: &str, account: &str) -> Value {
    json!({"apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding",
        "metadata": {"name": name, "namespace": "vision", "uid": format!("u-{name}"), "generation": 1},
        "spec": {"workloads": {"serviceAccounts": [account]}, "secrets": [{"name": "hf", "sealed": {"key": "team-key", "value": "AgEBsealed"}}],
            "deliver": {"files": [{"secret": "hf", "path": "hf"}]}},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Available", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}], "secrets": [{"name": "hf", "resolved": true, "reason": "Available"}]}})
}

/// A namespace with a pod that was injected, one that was not, and a Job whose pods are denied.
fn cluster() -> Server {
    let plan = json!({"version": 1, "bindings": [{"name": "trainer", "uid": "u-trainer", "files": [{"path": "hf", "secret": "hf", "mode": 292}]}]});
    let injected = json!({"metadata": {"name": "train", "namespace": "vision", "labels": {"kustody.dev/inject": "true"},
            "annotations": {"kustody.dev/injected": "{}"}},
        "spec": {"serviceAccountName": "trainer", "containers": [{"name": "main"}],
            "initContainers": [{"name": "kustody-agent", "env": [{"name": "KUSTODY_PLAN", "value": plan.to_string()}]}]},
        "status": {"initContainerStatuses": [{"name": "kustody-agent", "state": {"terminated": {"exitCode": 0}}}]}});
    let slipped = json!({"metadata": {"name": "slipped", "namespace": "vision", "labels": {"kustody.dev/inject": "true"}},
        "spec": {"serviceAccountName": "trainer", "containers": [{"name": "main"}]}});
    let quiet = json!({"metadata": {"name": "quiet", "namespace": "vision"},
        "spec": {"serviceAccountName": "trainer", "containers": [{"name": "main"}]}});
    let job = json!({"metadata": {"name": "stranger", "namespace": "vision"}, "spec": {"template": {
        "metadata": {"labels": {"kustody.dev/inject": "true"}}, "spec": {"containers": [{"name": "main"}]}}}});
    Server::of(vec![
        ("/api/v1/namespaces/vision/pods/train", injected),
        ("/api/v1/namespaces/vision/pods/slipped", slipped),
        ("/api/v1/namespaces/vision/pods/quiet", quiet),
        ("/apis/batch/v1/namespaces/vision/jobs/stranger", job),
        ("/apis/kustody.dev/v1alpha1/namespaces/vision/secretbindings", list(&[binding("trainer", "trainer"), binding("other", "server")])),
        ("/api/v1/namespaces/vision", json!({"metadata": {"name": "vision"}})),
        ("/api/v1/nodes", list(&[])),
    ])
}

#[test]
fn an_injected_pod_is_explained_by_binding_and_secret() {
    let cluster = cluster();
    let text = cluster.run(&["explain", "pod/train"]).good();
    for part in [
        "Pod vision/train\n",
        "identity  system:serviceaccount:vision:trainer",
        "asks      for every SecretBinding that fits, by the pod's label kustody.dev/inject",
        "outcome   injected: it was admitted with a plan of SecretBinding trainer",
        "agent     delivered",
        "SecretBinding trainer serves main",
        "file      /var/run/secrets/kustody.dev/trainer/hf (0444) from secret hf",
        "secret    hf, sealed for EncryptionKey team-key: given",
        "SecretBinding other does not serve it: its workloads.serviceAccounts do not name service account trainer",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains("AgEBsealed"));
    assert!(cluster.requests().iter().all(|(method, _, _)| method == "GET"), "nothing is written");
    let json: Value = serde_json::from_str(&cluster.run(&["explain", "pod/train", "-o", "json"]).good()).unwrap();
    assert_eq!((&json["outcome"], &json["agent"]["state"]), (&json!("injected"), &json!("delivered")));
    let trainer = json["bindings"].as_array().unwrap().iter().find(|part| part["binding"] == "trainer").unwrap();
    assert_eq!((&trainer["serves"], &trainer["secrets"][0]["given"]), (&json!(true), &json!(true)));
    let yaml: Value = serde_saphyr::from_str(&cluster.run(&["explain", "pod/train", "-o", "yaml"]).good()).unwrap();
    assert_eq!(yaml, json);
}

#[test]
fn pods_that_were_given_nothing_are_told_apart() {
    let cluster = cluster();
    let outcome = |target: &str| {
        let json: Value = serde_json::from_str(&cluster.run(&["explain", target, "-o", "json"]).good()).unwrap();
        (json["outcome"].as_str().unwrap().to_owned(), json["because"].as_str().unwrap().to_owned())
    };
    let (missed, why) = outcome("pod/slipped");
    assert!(missed == "missed" && why.contains("SecretBinding trainer would serve it now"), "{missed}: {why}");
    let (quiet, why) = outcome("pod/quiet");
    assert!(quiet == "leftAlone" && why.contains("neither the pod nor its namespace asks"), "{quiet}: {why}");
    let (denied, why) = outcome("job/stranger");
    assert!(
        denied == "wouldBeDenied" && why.contains("no SecretBinding of namespace vision fits it (service account default)"),
        "{denied}: {why}"
    );
}

#[test]
fn a_pod_that_never_came_to_be_leads_to_what_makes_it() {
    let refusal = cluster().run(&["explain", "pod/never"]).refused(3);
    assert!(
        refusal.contains("Pod vision/never does not exist: a pod that was denied never does")
            && refusal.contains("explain job/NAME -n vision"),
        "{refusal}"
    );
    let bare = cluster().run(&["explain", "never"]).refused(2);
    assert!(bare.contains("pod/never"), "{bare}");
}
