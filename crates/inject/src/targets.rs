//! Which containers of a pod a binding serves.

use kustody_api::names::{AGENT_CONTAINER, WATCH_CONTAINER};

use crate::binding::Binding;
use crate::view::{Container, Pod, Spec};

/// The annotation by which frameworks say which container is the workload.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// Containers that frameworks and meshes add beside the workload; a binding can still name them.
const INFRASTRUCTURE: [&str; 14] = [
    "istio-proxy",            // Istio, when it is no native sidecar
    "linkerd-proxy",          // Linkerd
    "queue-proxy",            // Knative
    "wait",                   // Argo Workflows: its executor
    "supervisor",             // Argo Workflows without init containers
    "modelcar",               // KServe: links the model into the volume
    "autoscaler",             // KubeRay: on the head
    "in-place-restart-agent", // JobSet
    "ray-job-submitter",      // KubeRay: the entrypoint runs on the head
    "cloud-sql-proxy",        // Google's database proxy
    "gke-gcsfuse-sidecar",    // Google's bucket mounts
    "vault-agent",            // HashiCorp's injector
    "config-reloader",        // sidecars of the Prometheus operator
    "linkerd-debug",          // Linkerd
];
/// KServe's logger and batcher is called `agent`, which elsewhere may be the workload.
const KSERVE: (&str, &str) = ("serving.kserve.io/inferenceservice", "agent");

/// A container by its list and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct At {
    /// Whether it is an init container.
    pub init: bool,
    /// Its place in the list.
    pub index: usize,
}

impl At {
    /// The container itself.
    pub fn of<'p, 'a>(self, spec: &'p Spec<'a>) -> &'p Container<'a> {
        if self.init { &spec.init()[self.index] } else { &spec.containers[self.index] }
    }

    /// Its JSON pointer.
    pub fn path(self) -> String {
        format!("/spec/{}/{}", if self.init { "initContainers" } else { "containers" }, self.index)
    }
}

/// The containers of `pod` that `binding` serves, in order; why none, if it names some and none is there.
pub fn of(binding: &Binding, pod: &Pod<'_>) -> Result<Vec<At>, String> {
    let spec = &pod.spec;
    if binding.containers.is_empty() {
        let by_default = pod.metadata.annotation(DEFAULT_CONTAINER).filter(|name| spec.containers.iter().any(|c| *c.name == **name));
        return Ok(workload(pod, by_default));
    }
    let ours = |container: &Container<'_>| [AGENT_CONTAINER, WATCH_CONTAINER].contains(&&*container.name);
    let named = |container: &Container<'_>| !ours(container) && binding.containers.iter().any(|name| **name == *container.name);
    let found: Vec<At> = places(spec).filter(|at| named(at.of(spec))).collect();
    if found.is_empty() {
        return Err(format!(
            "SecretBinding {}: workloads.containers names {}, and the pod has no such container; correct the names or remove the list",
            binding.name,
            binding.containers.join(", ")
        ));
    }
    Ok(found)
}

fn places(spec: &Spec<'_>) -> impl Iterator<Item = At> {
    let init = (0..spec.init().len()).map(|index| At { init: true, index });
    init.chain((0..spec.containers.len()).map(|index| At { init: false, index }))
}

fn workload(pod: &Pod<'_>, by_default: Option<&str>) -> Vec<At> {
    let kserve = pod.metadata.label(KSERVE.0).is_some();
    let wanted = |name: &str| match by_default {
        Some(default) => name == default,
        None => !(INFRASTRUCTURE.contains(&name) || kserve && name == KSERVE.1),
    };
    let main = |wanted: &dyn Fn(&str) -> bool| -> Vec<At> {
        (0..pod.spec.containers.len()).map(|index| At { init: false, index }).filter(|at| wanted(&at.of(&pod.spec).name)).collect()
    };
    let found = main(&wanted);
    // Nothing but infrastructure: then it is the workload.
    if found.is_empty() { main(&|_| true) } else { found }
}

/// The user that all these containers name, if it is one and not root.
pub fn common_user(pod: &Pod<'_>, targets: &[At]) -> Option<i64> {
    let pods = pod.spec.security_context.and_then(|context| context.run_as_user);
    let user = |at: &At| at.of(&pod.spec).security_context.and_then(|context| context.run_as_user).or(pods);
    let first = user(targets.first()?)?;
    (first > 0 && targets.iter().all(|at| user(at) == Some(first))).then_some(first)
}
