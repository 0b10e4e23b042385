//! What stops a part of the operator, or is about time; nextest runs these alone (`.config/nextest.toml`).

use serde_json::json;

use crate::harness::canary::canary;
use crate::harness::home::Home;
use crate::harness::{SYSTEM, apply, eventually, get, kubectl, objects, run, setting};
use crate::live;

mod cert_manager;
mod certificates;
mod drain;

mod uninjected;

/// Scales a role, and back when it goes.
struct Scaled {
    what: &'static str,
    back: &'static str,
}

impl Scaled {
    fn to_none(what: &'static str, back: &'static str) -> Self {
        kubectl(&["-n", SYSTEM, "scale", what, "--replicas=0"]).good();
        let role = what.split_once("/kustody-").unwrap().1;
        eventually("its pods to be gone", || {
            let pods = kubectl(&["-n", SYSTEM, "get", "pods", "-l", &format!("app.kubernetes.io/component={role}"), "-o", "name"]).good();
            if pods.is_empty() { Ok(()) } else { Err(pods) }
        });
        Self { what, back }
    }

    /// Nobody admits: no replica of the webhook, and no standby.
    fn no_webhook() -> [Self; 2] {
        [Self::to_none("deployment/kustody-webhook", "2"), Self::to_none("deployment/kustody-webhook-standby", "1")]
    }
}

impl Drop for Scaled {
    fn drop(&mut self) {
        let _ = kubectl(&["-n", SYSTEM, "scale", self.what, &format!("--replicas={}", self.back)]);
        let _ = kubectl(&["-n", SYSTEM, "rollout", "status", self.what, "--timeout=120s"]);
    }
}

#[test]
fn pods_of_kube_system_start_while_the_webhook_is_stopped_even_if_labelled_required() {
    kubectl(&["label", "namespace", "kube-system", "kustody.dev/inject=required", "--overwrite"]).good();
    let _back = Scaled::no_webhook();
    let mut pod = objects::pod("kube-system", "e2e-starts", "true");
    pod["spec"]["serviceAccountName"] = json!("default");
    apply(&pod).good();
    let system = std::mem::ManuallyDrop::new(Home { name: "kube-system".to_owned() });
    assert_eq!(system.pod("e2e-starts")["status"]["phase"], "Succeeded");
    kubectl(&["-n", "kube-system", "delete", "pod", "e2e-starts", "--wait=false"]).good();
    kubectl(&["label", "namespace", "kube-system", "kustody.dev/inject-"]).good();
}

#[test]
fn a_stopped_webhook_blocks_only_pods_that_ask() {
    let home = Home::new("stopped");
    home.key();
    home.binding(&canary());
    let back = Scaled::no_webhook();
    let refusal = apply(&objects::pod(&home.name, "asks", "true")).refused();
    assert!(refusal.contains("failed calling webhook"), "{refusal}");
    let mut silent = objects::pod(&home.name, "silent", "true");
    silent["metadata"]["labels"] = json!({});
    apply(&silent).good();
    // A grant can be taken away, by whoever may write the key, though nobody says who may use its provider.
    let mut key = objects::key(&home.name, "team-key");
    key["spec"]["grants"] = json!([]);
    apply(&key).good();
    apply(&objects::key(&home.name, "team-key")).good();
    drop(back);
    eventually("the webhook to answer again", || {
        let said = apply(&objects::pod(&home.name, "asks", "true"));
        if said.ok { Ok(()) } else { Err(said.err) }
    });
}

