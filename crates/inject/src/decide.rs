//! From a pod and facts to what is done: nothing, a patch, or a denial.

use std::collections::BTreeMap;
use std::sync::Arc;

use kustody_api::names::{AGENT_CONTAINER, ENV_VOLUME_PREFIX, FILES_VOLUME_PREFIX, INJECTED_ANNOTATION, TOKEN_VOLUME, WATCH_CONTAINER};
use kustody_core::hex::hex;
use kustody_core::wire::{ENV_FILE, Plan, env};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::agent;
use crate::ask::{self, Asking};
use crate::binding::Binding;
use crate::facts::{Config, Facts};
use crate::patch::{Patch, escaped};
use crate::plan::{Promise, Served, promise};
use crate::targets::At;
use crate::view::{Container, Pod};

/// Init containers of meshes, which must be running before anything else can reach the network.
const MESH: [&str; 5] = ["istio-init", "istio-validation", "istio-proxy", "linkerd-init", "linkerd-proxy"];

/// The plan of a sidecar that has nothing to follow any more.
const NOTHING: &str = r#"{"version":1,"bindings":[]}"#;

/// What is done.
#[derive(Debug)]
pub enum Decision {
    /// The pod stays as it is; why.
    Skip(&'static str),
    /// The pod has what it asked for, after this patch (which is empty when it has it already).
    Inject {
        /// What to change.
        patch: Patch,
        /// Names of the bindings that serve it.
        bindings: Vec<String>,
        /// For the user.
        warnings: Vec<String>,
    },
    /// The pod is refused; the object, the field, the rule and the remedy.
    Deny(String),
}

/// The annotation: for people, and for the next pass over the same pod.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Injected {
    bindings: BTreeMap<String, Vec<String>>,
    plan_digest: String,
}

/// Decides about one pod that is being created.
pub fn decide(pod: &Pod<'_>, namespace: &str, facts: &Facts, config: &Config) -> Decision {
    let asking = ask::asking(pod, namespace, facts, config);
    if let Asking::No(why) = asking {
        return Decision::Skip(why);
    }
    let earlier = match earlier(pod) {
        Ok(earlier) => earlier,
        Err(why) => return Decision::Deny(why),
    };
    let bindings = match &earlier {
        // What was promised in an earlier pass stands: the next pass only serves containers that came in between.
        Some(plan) => promised(plan, pod, facts),
        None => ask::serving(pod, namespace, asking, facts),
    };
    let bindings = match bindings {
        Ok(bindings) if bindings.is_empty() => return Decision::Skip("no binding selects the pod"),
        Ok(bindings) => bindings,
        Err(why) => return Decision::Deny(why),
    };
    match promise(pod, &bindings, facts) {
        Err(why) => Decision::Deny(why),
        Ok(promise) => Decision::Inject {
            patch: patch(pod, &promise, earlier.is_some(), facts, config),
            bindings: bindings.iter().map(|binding| binding.name.clone()).collect(),
            warnings: warnings(pod, &bindings, facts),
        },
    }
}

/// The plan of an earlier pass over this pod; an error when names of ours are taken by something else.
pub(crate) fn earlier(pod: &Pod<'_>) -> Result<Option<Plan>, String> {
    let taken = |what: &str| Err(format!("{what} is a name that Kustody needs, and the pod uses it for something else; rename it"));
    for name in [AGENT_CONTAINER, WATCH_CONTAINER] {
        if pod.spec.containers.iter().any(|container| *container.name == *name) {
            return taken(&format!("container {name}"));
        }
    }
    let mine = |name: &str| name.starts_with(FILES_VOLUME_PREFIX) || name.starts_with(ENV_VOLUME_PREFIX);
    let volumes = || pod.spec.volumes.iter().flatten();
    let pinned = |container: &Container<'_>| {
        let plan = container.variable(env::PLAN).and_then(|variable| variable.value.as_deref()).map(agent::expanded_references);
        plan.and_then(|plan| serde_json::from_str::<Plan>(&plan).ok())
    };
    let watch = pod.spec.init().iter().find(|container| *container.name == *WATCH_CONTAINER);
    if watch.is_some_and(|watch| pinned(watch).is_none()) {
        return taken("init container kustody-watch");
    }
    let Some(agent) = pod.spec.init().iter().find(|container| *container.name == *AGENT_CONTAINER) else {
        if watch.is_some() {
            return taken("init container kustody-watch");
        }
        let found = volumes().find(|volume| *volume.name == *TOKEN_VOLUME || mine(&volume.name));
        return found.map_or(Ok(None), |volume| taken(&format!("volume {}", &*volume.name)));
    };
    if let Some(volume) = volumes().find(|volume| mine(&volume.name) && !volume.is_tmpfs()) {
        // Values would be written to a disk.
        return taken(&format!("volume {}", &*volume.name));
    }
    match pinned(agent) {
        Some(plan) if !plan.bindings.is_empty() && pod.metadata.annotation(INJECTED_ANNOTATION).is_some() => Ok(Some(plan)),
        _ => taken("init container kustody-agent"),
    }
}

