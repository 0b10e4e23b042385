//! No pod starts without what it asked for while admission is gone, and what slipped through is found.

use serde_json::{Value, json};

use super::Scaled;
use crate::harness::canary::canary;
use crate::harness::home::Home;
use crate::harness::{Installed, apply, eventually, get, kubectl, objects, run};
use crate::uninjected::{a_second_later, pods_without_secrets, silent};

/// The webhook's configuration, which is gone until this goes.
struct Deleted(Value);

impl Deleted {
    fn new() -> Self {
        let mut found = get(&["mutatingwebhookconfiguration", "zz-kustody"]);
        for name in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
            found["metadata"].as_object_mut().unwrap().remove(name);
        }
        kubectl(&["delete", "mutatingwebhookconfiguration", "zz-kustody"]).good();
        let deleted = Self(found);
        let mut probe = objects::pod("default", "e2e-probe", "true");
        probe["spec"]["serviceAccountName"] = json!("default");
        eventually("the API server to call no webhook any more", || {
            let said = run("kubectl", &["create", "--dry-run=server", "-f", "-"], probe.to_string().as_bytes());
            if said.err.contains("was not given its agent") { Ok(()) } else { Err(said.out + &said.err) }
        });
        deleted
    }
}

impl Drop for Deleted {
    fn drop(&mut self) {
        let _ = run("kubectl", &["create", "-f", "-"], self.0.to_string().as_bytes());
    }
}

/// An installation that evicts until this goes.
fn evicting() -> Installed {
    Installed::with("controller.podsWithoutSecrets", "Evict", "Report")
}

#[test]
fn without_the_webhook_s_configuration_pods_that_ask_are_refused_with_the_remedy_and_no_others() {
    let home = Home::new("policy");
    let required = Home::labelled("policy", &json!({"kustody.dev/inject": "required"}));
    home.key();
    home.binding(&canary());
    let back = Deleted::new();
    let mut unlabelled = silent(&required, "asks");
    for pod in [objects::pod(&home.name, "asks", "true"), unlabelled.clone()] {
        let refusal = apply(&pod).refused();
        for part in ["asks", "was not given its agent", "kustody.dev/inject", "zz-kustody", "kustody-webhook"] {
            assert!(refusal.contains(part), "{part}: {refusal}");
        }
    }
    unlabelled["metadata"]["labels"] = json!({"kustody.dev/inject": "false"});
    unlabelled["metadata"]["name"] = json!("says-no");
    apply(&unlabelled).good();
    apply(&silent(&home, "silent")).good();
    let mut system = objects::pod("kube-system", "e2e-policy", "true");
    system["spec"]["serviceAccountName"] = json!("default");
    apply(&system).good();
    kubectl(&["-n", "kube-system", "delete", "pod", "e2e-policy", "--wait=false"]).good();
    drop(back);
    eventually("the webhook to serve again", || {
        let said = apply(&objects::pod(&home.name, "asks", "test -n \"$TOKEN\""));
        if said.ok { Ok(()) } else { Err(said.err) }
    });
    assert_eq!(home.pod("asks")["status"]["phase"], "Succeeded");
}

#[test]
fn a_pod_that_only_claims_to_have_an_agent_is_refused() {
    let home = Home::new("claims");
    let back = Deleted::new();
    let mut pod = objects::pod(&home.name, "claims", "true");
    pod["metadata"]["annotations"] = json!({"kustody.dev/injected": "{}"});
    let refusal = apply(&pod).refused();
    assert!(refusal.contains("init container kustody-agent"), "{refusal}");
    drop(back);
}

#[test]
fn a_pod_that_slipped_through_an_enabled_namespace_is_found_and_reported() {
    let home = Home::labelled("slipped", &json!({"kustody.dev/inject": "enabled"}));
    home.key();
    home.binding(&canary());
    a_second_later();
    let back = Scaled::no_webhook();
    apply(&silent(&home, "slipped")).good();
    let pod = home.get("pod", "slipped");
    assert!(pod["metadata"]["annotations"]["kustody.dev/injected"].is_null(), "the webhook was stopped: {pod}");
    let note = home.event("slipped", "has no agent");
    assert!(note.contains("enabled") && note.contains("SecretBinding trainer"), "{note}");
    assert!(pods_without_secrets(&home, "True").contains("slipped"));
    drop(back);
}

