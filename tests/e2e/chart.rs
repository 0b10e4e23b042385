//! What the chart brings besides the roles themselves: rights for people, availability, network policies.

use serde_json::{Value, json};

use crate::harness::home::Home;
use crate::harness::{SYSTEM, apply, eventually, get, kubectl, run};

/// Binds a role of Kubernetes' own in the namespace to a user of this name.
fn bind(home: &Home, role: &str, user: &str) {
    apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": user, "namespace": home.name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }))
    .good();
}

fn can(user: &str, namespace: &str, verb: &str, resource: &str) -> bool {
    kubectl(&["auth", "can-i", verb, &format!("{resource}.kustody.dev"), "--as", user, "-n", namespace]).out.trim() == "yes"
}

#[test]
fn who_may_edit_a_namespace_may_write_its_keys_and_bindings_and_who_may_view_it_may_read_them() {
    let home = Home::new("people");
    let other = Home::new("people");
    for role in ["view", "edit", "admin"] {
        bind(&home, role, &format!("{role}-{}", home.name));
    }
    let user = |role: &str| format!("{role}-{}", home.name);
    for role in ["edit", "admin"] {
        for (verb, resource) in
            [("create", "secretbindings"), ("delete", "encryptionkeys"), ("use", "encryptionkeys"), ("get", "secretbindings")]
        {
            eventually(&format!("{role} to {verb} {resource}"), || {
                if can(&user(role), &home.name, verb, resource) { Ok(()) } else { Err("no".to_owned()) }
            });
        }
        assert!(!can(&user(role), &home.name, "create", "keyproviders"), "{role}: providers are for who runs the cluster");
        assert!(!can(&user(role), &other.name, "create", "secretbindings"), "{role}: another namespace");
    }
    eventually(
        "view to list keys",
        || if can(&user("view"), &home.name, "list", "encryptionkeys") { Ok(()) } else { Err("no".to_owned()) },
    );
    for (verb, resource) in [("create", "secretbindings"), ("use", "encryptionkeys"), ("patch", "encryptionkeys")] {
        assert!(!can(&user("view"), &home.name, verb, resource), "view: {verb} {resource}");
    }
}

#[test]
fn an_auditor_reads_what_is_asked_for_everywhere_and_no_secret_and_writes_nothing() {
    let home = Home::new("auditor");
    let user = format!("auditor-{}", home.name);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "kustody-auditor"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    apply(&binding).good();
    for resource in ["keyproviders", "encryptionkeys", "secretbindings"] {
        eventually(&format!("the auditor to list {resource}"), || {
            if can(&user, &home.name, "list", resource) { Ok(()) } else { Err("no".to_owned()) }
        });
        assert!(!can(&user, &home.name, "patch", resource), "{resource}");
    }
    for kind in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations", "validatingadmissionpolicies"] {
        let said = kubectl(&["auth", "can-i", "get", &format!("{kind}.admissionregistration.k8s.io"), "--as", &user]);
        assert_eq!(said.out.trim(), "yes", "{kind}");
    }
    let secrets = kubectl(&["auth", "can-i", "get", "secrets", "--as", &user, "-n", SYSTEM]);
    assert_eq!(secrets.out.trim(), "no");
    kubectl(&["delete", "clusterrolebinding", &user]).good();
}

