//! What admission promises to a pod, and what it refuses.

use std::collections::HashMap;
use std::sync::Arc;

use kustody_core::wire::{FILES_ROOT, Plan, PlannedBinding, PlannedFile};

use crate::ask::account;
use crate::binding::Binding;
use crate::facts::Facts;
use crate::targets::{self, At};
use crate::view::Pod;

/// Files that the agent's own user alone reads, where containers share that user.
const PRIVATE: u32 = 0o400;
/// Files that every user reads, in a volume that only the targets mount.
const OPEN: u32 = 0o444;
/// The largest plan: it travels in one variable, of which the kernel takes 128 KiB.
const MAX_PLAN: usize = 96 * 1024;

/// A binding and the containers that it serves.
#[derive(Debug)]
pub struct Served {
    /// The binding.
    pub binding: Arc<Binding>,
    /// The containers.
    pub targets: Vec<At>,
}

/// Everything that is to be done to a pod.
#[derive(Debug)]
pub struct Promise {
    /// Each binding with its containers.
    pub served: Vec<Served>,
    /// The user that the agent runs as when the containers share one.
    pub user: Option<i64>,
    /// The plan as it is pinned.
    pub plan: String,
    /// The part of it that the sidecar follows: files of live bindings. Absent: no sidecar.
    pub live: Option<String>,
}

/// Promises the bindings to the pod, or says why that cannot be.
pub fn promise(pod: &Pod<'_>, bindings: &[Arc<Binding>], facts: &Facts) -> Result<Promise, String> {
    let served: Vec<Served> = bindings
        .iter()
        .map(|binding| targets::of(binding, pod).map(|targets| Served { binding: Arc::clone(binding), targets }))
        .collect::<Result<_, _>>()?;
    for served in &served {
        environment_files(&served.binding, pod, facts)?;
        variables(served, pod)?;
        mounts(served, pod)?;
    }
    twice(&served, pod)?;
    let all: Vec<At> = served.iter().flat_map(|served| served.targets.iter().copied()).collect();
    let user = targets::common_user(pod, &all);
    let bindings = served.iter().map(|served| planned(&served.binding, user)).collect::<Result<Vec<_>, _>>()?;
    let live = live(&served, &bindings, facts);
    let plan = serde_json::to_string(&Plan { version: 1, bindings }).unwrap_or_default();
    if plan.len() > MAX_PLAN {
        return Err(format!(
            "the plan for this pod has {} bytes, at most {MAX_PLAN} can be pinned; let fewer bindings serve it",
            plan.len()
        ));
    }
    Ok(Promise { served, user, plan, live })
}

/// What the sidecar follows: never a variable, which is read from its file when a container starts.
fn live(served: &[Served], planned: &[PlannedBinding], facts: &Facts) -> Option<String> {
    let live = served.iter().zip(planned).filter(|(served, _)| served.binding.live);
    let bindings: Vec<_> = live.map(|(_, planned)| PlannedBinding { env: Vec::new(), ..planned.clone() }).collect();
    let known = facts.oldest_kubelet.as_ref().is_none_or(|kubelet| kubelet.knows_native_sidecars());
    (known && !bindings.is_empty()).then(|| serde_json::to_string(&Plan { version: 1, bindings }).unwrap_or_default())
}

fn planned(binding: &Binding, user: Option<i64>) -> Result<PlannedBinding, String> {
    let file = |file: &crate::binding::File| {
        let possible = if user.is_some() { PRIVATE } else { OPEN };
        match file.mode {
            Some(mode) if user.is_none() && mode != OPEN => Err(format!(
                "SecretBinding {}: spec.deliver.files[{}].mode {mode:04o} cannot be had: not all containers that are served name the same non-root runAsUser; set it in their securityContext, or remove the mode to have {OPEN:04o} on a volume that only they mount",
                binding.name, file.path
            )),
            mode => Ok(PlannedFile {
                path: file.path.clone(),
                secret: file.secret.clone(),
                property: file.property.clone(),
                mode: mode.unwrap_or(possible),
            }),
        }
    };
    Ok(PlannedBinding {
        name: binding.name.clone(),
        uid: binding.uid.clone(),
        files: binding.files.iter().map(file).collect::<Result<_, _>>()?,
        env: binding.env.clone(),
    })
}

/// A kubelet that does not know environment files would set each variable to nothing and start the container.
fn environment_files(binding: &Binding, pod: &Pod<'_>, facts: &Facts) -> Result<(), String> {
    match &facts.oldest_kubelet {
        Some(kubelet) if !binding.env.is_empty() && !kubelet.reads_environment_files() => Err(format!(
            "SecretBinding {} delivers variables to pods of service account {}, which needs every kubelet to be 1.35 or newer, and node {} has {}: upgrade or remove that node, or deliver files instead (spec.deliver.files)",
            binding.name,
            account(pod),
            kubelet.node,
            kubelet.version
        )),
        _ => Ok(()),
    }
}

fn variables(served: &Served, pod: &Pod<'_>) -> Result<(), String> {
    let binding = &served.binding;
    for at in &served.targets {
        let container = at.of(&pod.spec);
        let taken = |name: &str| container.variable(name).is_some_and(|found| found.file_volume() != Some(&binding.env_volume));
        if let Some(variable) = binding.env.iter().find(|variable| taken(&variable.name)) {
            return Err(format!(
                "container {} already sets variable {}, which SecretBinding {} is to fill; remove it from the container or rename it in the binding",
                &*container.name, variable.name, binding.name
            ));
        }
    }
    Ok(())
}

fn mounts(served: &Served, pod: &Pod<'_>) -> Result<(), String> {
    let binding = &served.binding;
    let directory = format!("{FILES_ROOT}/{}", binding.name);
    for at in &served.targets {
        let container = at.of(&pod.spec);
        let in_the_way = container.volume_mounts.iter().flatten().find(|mount| {
            let path = mount.mount_path.trim_end_matches('/');
            let ours = *mount.name == *binding.files_volume;
            !ours
                && (path == FILES_ROOT
                    || path == directory
                    || path.strip_prefix(directory.as_str()).is_some_and(|rest| rest.starts_with('/')))
        });
        if let Some(mount) = in_the_way {
            return Err(format!(
                "container {} mounts volume {} at {}, where SecretBinding {} delivers its files; mount it elsewhere",
                &*container.name, &*mount.name, &*mount.mount_path, binding.name
            ));
        }
    }
    Ok(())
}

/// One variable of one container has one binding. Each is looked at once: a namespace may have very many.
fn twice(served: &[Served], pod: &Pod<'_>) -> Result<(), String> {
    let mut filled: HashMap<(At, &str), &Binding> = HashMap::new();
    for Served { binding, targets } in served {
        for at in targets {
            for variable in &binding.env {
                // A name that a binding has twice is one: the schema refuses that.
                let first = *filled.entry((*at, &variable.name)).or_insert(binding);
                if first.name != binding.name {
                    return Err(format!(
                        "SecretBindings {} and {} both fill variable {} of container {}; rename it in one of them, or let the pod ask for one binding by name",
                        first.name,
                        binding.name,
                        variable.name,
                        &*at.of(&pod.spec).name
                    ));
                }
            }
        }
    }
    Ok(())
}
