//! What is asked, once for each object, and what is answered when the answer is no or does not come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use k8s_openapi::api::authentication::v1::UserInfo;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::ask::{Reviewer, spec};
use super::question::{Named, Question, What};
use super::{Gate, REVIEWS};
use crate::runtime::intake::Intake;
use crate::runtime::metrics::Metrics;

/// Says yes to some names and writes down what it was asked; the silent one never answers.
struct Rules {
    allowed: &'static [&'static str],
    asked: Mutex<Vec<String>>,
    silent: bool,
}

#[async_trait]
impl Reviewer for Rules {
    async fn may_use(&self, user: &UserInfo, named: &Named) -> Result<bool, kube::Error> {
        let attributes = spec(user, named).resource_attributes.unwrap();
        let place = attributes.namespace.unwrap_or_default();
        let asked = format!("{} {} {place}/{}", attributes.verb.unwrap(), attributes.resource.unwrap(), attributes.name.unwrap());
        self.asked.lock().unwrap().push(asked);
        if self.silent {
            std::future::pending::<()>().await;
        }
        Ok(self.allowed.contains(&named.name.as_str()))
    }
}

fn rules(allowed: &'static [&'static str], silent: bool) -> Arc<Rules> {
    Arc::new(Rules { allowed, asked: Mutex::default(), silent })
}

fn review(kind: &str, spec: &Value, before: Option<&Value>) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "kind": {"group": "kustody.dev", "version": "v1alpha1", "kind": kind},
            "namespace": "vision", "name": "it", "operation": if before.is_some() { "UPDATE" } else { "CREATE" },
            "userInfo": {"username": "alice", "uid": "7", "groups": ["ml"], "extra": {"scopes": ["a"]}},
            "object": {"metadata": {"name": "it", "labels": {"new": "label"}}, "spec": spec, "status": {"new": 1}},
            "oldObject": before.map(|spec| json!({"metadata": {"name": "it"}, "spec": spec})),
        },
    })
}

