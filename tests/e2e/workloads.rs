//! Namespaces with rules of their own, and the shapes that pods come in.

use serde_json::{Value, json};

use crate::harness::canary::canary;
use crate::harness::home::Home;
use crate::harness::{apply, objects};

fn completes(home: &Home, pod: &Value) -> Value {
    apply(pod).good();
    let pod = home.pod(pod["metadata"]["name"].as_str().unwrap());
    assert_eq!(pod["status"]["phase"], "Succeeded", "{}", pod["status"]);
    pod
}

const HAS_IT: &str = "test -s /var/run/secrets/kustody.dev/trainer/token && test -n \"$TOKEN\"";

#[test]
fn a_namespace_that_enforces_pod_security_restricted_admits_an_injected_pod() {
    let home = Home::labelled("restricted", &json!({"pod-security.kubernetes.io/enforce": "restricted"}));
    home.key();
    home.binding(&canary());
    let pod = completes(&home, &objects::pod(&home.name, "train", HAS_IT));
    assert!(pod["spec"]["securityContext"]["fsGroup"].is_null(), "nothing is set on the pod itself");
}

#[test]
fn a_quota_and_a_limit_range_admit_an_injected_pod() {
    let home = Home::new("quota");
    home.key();
    home.binding(&canary());
    apply(&json!([
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": home.name},
         "spec": {"hard": {"limits.cpu": "2", "limits.memory": "1Gi", "requests.cpu": "2", "requests.memory": "1Gi"}}},
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l", "namespace": home.name},
         "spec": {"limits": [{"type": "Container", "max": {"cpu": "1", "memory": "256Mi"}, "min": {"memory": "8Mi"}}]}},
    ]))
    .good();
    let mut pod = objects::pod(&home.name, "train", HAS_IT);
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "500m", "memory": "64Mi"}});
    let made = crate::harness::eventually("the webhook to know the quota", || {
        let said = apply(&pod);
        if said.ok { Ok(home.pod("train")) } else { Err(said.err) }
    });
    assert_eq!(made["status"]["phase"], "Succeeded", "{}", made["status"]);
}

#[test]
fn a_guaranteed_pod_stays_guaranteed() {
    let home = Home::new("qos");
    home.key();
    home.binding(&canary());
    let mut pod = objects::pod(&home.name, "train", HAS_IT);
    pod["spec"]["containers"][0]["resources"] =
        json!({"limits": {"cpu": "100m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}});
    assert_eq!(completes(&home, &pod)["status"]["qosClass"], "Guaranteed");
}

#[test]
fn a_pod_without_service_account_token_and_a_pod_of_the_host_s_network_have_their_secrets() {
    let home = Home::new("shapes");
    home.key();
    home.binding(&canary());
    let mut pod = objects::pod(&home.name, "no-token", HAS_IT);
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    completes(&home, &pod);
    let mut pod = objects::pod(&home.name, "host-network", HAS_IT);
    pod["spec"]["hostNetwork"] = json!(true);
    completes(&home, &pod);
}

#[test]
fn only_the_containers_that_the_binding_names_have_it() {
    let home = Home::new("containers");
    home.key();
    let sealed = home.seal("trainer", "token", &canary());
    let mut binding = objects::binding(&home.name, "trainer", &sealed);
    binding["spec"]["workloads"]["containers"] = json!(["fetch", "main"]);
    apply(&binding).good();
    home.ready("secretbinding", "trainer");
    let mut pod = objects::pod(&home.name, "train", HAS_IT);
    let main = pod["spec"]["containers"][0].clone();
    let with = |name: &str, script: &str| {
        let mut container = main.clone();
        container["name"] = json!(name);
        container["command"][2] = json!(script);
        container
    };
    pod["spec"]["initContainers"] = json!([with("fetch", HAS_IT)]);
    pod["spec"]["containers"] = json!([main, with("log", "! test -e /var/run/secrets/kustody.dev && test -z \"$TOKEN\"")]);
    let pod = completes(&home, &pod);
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "kustody-agent");
    for container in pod["spec"]["containers"].as_array().unwrap() {
        let mounts = container["volumeMounts"].to_string();
        assert!(!mounts.contains("kustody-token") && !mounts.contains("kustody-env"), "only the agent mounts these: {mounts}");
    }
}

#[test]
fn an_injected_pod_keeps_fields_that_the_webhook_does_not_know() {
    let home = Home::new("unknown");
    home.key();
    home.binding(&canary());
    let mut pod = objects::pod(&home.name, "train", HAS_IT);
    pod["spec"]["containers"][0]["restartPolicy"] = json!("Never");
    pod["spec"]["containers"][0]["restartPolicyRules"] = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let made = completes(&home, &pod);
    assert_eq!(made["spec"]["containers"][0]["restartPolicyRules"], pod["spec"]["containers"][0]["restartPolicyRules"]);
}