/// The bindings of a plan, as long as they are the same objects and serve this pod: it may have been made from a copy.
fn promised(plan: &Plan, pod: &Pod<'_>, facts: &Facts) -> Result<Vec<Arc<Binding>>, String> {
    plan.bindings
        .iter()
        .map(|planned| {
            let found = facts.bindings.named(&planned.name).filter(|binding| binding.uid == planned.uid);
            let again = format!("create the pod without init container {AGENT_CONTAINER}");
            let binding = found.ok_or_else(|| {
                format!("SecretBinding {} was deleted or made anew since the pod was given its plan; {again}", planned.name)
            })?;
            match ask::misfit(binding, pod, ask::account(pod)) {
                Some(why) => {
                    Err(format!("the pod carries a plan of SecretBinding {}, which does not serve it: {why}; {again}", binding.name))
                }
                None => Ok(Arc::clone(binding)),
            }
        })
        .collect()
}

fn patch(pod: &Pod<'_>, promise: &Promise, again: bool, facts: &Facts, config: &Config) -> Patch {
    let mut patch = Patch::default();
    patch.append("/spec/volumes", pod.spec.volumes.is_some(), agent::volumes(pod, promise));
    for at in all(&promise.served) {
        serve(&mut patch, pod, promise, at);
    }
    if again {
        correct(&mut patch, pod, promise, facts, config);
    } else {
        let place = pod.spec.init().iter().take_while(|container| MESH.contains(&&*container.name)).count();
        let ours = std::iter::once(agent::container(pod, promise, facts, config)).chain(agent::watch(pod, promise, facts, config));
        // Last of all operations on containers: from here on their places have moved.
        patch.insert("/spec/initContainers", pod.spec.init_containers.is_some(), place, ours.collect());
    }
    annotate(&mut patch, pod, promise);
    patch
}

/// Every container that is served, once.
fn all(served: &[Served]) -> Vec<At> {
    let mut all: Vec<At> = Vec::new();
    for at in served.iter().flat_map(|served| &served.targets) {
        if !all.contains(at) {
            all.push(*at);
        }
    }
    all
}

/// Gives one container the mounts and variables that it lacks.
fn serve(patch: &mut Patch, pod: &Pod<'_>, promise: &Promise, at: At) {
    let container = at.of(&pod.spec);
    let mine = || promise.served.iter().filter(|served| served.targets.contains(&at)).map(|served| &served.binding);
    let mounts: Vec<Value> = mine()
        .filter(|binding| !container.mounts(&binding.files_volume))
        .map(|binding| json!({"name": binding.files_volume, "mountPath": agent::files_path(binding), "readOnly": true}))
        .collect();
    let variables: Vec<Value> = mine()
        .flat_map(|binding| binding.env.iter().map(move |variable| (binding, variable)))
        .filter(|(_, variable)| container.variable(&variable.name).is_none())
        .map(|(binding, variable)| {
            json!({"name": variable.name, "valueFrom": {"fileKeyRef": {"volumeName": binding.env_volume, "path": ENV_FILE, "key": variable.name}}})
        })
        .collect();
    if mounts.is_empty() && variables.is_empty() {
        return;
    }
    patch.guard(at, &pod.spec);
    let pointer = at.path();
    patch.append(&format!("{pointer}/volumeMounts"), container.volume_mounts.is_some(), mounts);
    // First, so that `$(NAME)` in the container's own entries composes.
    patch.prepend(&format!("{pointer}/env"), container.env.is_some(), variables);
}