async fn answer(rules: &Arc<Rules>, review: &Value) -> Value {
    let gate = Gate { patience: Duration::from_millis(50), ..Gate::new(Arc::<Rules>::clone(rules), &Metrics::default()) };
    let response = gate.router().oneshot(Request::post("/gates").body(Body::from(review.to_string())).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    serde_json::from_slice::<Value>(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap()["response"].clone()
}

fn key_spec() -> Value {
    json!({"providerRef": {"name": "local"}, "grants": []})
}

fn binding_spec() -> Value {
    let sealed = |name: &str, key: &str| json!({"name": name, "sealed": {"key": key, "value": "AgEB"}});
    json!({"secrets": [sealed("db", "team-key"), sealed("hf", "team-key"), sealed("s3", "other")], "deliver": {}})
}

#[tokio::test]
async fn each_object_that_a_spec_names_is_asked_about_once() {
    let rules = rules(&["local", "team-key", "other"], false);
    assert_eq!(answer(&rules, &review("EncryptionKey", &key_spec(), None)).await, json!({"uid": "u-1", "allowed": true}));
    assert_eq!(answer(&rules, &review("SecretBinding", &binding_spec(), None)).await, json!({"uid": "u-1", "allowed": true}));
    let asked = ["use keyproviders /local", "use encryptionkeys vision/team-key", "use encryptionkeys vision/other"];
    assert_eq!(*rules.asked.lock().unwrap(), asked);
}

#[tokio::test]
async fn a_spec_that_stays_what_it_was_asks_nobody() {
    let rules = rules(&[], false);
    let reordered: Value = serde_json::from_str(r#"{"grants": [], "providerRef": {"name": "local"}}"#).unwrap();
    for before in [key_spec(), reordered] {
        assert_eq!(answer(&rules, &review("EncryptionKey", &key_spec(), Some(&before))).await["allowed"], true);
    }
    assert!(rules.asked.lock().unwrap().is_empty());
    let before = json!({"providerRef": {"name": "local"}});
    assert_eq!(answer(&rules, &review("EncryptionKey", &key_spec(), Some(&before))).await["allowed"], false, "a grant more is a change");
}

#[tokio::test]
async fn a_refusal_names_object_field_verb_and_the_rule_to_add() {
    let denied = answer(&rules(&["other"], false), &review("SecretBinding", &binding_spec(), None)).await;
    let message = "Kustody: SecretBinding vision/it: spec.secrets[db].sealed.key: user \"alice\" lacks the verb `use` on EncryptionKey \
                   team-key; bind the user to a Role in namespace vision with the rule {apiGroups: [kustody.dev], resources: \
                   [encryptionkeys], resourceNames: [team-key], verbs: [use]}";
    assert_eq!(denied["status"], json!({"code": 403, "reason": "Forbidden", "message": message}));
    let denied = answer(&rules(&[], false), &review("EncryptionKey", &key_spec(), None)).await;
    let message = denied["status"]["message"].as_str().unwrap();
    for part in [
        "spec.providerRef.name",
        "KeyProvider local",
        "a ClusterRole, by a ClusterRoleBinding,",
        "resources: [keyproviders]",
        "resourceNames: [local]",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[tokio::test]
async fn an_api_server_that_does_not_say_is_a_no_that_says_so() {
    let denied = answer(&rules(&[], true), &review("EncryptionKey", &key_spec(), None)).await;
    assert_eq!((&denied["allowed"], &denied["status"]["code"]), (&json!(false), &json!(503)));
    let message = denied["status"]["message"].as_str().unwrap();
    assert!(message.contains("EncryptionKey vision/it") && message.contains("spec.providerRef.name: KeyProvider local"), "{message}");
    assert!(message.contains("apply it again"), "{message}");
}

#[test]
fn the_review_speaks_of_the_user_with_all_that_authorizers_look_at() {
    let question = Question::read(review("EncryptionKey", &key_spec(), None).to_string().as_bytes()).unwrap();
    let asked = spec(&question.user, &question.named[0]);
    assert_eq!((asked.user.as_deref(), asked.uid.as_deref()), (Some("alice"), Some("7")));
    assert_eq!(asked.groups, Some(vec!["ml".to_owned()]));
    assert_eq!(asked.extra, Some(BTreeMap::from([("scopes".to_owned(), vec!["a".to_owned()])])));
    assert_eq!(question.named[0].what, What::Provider);
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_as_a_failed_call() {
    let gate = Gate::new(rules(&[], false), &Metrics::default());
    for body in ["", "{}", r#"{"apiVersion": "admission.k8s.io/v1", "request": {"uid": 1}}"#] {
        let response = gate.clone().router().oneshot(Request::post("/gates").body(Body::from(body)).unwrap()).await.unwrap();
        assert_eq!(response.status(), 400);
        let said = String::from_utf8(to_bytes(response.into_body(), 1000).await.unwrap().to_vec()).unwrap();
        assert!(said.starts_with("the admission review cannot be read: ") && said.contains("between the API server and"), "{said}");
    }
}

#[tokio::test]
async fn a_review_of_another_version_is_refused_with_the_versions() {
    let mut other = review("EncryptionKey", &key_spec(), None);
    other["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let gate = Gate::new(rules(&["local"], false), &Metrics::default());
    let response = gate.router().oneshot(Request::post("/gates").body(Body::from(other.to_string())).unwrap()).await.unwrap();
    assert_eq!(response.status(), 400);
    let said = String::from_utf8(to_bytes(response.into_body(), 1000).await.unwrap().to_vec()).unwrap();
    assert!(said.contains("\"admission.k8s.io/v1beta1\"") && said.contains("only admission.k8s.io/v1 is"), "{said}");
}

fn many(count: usize, key: impl Fn(usize) -> String) -> Value {
    let secrets: Vec<_> = (0..count).map(|i| json!({"name": format!("s{i}"), "sealed": {"key": key(i)}})).collect();
    review("SecretBinding", &json!({"secrets": secrets}), None)
}

#[tokio::test]
async fn more_secrets_than_a_binding_may_have_are_refused_and_nobody_is_asked() {
    let rules = rules(&["k"], false);
    assert_eq!(answer(&rules, &many(64, |_| "k".to_owned())).await["allowed"], true);
    assert_eq!(rules.asked.lock().unwrap().len(), 1, "one key, one question");
    let denied = answer(&rules, &many(65, |_| "k".to_owned())).await;
    let message = denied["status"]["message"].as_str().unwrap();
    assert_eq!((&denied["allowed"], &denied["status"]["code"]), (&json!(false), &json!(422)));
    assert!(message.contains("SecretBinding vision/it: spec.secrets has 65 entries, and at most 64"), "{message}");
    assert_eq!(rules.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn reviews_of_all_objects_together_are_bounded_and_their_places_are_kept_until_the_decision() {
    let rules = rules(&[], true);
    let reviewer: Arc<Rules> = Arc::clone(&rules);
    let gate = Gate { patience: Duration::from_mins(1), intake: Intake::new(1 << 20, 1 << 20), ..Gate::new(reviewer, &Metrics::default()) };
    let ask = || {
        let body = Body::from(many(8, |i| format!("k{i}")).to_string());
        Box::pin(gate.clone().router().oneshot(Request::post("/gates").body(body).unwrap()))
    };
    let mut asking: Vec<_> = (0..16).map(|_| ask()).collect();
    for answering in &mut asking {
        assert!(futures::poll!(answering).is_pending());
    }
    assert_eq!(rules.asked.lock().unwrap().len(), REVIEWS);
    assert_eq!(ask().await.unwrap().status(), 503, "sixteen questions hold all the room that there is");
    drop(asking);
}
