//! A `SecretBinding` as admission needs it: parsed once, when it changes, not for every pod.

use kube::ResourceExt;
use kube::core::Selector;
use kustody_api::SecretBinding;
use kustody_api::conditions::{self, ConditionType};
use kustody_api::names::{ENV_VOLUME_PREFIX, FILES_VOLUME_PREFIX};
use kustody_api::secret_binding::UpdateMode;
use kustody_core::hex::hex;
use kustody_core::wire::PlannedVariable;
use sha2::{Digest, Sha256};

/// Size limit of a binding's volumes when it names none.
const SIZE_LIMIT: &str = "4Mi";

/// A binding, ready to be held against pods.
#[derive(Debug)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Why it is not ready, if it is not.
    pub not_ready: Option<String>,
    /// The service accounts that it serves.
    pub service_accounts: Vec<String>,
    /// The pods that it serves; an unreadable selector fits none.
    pub selector: Option<Result<Selector, ()>>,
    /// The containers that it names; none means by default.
    pub containers: Vec<String>,
    /// Its files, in order of path.
    pub files: Vec<File>,
    /// Its variables, in order.
    pub env: Vec<PlannedVariable>,
    /// Whether its files follow changes in running pods.
    pub live: bool,
    /// Size limit of each volume.
    pub size_limit: String,
    /// Name of the volume of its files.
    pub files_volume: String,
    /// Name of the volume of its environment file.
    pub env_volume: String,
}

/// A file of a binding.
#[derive(Debug)]
pub struct File {
    /// Path below the binding's directory.
    pub path: String,
    /// Name of the secret.
    pub secret: String,
    /// Member of its value.
    pub property: Option<String>,
    /// The mode that is asked for.
    pub mode: Option<u32>,
}

impl Binding {
    /// Of the object as the cache has it.
    pub fn new(object: &SecretBinding) -> Self {
        let name = object.name_any();
        let spec = &object.spec;
        let mut files: Vec<File> = spec.deliver.files.iter().map(File::new).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let id = volume_id(&name);
        Self {
            uid: object.uid().unwrap_or_default(),
            not_ready: not_ready(object),
            service_accounts: spec.workloads.service_accounts.clone(),
            selector: spec.workloads.pod_selector.clone().map(|selector| Selector::try_from(selector).map_err(drop)),
            containers: spec.workloads.containers.iter().filter(|name| *name != "*").cloned().collect(),
            files,
            env: spec
                .deliver
                .env
                .iter()
                .map(|v| PlannedVariable { name: v.name.clone(), secret: v.secret.clone(), property: v.property.clone() })
                .collect(),
            live: spec.update.as_ref().and_then(|update| update.mode) == Some(UpdateMode::Live) && !spec.deliver.files.is_empty(),
            size_limit: spec.deliver.size_limit.clone().unwrap_or_else(|| SIZE_LIMIT.to_owned()),
            files_volume: format!("{FILES_VOLUME_PREFIX}{id}"),
            env_volume: format!("{ENV_VOLUME_PREFIX}{id}"),
            name,
        }
    }
}

impl File {
    fn new(file: &kustody_api::secret_binding::File) -> Self {
        Self {
            path: file.path.clone(),
            secret: file.secret.clone(),
            property: file.property.clone(),
            mode: file.mode.and_then(|mode| u32::try_from(mode).ok()),
        }
    }
}

/// A binding's name may be longer than a volume's may be with a prefix: ten digits of its hash stand for it.
fn volume_id(name: &str) -> String {
    hex(&Sha256::digest(name.as_bytes())[..5])
}

/// The condition `Ready` must speak of the newest generation: an older one speaks of another spec.
fn not_ready(object: &SecretBinding) -> Option<String> {
    let status = object.status.clone().unwrap_or_default();
    if conditions::is_true(&status.conditions, ConditionType::Ready, object.metadata.generation) {
        return None;
    }
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    Some(match ready {
        Some(ready) if ready.status == "True" || ready.observed_generation != object.metadata.generation => {
            "the controller has not looked at its newest version yet".to_owned()
        }
        Some(ready) => format!("{}: {}", ready.reason, ready.message),
        None => "the controller has not looked at it yet".to_owned(),
    })
}