/// A Deployment whose pods do not ask by label.
fn deployment(home: &Home, name: &str) -> Value {
    let mut deployment = objects::deployment(&home.name, name, "", "exec sleep 1000");
    deployment["spec"]["template"]["metadata"]["labels"] = json!({"app": name});
    deployment
}

/// A Job that ends only once it has its secrets.
fn job(home: &Home, name: &str, rules: &Value) -> Value {
    let script = "test -s /var/run/secrets/kustody.dev/trainer/token || exec sleep 1000";
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": home.name},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"app": name}}, "spec": objects::pod_spec(script)}},
    });
    if !rules.is_null() {
        job["spec"]["podFailurePolicy"] = json!({"rules": rules});
    }
    job
}

/// The one live pod with this label `app`: its UID, and whether it has an agent.
fn only(home: &Home, app: &str) -> Result<(String, bool), String> {
    let pods = get(&["-n", &home.name, "pods", "-l", &format!("app={app}")]);
    let live = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running";
    let live: Vec<&Value> = pods["items"].as_array().unwrap().iter().filter(live).collect();
    match live.as_slice() {
        [pod] => {
            let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
            Ok((uid, pod["metadata"]["annotations"]["kustody.dev/injected"].is_string()))
        }
        _ => Err(pods["items"].to_string()),
    }
}

#[test]
fn where_the_installation_evicts_pods_are_replaced_as_budgets_and_jobs_allow() {
    let home = Home::new("evict");
    home.key();
    home.binding(&canary());
    a_second_later();
    let ignore = json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]);
    apply(&json!([
        deployment(&home, "free"),
        deployment(&home, "guarded"),
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "guarded", "namespace": home.name},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}},
        job(&home, "ignores", &ignore),
        job(&home, "counts", &Value::Null),
    ]))
    .good();
    let mut bare = silent(&home, "bare");
    bare["metadata"]["labels"] = json!({"app": "bare"});
    apply(&bare).good();
    let apps = ["free", "guarded", "ignores", "counts", "bare"];
    let before = apps.map(|app| eventually(&format!("a pod of {app}"), || only(&home, app)));
    assert!(before.iter().all(|(_, agent)| !agent), "{before:?}");

    let back = evicting();
    kubectl(&["label", "namespace", &home.name, "kustody.dev/inject=enabled"]).good();
    eventually("the Deployment's pod to be replaced by one that is served", || match only(&home, "free")? {
        (_, true) => Ok(()),
        (uid, false) => Err(uid),
    });
    eventually("the Job that ignores disruptions to go on with its secrets", || {
        let job = home.get("job", "ignores");
        if job["status"]["succeeded"] == 1 { Ok(()) } else { Err(job["status"].to_string()) }
    });
    assert!(home.get("job", "ignores")["status"]["failed"].as_u64().unwrap_or_default() == 0, "no failure was counted");
    for (app, note) in [("counts", "podFailurePolicy"), ("bare", "no controller")] {
        let pods = get(&["-n", &home.name, "pods", "-l", &format!("app={app}")]);
        home.event(pods["items"][0]["metadata"]["name"].as_str().unwrap(), note);
    }
    for (app, old) in apps.iter().zip(&before).filter(|(app, _)| ["guarded", "counts", "bare"].contains(app)) {
        assert_eq!(&only(&home, app).unwrap(), old, "{app} was not to be evicted");
    }
    home.kubectl(&["delete", "poddisruptionbudget", "guarded"]).good();
    eventually("the guarded Deployment's pod to be replaced once its budget is gone", || match only(&home, "guarded")? {
        (_, true) => Ok(()),
        (uid, false) => Err(uid),
    });
    drop(back);
}