#[test]
fn webhook_and_broker_have_a_disruption_budget_a_priority_and_are_spread() {
    for (kind, role) in [("deployment", "webhook"), ("statefulset", "broker")] {
        let name = format!("kustody-{role}");
        let budget = get(&["-n", SYSTEM, "poddisruptionbudget", &name]);
        assert_eq!(budget["spec"]["maxUnavailable"], 1, "{role}");
        eventually(&format!("the budget of {role} to count its pods"), || {
            let status = &get(&["-n", SYSTEM, "poddisruptionbudget", &name])["status"];
            if status["expectedPods"].as_u64() > Some(0) { Ok(()) } else { Err(status.to_string()) }
        });
        let spec = &get(&["-n", SYSTEM, kind, &name])["spec"]["template"]["spec"];
        assert_eq!(spec["priorityClassName"], "system-cluster-critical", "{role}");
        let keys: Vec<&Value> = spec["topologySpreadConstraints"].as_array().unwrap().iter().map(|spread| &spread["topologyKey"]).collect();
        assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"], "{role}");
        // Where nodes have no zone the scheduler reads none of these, but this.
        let apart = spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"].as_array().unwrap();
        let from = |term: &Value| term["podAffinityTerm"]["labelSelector"]["matchLabels"]["app.kubernetes.io/component"].clone();
        assert!(apart.iter().any(|term| from(term) == role), "{apart:?}");
    }
}

#[test]
fn each_webhook_is_followed_by_one_of_the_standby_and_the_last_has_the_failure_policy() {
    let rendered = |more: &[&str]| {
        let show = ["template", "kustody", "charts/kustody", "--show-only", "templates/mutatingwebhookconfiguration.yaml"];
        let all: Vec<&str> = show.iter().chain(more).copied().collect();
        let text = run("helm", &all, b"").good();
        let of = |field: &str| {
            let lines = text.lines().filter_map(|line| line.trim_start_matches(['-', ' ']).strip_prefix(field));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let names = of("name: ").into_iter().filter(|name| name.ends_with(".pods.kustody.dev"));
        names.zip(of("failurePolicy: ")).map(|(name, policy)| format!("{name} {policy}")).collect::<Vec<_>>()
    };
    assert_eq!(
        rendered(&[]),
        [
            "asking.pods.kustody.dev Ignore",
            "asking.standby.pods.kustody.dev Fail",
            "required.pods.kustody.dev Ignore",
            "required.standby.pods.kustody.dev Fail",
            "offered.pods.kustody.dev Ignore",
            "offered.standby.pods.kustody.dev Ignore",
        ]
    );
    assert_eq!(
        rendered(&["--set", "webhook.standbyReplicas=0"]),
        ["asking.pods.kustody.dev Fail", "required.pods.kustody.dev Fail", "offered.pods.kustody.dev Ignore"]
    );
    let all = run("helm", &["template", "kustody", "charts/kustody", "--set", "webhook.standbyReplicas=0"], b"").good();
    assert!(!all.contains("name: kustody-webhook-standby"), "{all}");
}

#[test]
fn network_policies_are_rendered_when_they_are_asked_for_and_the_api_server_takes_them() {
    let render = |more: &[&str]| {
        let all: Vec<&str> = ["template", "kustody", "charts/kustody", "--namespace", SYSTEM].iter().chain(more).copied().collect();
        run("helm", &all, b"").good()
    };
    assert!(!render(&[]).contains("kind: NetworkPolicy"));
    let show = ["--set", "networkPolicy.enabled=true", "--show-only", "templates/networkpolicies.yaml"];
    let policies = render(&show);
    assert_eq!(policies.matches("kind: NetworkPolicy").count(), 3, "{policies}");
    // Whether they are enforced is for the network plugin, and the one of these tests enforces none.
    run("kubectl", &["apply", "--dry-run=server", "-f", "-"], policies.as_bytes()).good();
    // Without a port the rule would open every one.
    let none = run("helm", &["template", "kustody", "charts/kustody", "--set-json", "networkPolicy.egressPorts=[]"], b"").refused();
    assert!(none.contains("egressPorts"), "{none}");
}

#[test]
fn the_right_to_evict_is_not_there_unless_the_installation_evicts() {
    let user = format!("system:serviceaccount:{SYSTEM}:kustody-controller");
    for (verb, resource, more) in [("create", "pods", "--subresource=eviction"), ("delete", "pods", "-A"), ("get", "jobs.batch", "-A")] {
        let said = kubectl(&["auth", "can-i", verb, resource, more, "--as", &user]);
        assert_eq!(said.out.trim(), "no", "{verb} {resource} {more}");
    }
}