#[test]
fn pods_that_ask_and_pods_that_are_offered_are_admitted_by_the_standby_while_no_other_replica_runs() {
    let homes = [Home::new("standby"), Home::labelled("standby", &json!({"kustody.dev/inject": "enabled"}))];
    for home in &homes {
        home.key();
        home.binding(&canary());
    }
    let back = Scaled::to_none("deployment/kustody-webhook", "2");
    apply(&objects::pod(&homes[0].name, "train", "test -n \"$TOKEN\"")).good();
    let mut offered = objects::pod(&homes[1].name, "train", "test -n \"$TOKEN\"");
    offered["metadata"]["labels"] = json!({});
    apply(&offered).good();
    // What the standby says of a pod is what the others would say.
    let mut unserved = objects::pod(&homes[0].name, "unserved", "true");
    unserved["spec"]["serviceAccountName"] = json!("default");
    let refusal = apply(&unserved).refused();
    assert!(refusal.contains("asking.standby.pods.kustody.dev") && refusal.contains("SecretBinding"), "{refusal}");
    for home in &homes {
        assert_eq!(home.pod("train")["status"]["phase"], "Succeeded");
    }
    drop(back);
}

#[test]
fn a_pod_waits_for_a_broker_that_is_stopped_and_goes_on_when_it_is_back() {
    let home = Home::new("waits");
    home.key();
    home.binding(&canary());
    let back = Scaled::to_none("statefulset/kustody-broker", "1");
    apply(&objects::pod(&home.name, "train", "test -n \"$TOKEN\"")).good();
    eventually("the agent to run", || {
        let pod = home.get("pod", "train");
        let agent = &pod["status"]["initContainerStatuses"][0]["state"];
        if agent["running"].is_object() { Ok(()) } else { Err(pod["status"].to_string()) }
    });
    drop(back);
    assert_eq!(home.pod("train")["status"]["phase"], "Succeeded");
}

#[test]
fn a_broker_that_was_away_neither_ends_the_live_sidecar_nor_restarts_its_pod() {
    let home = Home::new("livebroker");
    let new = canary();
    home.key();
    live::bind(&home, &canary());
    apply(&objects::pod(&home.name, "train", live::RUN)).good();
    live::running(&home, "train");
    let back = Scaled::to_none("statefulset/kustody-broker", "1");
    eventually("the sidecar to miss the broker", || {
        let log = home.logs("train", "kustody-watch");
        if log.contains("\"waiting\"") { Ok(()) } else { Err(log) }
    });
    live::assert_undisturbed(&home, "train");
    drop(back);
    live::bind(&home, &new);
    live::arrives(&home, "train", &new);
    live::assert_undisturbed(&home, "train");
}

#[test]
fn a_stopped_controller_breaks_nothing_that_runs() {
    let home = Home::new("nocontrol");
    home.key();
    home.binding(&canary());
    let _back = Scaled::to_none("deployment/kustody-controller", "1");
    apply(&objects::pod(&home.name, "train", "test -n \"$TOKEN\"")).good();
    assert_eq!(home.pod("train")["status"]["phase"], "Succeeded");
}

#[test]
fn a_node_of_an_older_kubelet_refuses_variables_by_its_version_and_names_the_choices() {
    let home = Home::new("kubelet");
    home.key();
    home.binding(&canary());
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "old"}, "spec": {"unschedulable": true},
        "status": {"nodeInfo": {"kubeletVersion": "v1.33.4", "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
            "kubeProxyVersion": "", "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": ""}},
    });
    apply(&node).good();
    let gone = Gone("old");
    let status = json!({"status": node["status"]}).to_string();
    kubectl(&["patch", "node", "old", "--subresource=status", "--type=merge", "-p", &status]).good();
    let refusal = eventually("the refusal", || {
        let said =
            run("kubectl", &["create", "--dry-run=server", "-f", "-"], objects::pod(&home.name, "train", "true").to_string().as_bytes());
        if said.ok { Err(said.out) } else { Ok(said.err) }
    });
    drop(gone);
    for part in ["v1.33.4", "old", "1.35", "files"] {
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
    eventually("admission without that node", || {
        let said = apply(&objects::pod(&home.name, "train", "true"));
        if said.ok { Ok(()) } else { Err(said.err) }
    });
}

