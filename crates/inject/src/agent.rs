//! The agent's container and its volumes.

use kustody_api::names::{AGENT_CONTAINER, TOKEN_VOLUME};
use kustody_core::wire::{AUDIENCE, ENV_ROOT, FILES_ROOT, env};
use serde_json::{Value, json};

use crate::binding::Binding;
use crate::facts::{Config, Facts};
use crate::plan::Promise;
use crate::view::Pod;

/// The user of the agent where containers share none.
pub const NOBODY: i64 = 65532;
/// Where the token is mounted: with a mount of its own there, the ServiceAccount admission adds no API token and does not
/// call the webhook once more.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Seconds that the token lives; the least that Kubernetes gives.
const TOKEN_SECONDS: i64 = 600;
const MEMORY: &str = "32Mi";
const CPU: &str = "10m";
/// A smaller limit would stretch 5 ms of work over several of the kernel's quota periods.
const CPU_LIMIT: &str = "100m";

/// The container; it goes first, so that the user's init containers find their secrets too.
pub fn container(pod: &Pod<'_>, promise: &Promise, facts: &Facts, config: &Config) -> Value {
    let mut mounts = vec![json!({"name": TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": true})];
    for served in &promise.served {
        let binding = &served.binding;
        mounts.push(json!({"name": binding.files_volume, "mountPath": files_path(binding)}));
        if !binding.env.is_empty() {
            mounts.push(json!({"name": binding.env_volume, "mountPath": format!("{ENV_ROOT}/{}", binding.name)}));
        }
    }
    json!({
        "name": AGENT_CONTAINER,
        "image": config.agent_image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["init"],
        "env": [
            {"name": env::PLAN, "value": escaped_references(&promise.plan)},
            {"name": env::BROKER, "value": &*facts.broker},
            {"name": env::CA, "value": &*facts.authority},
        ],
        "resources": resources(pod, facts),
        "securityContext": {
            "runAsUser": promise.user.unwrap_or(NOBODY),
            "runAsNonRoot": true,
            "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": mounts,
    })
}

/// The kubelet expands `$(NAME)` in values, and takes two dollar signs for one.
pub fn escaped_references(value: &str) -> String {
    value.replace('$', "$$")
}

/// Requests and limits that change neither the pod's class of service nor what a quota counts for the pod.
fn resources(pod: &Pod<'_>, facts: &Facts) -> Value {
    let guaranteed = pod.spec.all().all(|container| container.resources.as_ref().is_some_and(crate::view::Resources::are_guaranteed));
    if guaranteed {
        json!({"requests": {"cpu": CPU_LIMIT, "memory": MEMORY}, "limits": {"cpu": CPU_LIMIT, "memory": MEMORY}})
    } else if facts.demands_cpu_limit {
        json!({"requests": {"cpu": CPU, "memory": MEMORY}, "limits": {"cpu": CPU_LIMIT, "memory": MEMORY}})
    } else {
        json!({"requests": {"cpu": CPU, "memory": MEMORY}, "limits": {"memory": MEMORY}})
    }
}

/// Where a binding's files appear.
pub fn files_path(binding: &Binding) -> String {
    format!("{FILES_ROOT}/{}", binding.name)
}

/// What [`escaped_references`] made, as the agent will see it.
pub fn expanded_references(value: &str) -> String {
    value.replace("$$", "$")
}

/// The volumes that the bindings and the agent need and that the pod lacks.
pub fn volumes(pod: &Pod<'_>, promise: &Promise) -> Vec<Value> {
    let mut volumes = vec![(
        TOKEN_VOLUME.to_owned(),
        json!({"name": TOKEN_VOLUME, "projected": {"defaultMode": 0o444, "sources": [
            {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        ]}}),
    )];
    for served in &promise.served {
        let binding = &served.binding;
        let tmpfs =
            |name: &str| (name.to_owned(), json!({"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": binding.size_limit}}));
        volumes.push(tmpfs(&binding.files_volume));
        if !binding.env.is_empty() {
            volumes.push(tmpfs(&binding.env_volume));
        }
    }
    volumes.into_iter().filter(|(name, _)| !pod.spec.has_volume(name)).map(|(_, volume)| volume).collect()
}