/// Brings the containers of an earlier pass up to date: another webhook may have changed the containers' user and with it the
/// modes of the plan, and a pod that was made from a copy carries the addresses of another day.
fn correct(patch: &mut Patch, pod: &Pod<'_>, promise: &Promise, facts: &Facts, config: &Config) {
    let find = |name: &str| pod.spec.init().iter().position(|container| *container.name == *name);
    let Some(index) = find(AGENT_CONTAINER) else { return };
    correct_one(patch, pod, index, &promise.plan, (promise, facts, config));
    match (find(WATCH_CONTAINER), agent::watch(pod, promise, facts, config)) {
        (Some(index), wanted) => {
            correct_one(patch, pod, index, promise.live.as_deref().unwrap_or(NOTHING), (promise, facts, config));
            let at = At { init: true, index };
            let lacks = |mount: &&Value| mount["name"].as_str().is_some_and(|name| !at.of(&pod.spec).mounts(name));
            let mounts = wanted.as_ref().and_then(|watch| watch["volumeMounts"].as_array()).into_iter().flatten();
            let mounts: Vec<Value> = mounts.filter(lacks).cloned().collect();
            if !mounts.is_empty() {
                patch.guard(at, &pod.spec);
            }
            patch.append(&format!("{}/volumeMounts", at.path()), at.of(&pod.spec).volume_mounts.is_some(), mounts);
        }
        // The pod was made from a copy, and its binding is live by now. Last: from here on places have moved.
        (None, Some(watch)) => patch.insert("/spec/initContainers", true, index + 1, vec![watch]),
        (None, None) => {}
    }
}

fn correct_one(patch: &mut Patch, pod: &Pod<'_>, index: usize, plan: &str, (promise, facts, config): (&Promise, &Facts, &Config)) {
    let at = At { init: true, index };
    let (agent, pointer) = (at.of(&pod.spec), at.path());
    let mut changes: Vec<(String, Value)> = Vec::new();
    let user = promise.user.unwrap_or(agent::NOBODY);
    if agent.security_context.and_then(|context| context.run_as_user) != Some(user) {
        changes.push((format!("{pointer}/securityContext/runAsUser"), json!(user)));
    }
    if agent.image.as_deref() != Some(&config.agent_image) {
        changes.push((format!("{pointer}/image"), json!(config.agent_image)));
    }
    let plan = agent::escaped_references(plan);
    for (name, wanted) in [(env::PLAN, plan.as_str()), (env::BROKER, &facts.broker), (env::CA, facts.authority.as_str())] {
        let found = agent.env.iter().flatten().enumerate().find(|(_, variable)| *variable.name == *name);
        if let Some((place, _)) = found.filter(|(_, variable)| variable.value.as_deref() != Some(wanted)) {
            changes.push((format!("{pointer}/env/{place}/value"), json!(wanted)));
        }
    }
    if !changes.is_empty() {
        patch.guard(at, &pod.spec);
    }
    for (path, value) in changes {
        // On a member that is there, adding is replacing.
        patch.add(&path, value);
    }
}

fn annotate(patch: &mut Patch, pod: &Pod<'_>, promise: &Promise) {
    let name = |at: &At| (*at.of(&pod.spec).name).to_owned();
    let bindings = promise.served.iter().map(|served| (served.binding.name.clone(), served.targets.iter().map(name).collect()));
    let digest = hex(&Sha256::digest(promise.plan.as_bytes()));
    let injected = Injected { bindings: bindings.collect(), plan_digest: format!("sha256:{digest}") };
    let text = serde_json::to_string(&injected).unwrap_or_default();
    if pod.metadata.annotation(INJECTED_ANNOTATION) == Some(&text) {
        return;
    }
    if pod.metadata.annotations.is_some() {
        patch.add(&format!("/metadata/annotations/{}", escaped(INJECTED_ANNOTATION)), json!(text));
    } else {
        patch.add("/metadata/annotations", json!({INJECTED_ANNOTATION: text}));
    }
}

fn warnings(pod: &Pod<'_>, bindings: &[Arc<Binding>], facts: &Facts) -> Vec<String> {
    let mut warnings = Vec::new();
    if pod.spec.share_process_namespace == Some(true) {
        warnings.push("shareProcessNamespace: every container of the pod with the same user can read variables and files of the others through /proc; prefer files, and different users".to_owned());
    }
    let old = facts.oldest_kubelet.as_ref().filter(|kubelet| !kubelet.knows_native_sidecars());
    if let (Some(kubelet), Some(binding)) = (old, bindings.iter().find(|binding| binding.live)) {
        warnings.push(format!(
            "SecretBinding {}: update.mode Live needs every kubelet to be 1.29 or newer, and node {} has {}: this pod keeps the values of its start",
            binding.name, kubelet.node, kubelet.version
        ));
    }
    warnings
}
