//! The gate at write time: the verb `use` on what an object names.

use serde_json::{Value, json};

use crate::harness::canary::canary;
use crate::harness::home::Home;
use crate::harness::{Said, apply, eventually, get, kubectl, objects, run};

/// A person who may write keys and bindings in the namespace, and nothing else.
struct Person<'a> {
    home: &'a Home,
    name: String,
}

impl<'a> Person<'a> {
    fn new(home: &'a Home) -> Self {
        // On a cluster that is just being installed the gate may still be opening.
        eventually("the gate to have its bundle", || {
            let gate = get(&["validatingwebhookconfiguration", "kustody-gates"]);
            if gate["webhooks"][0]["clientConfig"]["caBundle"].is_string() { Ok(()) } else { Err(gate.to_string()) }
        });
        let person = Self { home, name: format!("alice-{}", home.name) };
        let all = json!(["get", "list", "watch", "create", "update", "patch", "delete"]);
        let rule = json!({"apiGroups": ["kustody.dev"], "resources": ["encryptionkeys", "secretbindings"], "verbs": all});
        apply(&person.role("Role", "writer", &rule)).good();
        person
    }

    /// A role with this rule, bound to the person.
    fn role(&self, kind: &str, name: &str, rule: &Value) -> Value {
        let api = "rbac.authorization.k8s.io";
        let name = format!("{name}-{}", self.home.name);
        let mut metadata = json!({"name": name});
        if kind == "Role" {
            metadata["namespace"] = json!(self.home.name);
        }
        json!([
            {"apiVersion": format!("{api}/v1"), "kind": kind, "metadata": metadata, "rules": [rule]},
            {"apiVersion": format!("{api}/v1"), "kind": format!("{kind}Binding"), "metadata": metadata,
             "roleRef": {"apiGroup": api, "kind": kind, "name": name},
             "subjects": [{"kind": "User", "apiGroup": api, "name": self.name}]},
        ])
    }

    /// Gives the verb `use` on one object; the API server may take a moment to know it.
    fn may_use(&self, kind: &str, resource: &str, name: &str) {
        let rule = json!({"apiGroups": ["kustody.dev"], "resources": [resource], "resourceNames": [name], "verbs": ["use"]});
        apply(&self.role(kind, &format!("use-{name}"), &rule)).good();
        let object = format!("{resource}.kustody.dev/{name}");
        eventually("the right to be in force", || {
            let said = self.home.kubectl(&["auth", "can-i", "use", &object, "--as", &self.name]);
            if said.out.trim() == "yes" { Ok(()) } else { Err(said.out) }
        });
    }

    fn apply(&self, object: &Value) -> Said {
        run("kubectl", &["apply", "--as", &self.name, "-f", "-"], object.to_string().as_bytes())
    }
}

impl Drop for Person<'_> {
    fn drop(&mut self) {
        let name = format!("use-local-{}", self.home.name);
        let _ = kubectl(&["delete", "clusterrole,clusterrolebinding", &name, "--ignore-not-found", "--wait=false"]);
    }
}

#[test]
fn a_key_is_written_only_by_whoever_may_use_its_provider() {
    let home = Home::new("gatekey");
    let person = Person::new(&home);
    let key = objects::key(&home.name, "team-key");
    let refusal = person.apply(&key).refused();
    let rule = "{apiGroups: [kustody.dev], resources: [keyproviders], resourceNames: [local], verbs: [use]}";
    for part in [
        &format!("EncryptionKey {}/team-key", home.name),
        "spec.providerRef.name",
        &person.name,
        "KeyProvider local",
        "`use`",
        "by a ClusterRoleBinding",
        rule,
    ] {
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
    // The remedy that the message names is one.
    person.may_use("ClusterRole", "keyproviders", "local");
    person.apply(&key).good();
    home.ready("encryptionkey", "team-key");
}

#[test]
fn a_binding_is_written_only_by_whoever_may_use_its_keys() {
    let home = Home::new("gatebind");
    home.key();
    let person = Person::new(&home);
    let binding = objects::binding(&home.name, "trainer", &home.seal("trainer", "token", &canary()));
    let refusal = person.apply(&binding).refused();
    let rule = "{apiGroups: [kustody.dev], resources: [encryptionkeys], resourceNames: [team-key], verbs: [use]}";
    let place = format!("a Role in namespace {}", home.name);
    for part in [&format!("SecretBinding {}/trainer", home.name), "spec.secrets[token].sealed.key", "EncryptionKey team-key", &place, rule]
    {
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
    person.may_use("Role", "encryptionkeys", "team-key");
    person.apply(&binding).good();
    home.ready("secretbinding", "trainer");
}

#[test]
fn whoever_may_not_use_it_may_label_and_delete_an_object_and_the_operator_may_write_its_status() {
    let home = Home::new("gatemeta");
    home.key();
    home.binding(&canary());
    let person = Person::new(&home);
    let as_person = |arguments: &[&str]| {
        let all: Vec<&str> = arguments.iter().copied().chain(["--as", &person.name]).collect();
        home.kubectl(&all)
    };
    as_person(&["label", "secretbinding", "trainer", "team=vision"]).good();
    let change = json!({"spec": {"workloads": {"podSelector": {"matchLabels": {"app": "finetune"}}}}}).to_string();
    let refusal = as_person(&["patch", "secretbinding", "trainer", "--type=merge", "-p", &change]).refused();
    assert!(refusal.contains("lacks the verb `use`"), "{refusal}");
    as_person(&["delete", "secretbinding", "trainer"]).good();
    as_person(&["delete", "encryptionkey", "team-key"]).good();
}
