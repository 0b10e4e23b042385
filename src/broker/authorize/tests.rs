//! Tests of what of a plan is given, as tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use kustody_api::policy::Home;
use kustody_core::sealing::{Header, KeyDocument, generate};
use serde_json::{Value, json};

use super::{Decision, Facts, decide};
use crate::broker::tests::world::{as_plan, binding, encryption_key, object, plan};

/// The objects of one namespace, as JSON, so that a case changes one field.
struct Objects {
    binding: Value,
    key: Value,
    provider: Value,
}

impl Objects {
    fn new() -> Self {
        let (_, public_key) = generate().unwrap();
        let header = Header {
            provider_key_id: "vision/team-key/1".to_owned(),
            version: 1,
            public_key_sha256: public_key.sha256(),
            wrapped_seed: vec![1; 60],
        };
        let document = KeyDocument { header, namespace: "vision".to_owned(), key: "team-key".to_owned(), public_key };
        let access = json!([{"namespaces": {"matchLabels": {"team": "vision"}}, "createKeys": true}]);
        Self {
            binding: binding(&document),
            key: encryption_key(&document),
            provider: json!({
                "apiVersion": "kustody.dev/v1alpha1", "kind": "KeyProvider", "metadata": {"name": "main", "uid": "main-uid"},
                "spec": {"local": {}, "access": access},
            }),
        }
    }

    fn decide(&self, plan: &Value, account: &str) -> Decision {
        let named = |value: &Value, name: &str| value["metadata"]["name"] == name;
        let labels = BTreeMap::from([("team".to_owned(), "vision".to_owned())]);
        let facts = Facts {
            home: Home { name: "vision", labels: &labels },
            binding: &|name| named(&self.binding, name).then(|| Arc::new(object(self.binding.clone()))),
            key: &|name| named(&self.key, name).then(|| Arc::new(object(self.key.clone()))),
            provider: &|name| named(&self.provider, name).then(|| Arc::new(object(self.provider.clone()))),
        };
        decide(&as_plan(plan), account, facts)
    }
}

fn allowed(decision: &Decision) -> Vec<(&str, Vec<Option<&str>>)> {
    let each = decision.allowed.iter();
    each.map(|allowed| (allowed.secret.as_str(), allowed.properties.iter().map(Option::as_deref).collect())).collect()
}

#[test]
fn everything_of_the_plan_that_is_allowed_is_opened_once() {
    let decision = Objects::new().decide(&plan(), "trainer");
    assert_eq!(decision.withdrawn, []);
    assert_eq!(allowed(&decision), [("db", vec![Some("password")]), ("token", vec![None])]);
}

#[test]
fn a_plan_narrows_and_never_widens() {
    let mut narrow = plan();
    narrow["bindings"][0]["files"].as_array_mut().unwrap().truncate(1);
    narrow["bindings"][0]["env"] = json!([]);
    assert_eq!(allowed(&Objects::new().decide(&narrow, "trainer")), [("db", vec![Some("password")])]);

    let mut wide = plan();
    let more = json!([
        {"path": "all", "secret": "db", "mode": 256}, {"path": "user", "secret": "db", "property": "user", "mode": 256},
        {"path": "x", "secret": "none", "mode": 256},
    ]);
    wide["bindings"][0]["files"] = more;
    let decision = Objects::new().decide(&wide, "trainer");
    assert_eq!(allowed(&decision), [("token", vec![None])]);
    let items: Vec<&str> = decision.withdrawn.iter().map(|withdrawn| withdrawn.item.as_str()).collect();
    assert_eq!(items, ["db", "db", "none"]);
    assert!(decision.withdrawn[1].reason.contains("does not deliver db (property user) any more"), "{:?}", decision.withdrawn);
}

