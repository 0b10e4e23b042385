//! The agent's containers, the one that starts the pod and the one that stays beside it, and their volumes.

use kustody_api::names::{AGENT_CONTAINER, TOKEN_VOLUME, WATCH_CONTAINER};
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
/// What a container of ours asks for.
struct Size {
    memory: &'static str,
    cpu: &'static str,
    /// Where one is demanded.
    cpu_limit: &'static str,
}

/// Costs the pod nothing: what counts is the larger of this and all that runs later. A smaller limit of CPU would stretch 5 ms of
/// work over several of the kernel's quota periods.
const INIT: Size = Size { memory: "32Mi", cpu: "10m", cpu_limit: "100m" };
/// Is added to what the pod asks for. Nobody waits for it, so that it may be slow; the kernel charges it for the files that it
/// writes, of which a binding has at most 1 MiB, twice while they are swapped.
const WATCH: Size = Size { memory: "16Mi", cpu: "1m", cpu_limit: "20m" };

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
    container_of(AGENT_CONTAINER, "init", &promise.plan, &mounts, &INIT, (pod, promise, facts, config))
}

/// The native sidecar that follows live bindings, if any serves the pod: started after the agent, ended after the workload.
///
/// It mounts no environment volume, so that it cannot write one.
pub fn watch(pod: &Pod<'_>, promise: &Promise, facts: &Facts, config: &Config) -> Option<Value> {
    let plan = promise.live.as_ref()?;
    let mut mounts = vec![json!({"name": TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": true})];
    for binding in promise.served.iter().map(|served| &served.binding).filter(|binding| binding.live) {
        mounts.push(json!({"name": binding.files_volume, "mountPath": files_path(binding)}));
    }
    let mut container = container_of(WATCH_CONTAINER, "watch", plan, &mounts, &WATCH, (pod, promise, facts, config));
    container["restartPolicy"] = json!("Always");
    Some(container)
}

fn container_of(
    name: &str,
    command: &str,
    plan: &str,
    mounts: &[Value],
    size: &Size,
    (pod, promise, facts, config): (&Pod<'_>, &Promise, &Facts, &Config),
) -> Value {
    json!({
        "name": name,
        "image": config.agent_image,
        "imagePullPolicy": "IfNotPresent",
        "args": [command],
        "env": [
            {"name": env::PLAN, "value": escaped_references(plan)},
            {"name": env::BROKER, "value": &*facts.broker},
            {"name": env::CA, "value": &*facts.authority},
        ],
        "resources": resources(pod, facts, size),
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
fn resources(pod: &Pod<'_>, facts: &Facts, size: &Size) -> Value {
    let Size { memory, cpu, cpu_limit } = size;
    let guaranteed = pod.spec.all().all(|container| container.resources.as_ref().is_some_and(crate::view::Resources::are_guaranteed));
    if guaranteed {
        json!({"requests": {"cpu": cpu_limit, "memory": memory}, "limits": {"cpu": cpu_limit, "memory": memory}})
    } else if facts.demands_cpu_limit {
        json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu_limit, "memory": memory}})
    } else {
        json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}})
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