/// Deletes a Node object when it goes: all others would be refused for its sake.
struct Gone(&'static str);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = kubectl(&["delete", "node", self.0]);
    }
}

/// Where the broker's audit records are on the node.
pub fn audit_directory() -> String {
    let claim = get(&["-n", SYSTEM, "pvc", "audit-kustody-broker-0"]);
    let volume = get(&["pv", claim["spec"]["volumeName"].as_str().unwrap()]);
    volume["spec"]["local"]["path"].as_str().unwrap().to_owned()
}

pub fn on_node(script: &str) -> crate::harness::Said {
    run(&setting("KUSTODY_ON_NODE"), &["sh", "-c", script], b"")
}

/// A disk that is full until this goes.
struct Full(String);

impl Full {
    fn new(directory: String) -> Self {
        let said = on_node(&format!("cat /dev/zero > {directory}/filler 2>/dev/null; df -k {directory} | tail -1"));
        assert!(said.out.contains("100%"), "{}{}", said.out, said.err);
        Self(directory)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        on_node(&format!("rm -f {}/filler", self.0));
    }
}

#[test]
fn a_full_disk_stops_release_and_space_lets_it_go_on() {
    let home = Home::new("full");
    home.key();
    home.binding(&canary());
    let full = Full::new(audit_directory());
    // The last page of the log has room for a few more records: pods start until it has not.
    let waiting = (0..40).map(|i| format!("train-{i}")).find(|name| {
        apply(&objects::pod(&home.name, name, "test -n \"$TOKEN\"")).good();
        eventually("the pod to have its secrets or the broker to refuse", || {
            let pod = home.get("pod", name);
            let refused = kubectl(&["-n", SYSTEM, "logs", "kustody-broker-0", "--tail=5"]).good().contains("AuditUnavailable");
            match pod["status"]["phase"].as_str() {
                Some("Succeeded") => Ok(false),
                _ if refused => Ok(true),
                _ => Err(pod["status"].to_string()),
            }
        })
    });
    let waiting = waiting.expect("the broker refuses once its disk is full");
    let pod = home.get("pod", &waiting);
    assert_eq!(pod["status"]["phase"], "Pending", "nothing was released: {}", pod["status"]);
    drop(full);
    assert_eq!(home.pod(&waiting)["status"]["phase"], "Succeeded");
}

#[test]
fn a_broker_that_was_killed_goes_on_with_an_unbroken_audit_chain() {
    let home = Home::new("killed");
    home.key();
    home.binding(&canary());
    kubectl(&["-n", SYSTEM, "delete", "pod", "kustody-broker-0", "--grace-period=0", "--force"]).good();
    apply(&objects::pod(&home.name, "train", "test -n \"$TOKEN\"")).good();
    assert_eq!(home.pod("train")["status"]["phase"], "Succeeded");
    let log = on_node(&format!("cat $(find {} -type f -name '*.jsonl' | sort)", audit_directory())).good();
    let chain = kustody_core::audit::verify(None, log.lines()).unwrap();
    assert!(chain.len() > 1);
    let released = log.lines().any(|line| line.contains("\"Release\"") && line.contains(&home.name) && line.contains("\"train\""));
    assert!(released, "the release of pod train is on record");
}

/// Alone, because the namespaces of other tests keep Kubernetes' controller busy.
#[test]
fn a_namespace_with_keys_and_bindings_is_gone_within_ten_seconds() {
    let home = Home::new("gone");
    let key = home.key();
    home.binding(&canary());
    let deleted = kubectl(&["delete", "namespace", &home.name, "--timeout=10s"]);
    assert!(deleted.ok, "{}\n{}", deleted.err, kubectl(&["get", "namespace", &home.name, "-o", "yaml"]).out);
    let id = key["status"]["keyId"].as_str().unwrap();
    let record = format!("kustody-key-{}", id.rsplit('/').next().unwrap());
    get(&["-n", SYSTEM, "secret", &record]);
}
