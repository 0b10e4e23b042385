//! Objects as users write them.

use serde_json::{Value, json};

/// A provider of the embedded KMS that lets every namespace of these tests make keys.
pub fn provider(name: &str) -> Value {
    json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "KeyProvider", "metadata": {"name": name},
        "spec": {"local": {}, "access": [{"namespaces": {"matchLabels": {"kustody.dev/e2e": "true"}}, "createKeys": true}]},
    })
}

/// A key with a grant for `trainer`.
pub fn key(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "EncryptionKey", "metadata": {"name": name, "namespace": namespace},
        "spec": {"providerRef": {"name": "local"}, "grants": [{"serviceAccount": "trainer", "operations": ["Open"]}]},
    })
}

/// A binding for `trainer` that gives one sealed value as file `token` and variable `TOKEN`.
pub fn binding(namespace: &str, name: &str, sealed: &str) -> Value {
    json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "workloads": {"serviceAccounts": ["trainer"]},
            "secrets": [{"name": "token", "sealed": {"key": "team-key", "value": sealed}}],
            "deliver": {"files": [{"secret": "token", "path": "token"}], "env": [{"secret": "token", "name": "TOKEN"}]},
        },
    })
}

/// What Pod Security "restricted" asks of a container, as a user that the image need not know.
pub fn restricted() -> Value {
    json!({
        "runAsNonRoot": true, "runAsUser": 1000, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// The spec of a pod of `trainer` that runs `script` in one container `main`.
pub fn pod_spec(script: &str) -> Value {
    json!({
        "serviceAccountName": "trainer", "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "main", "image": "localhost/busybox:1", "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/sh", "-c", script], "securityContext": restricted(),
        }],
    })
}

/// A pod that asks.
pub fn pod(namespace: &str, name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kustody.dev/inject": "true"}},
        "spec": pod_spec(script),
    })
}

/// A Deployment of one pod that asks for `binding` and ends itself when it does not have what it asked for.
pub fn deployment(namespace: &str, name: &str, binding: &str, script: &str) -> Value {
    let mut spec = pod_spec(script);
    spec["restartPolicy"] = json!("Always");
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name, "kustody.dev/inject": binding}}, "spec": spec},
        },
    })
}

/// A script that prints digests of file and variable, as the demo's workloads do.
pub const PRINT_DIGESTS: &str =
    "sha256sum < /var/run/secrets/kustody.dev/trainer/token | cut -d' ' -f1; printf %s \"$TOKEN\" | sha256sum | cut -d' ' -f1";