#[test]
fn each_gate_alone_withdraws_and_says_what_to_do() {
    type Change = fn(&mut Objects);
    let cases: [(Change, &str, &str); 13] = [
        (
            |objects| objects.binding["metadata"]["name"] = json!("gone"),
            "",
            "SecretBinding vision/train does not exist any more; restore it",
        ),
        (|objects| objects.binding["metadata"]["uid"] = json!("new"), "", "was deleted and made anew"),
        (|objects| objects.binding["spec"]["workloads"]["serviceAccounts"] = json!(["other"]), "", "does not name trainer"),
        (|objects| objects.binding["spec"]["secrets"][0]["sealed"] = Value::Null, "db", "only sealed values are available"),
        (|objects| objects.binding["spec"]["secrets"][0]["sealed"]["value"] = json!("AAAA"), "db", "cannot be read"),
        (
            |objects| objects.key["metadata"]["name"] = json!("gone"),
            "db",
            "EncryptionKey team-key does not exist in namespace vision; restore it",
        ),
        (|objects| objects.key["spec"]["grants"] = json!([]), "db", "no grant with operation Open for service account trainer"),
        (|objects| objects.key["status"]["state"] = json!("Disabled"), "db", "its key is Disabled"),
        (|objects| objects.key["status"]["sealingKeys"] = json!([]), "db", "does not list the sealing key"),
        (|objects| objects.key["status"]["keyId"] = json!("vision/team-key/2"), "db", "holds vision/team-key/2"),
        (
            |objects| objects.provider["metadata"]["name"] = json!("gone"),
            "db",
            "spec.providerRef: KeyProvider main does not exist; restore it",
        ),
        (|objects| objects.provider["metadata"]["uid"] = json!("new"), "db", "another KeyProvider of the name main"),
        (|objects| objects.provider["spec"]["access"] = json!([]), "db", "no line of spec.access selects namespace vision"),
    ];
    for (change, item, cause) in cases {
        let mut objects = Objects::new();
        change(&mut objects);
        let decision = objects.decide(&plan(), "trainer");
        let found = decision.withdrawn.iter().find(|withdrawn| withdrawn.item == item && withdrawn.reason.contains(cause));
        assert!(found.is_some_and(|found| found.binding == "train"), "{cause}: {:?}", decision.withdrawn);
        assert!(decision.allowed.iter().all(|allowed| allowed.secret != "db"), "{cause}");
    }
}

#[test]
fn a_binding_that_was_edited_since_admission_gives_what_plan_and_binding_both_say_and_names_the_rest() {
    type Edit = fn(&mut Value);
    let gone = "; restore it, or recreate the pod";
    let cases: [(Edit, String); 5] = [
        (
            |spec| spec["deliver"]["files"][0]["property"] = json!("user"),
            format!("spec.deliver does not deliver db (property password) any more{gone}"),
        ),
        (|spec| spec["deliver"]["files"] = json!([]), format!("spec.deliver does not deliver db (property password) any more{gone}")),
        (|spec| spec["secrets"][0]["name"] = json!("renamed"), "spec.secrets[db] does not exist any more; restore it".to_owned()),
        (
            |spec| spec["secrets"][0]["sealed"]["key"] = json!("other"),
            "spec.secrets[db].sealed.key: EncryptionKey other does not exist in namespace vision; restore it".to_owned(),
        ),
        (
            |spec| spec["workloads"]["serviceAccounts"] = json!(["other"]),
            "spec.workloads.serviceAccounts does not name trainer; add it, or use another service account".to_owned(),
        ),
    ];
    for (edit, said) in cases {
        let mut objects = Objects::new();
        edit(&mut objects.binding["spec"]);
        let decision = objects.decide(&plan(), "trainer");
        let reasons: Vec<&str> = decision.withdrawn.iter().map(|withdrawn| withdrawn.reason.as_str()).collect();
        assert!(reasons.contains(&format!("SecretBinding vision/train: {said}").as_str()), "{said}: {reasons:?}");
        assert!(decision.allowed.iter().all(|allowed| allowed.secret == "token"), "{said}");
    }
    let mut more = Objects::new();
    let file = json!({"secret": "db", "property": "user", "path": "user"});
    more.binding["spec"]["deliver"]["files"].as_array_mut().unwrap().push(file);
    assert_eq!(allowed(&more.decide(&plan(), "trainer")), [("db", vec![Some("password")]), ("token", vec![None])], "what was pinned");
}

#[test]
fn another_service_account_of_the_namespace_gets_nothing() {
    let mut objects = Objects::new();
    assert!(objects.decide(&plan(), "default").allowed.is_empty());
    // Named by the binding, and still without a grant of the key.
    objects.binding["spec"]["workloads"]["serviceAccounts"] = json!(["default"]);
    assert!(objects.decide(&plan(), "default").allowed.is_empty());
}

#[test]
fn a_variable_that_changes_how_programs_load_is_withdrawn_unless_a_line_names_it() {
    let mut objects = Objects::new();
    objects.binding["spec"]["deliver"]["env"] = json!([{"name": "ld_preload", "secret": "token"}]);
    let mut asked = plan();
    asked["bindings"][0]["files"] = json!([]);
    asked["bindings"][0]["env"] = json!([{"name": "ld_preload", "secret": "token"}]);
    let decision = objects.decide(&asked, "trainer");
    assert!(decision.allowed.is_empty());
    assert!(decision.withdrawn[0].reason.contains("spec.deliver.env[ld_preload]"), "{:?}", decision.withdrawn);
    objects.provider["spec"]["access"][0]["allowVariables"] = json!(["LD_PRELOAD"]);
    assert_eq!(allowed(&objects.decide(&asked, "trainer")), [("token", vec![None])]);
}

#[test]
fn a_pod_that_lost_a_label_keeps_what_it_was_promised() {
    let mut objects = Objects::new();
    objects.binding["spec"]["workloads"]["podSelector"] = json!({"matchLabels": {"never": "there"}});
    assert_eq!(objects.decide(&plan(), "trainer").allowed.len(), 2);
}
