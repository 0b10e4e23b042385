//! A namespace of a test's own, with a key and what is sealed for it.

use serde_json::{Value, json};

use super::{apply, condition, eventually, get, kubectl, objects, run, setting, unique};

/// A namespace of a test's own.
pub struct Home {
    pub name: String,
}

impl Home {
    /// A namespace whose name begins with `topic`, allowed to make keys under the provider `local`.
    pub fn new(topic: &str) -> Self {
        Self::labelled(topic, &json!({}))
    }

    /// The same with further labels.
    pub fn labelled(topic: &str, labels: &Value) -> Self {
        let name = format!("{topic}-{}", unique());
        let mut all = json!({"kustody.dev/e2e": "true"});
        for (label, value) in labels.as_object().unwrap() {
            all[label] = value.clone();
        }
        // Tests begin side by side, and all share this one: another may make it between apply's look and its write.
        let provider = apply(&objects::provider("local"));
        assert!(provider.ok || provider.err.contains("AlreadyExists"), "{}", provider.err);
        apply(&json!([
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": all}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainer", "namespace": name}},
        ]))
        .good();
        Self { name }
    }

    /// The key `team-key` with a grant for `trainer`, ready.
    pub fn key(&self) -> Value {
        apply(&objects::key(&self.name, "team-key")).good();
        self.ready("encryptionkey", "team-key")
    }

    /// Seals `value` for `binding` and `secret` under `team-key`.
    pub fn seal(&self, binding: &str, secret: &str, value: &str) -> String {
        let key = format!("{}/team-key", self.name);
        let program = format!("{}/kubectl-kustody", setting("KUSTODY_BIN"));
        run(&program, &["seal", "--key", &key, "--binding", binding, "--secret", secret], value.as_bytes()).good().trim().to_owned()
    }

    /// A binding `trainer` that gives `value` as file `token` and variable `TOKEN`, ready.
    pub fn binding(&self, value: &str) -> Value {
        let sealed = self.seal("trainer", "token", value);
        apply(&objects::binding(&self.name, "trainer", &sealed)).good();
        self.ready("secretbinding", "trainer")
    }

    /// Waits until the object is ready for its newest generation.
    pub fn ready(&self, kind: &str, name: &str) -> Value {
        eventually(&format!("{kind} {}/{name} Ready", self.name), || {
            let object = self.get(kind, name);
            match condition(&object, "Ready") {
                Some(ready) if ready["status"] == "True" && ready["observedGeneration"] == object["metadata"]["generation"] => Ok(object),
                _ => Err(object["status"].to_string()),
            }
        })
    }

    /// Waits until the object's condition `Ready` has this reason; answers with its message.
    pub fn not_ready(&self, kind: &str, name: &str, reason: &str) -> String {
        eventually(&format!("{kind} {}/{name} not Ready because of {reason}", self.name), || {
            let object = self.get(kind, name);
            match condition(&object, "Ready") {
                Some(ready) if ready["status"] != "True" && ready["reason"] == reason => Ok(ready["message"].as_str().unwrap().to_owned()),
                _ => Err(object["status"].to_string()),
            }
        })
    }

    /// Reads an object.
    #[track_caller]
    pub fn get(&self, kind: &str, name: &str) -> Value {
        get(&["-n", &self.name, kind, name])
    }

    /// Runs kubectl in this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> super::Said {
        let all: Vec<&str> = ["-n", &self.name].iter().chain(arguments).copied().collect();
        kubectl(&all)
    }

    /// Waits until the pod has come to an end; answers with it.
    pub fn pod(&self, name: &str) -> Value {
        eventually(&format!("pod {}/{name} to end", self.name), || {
            let pod = self.get("pod", name);
            match pod["status"]["phase"].as_str() {
                Some("Succeeded" | "Failed") => Ok(pod),
                _ => Err(pod["status"].to_string()),
            }
        })
    }

    /// What a container printed.
    pub fn logs(&self, pod: &str, container: &str) -> String {
        self.kubectl(&["logs", pod, "-c", container]).good()
    }

    /// Waits for an event of the object with this text.
    pub fn event(&self, object: &str, text: &str) -> String {
        eventually(&format!("an event of {object} with {text:?}"), || {
            let events = get(&["-n", &self.name, "events", "--field-selector", &format!("involvedObject.name={object}")]);
            let notes: Vec<String> =
                events["items"].as_array().unwrap().iter().map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect();
            notes.iter().find(|note| note.contains(text)).cloned().ok_or_else(|| notes.join("\n"))
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A failed test's objects are evidence.
        if !std::thread::panicking() {
            let _ = kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
        }
    }
}
