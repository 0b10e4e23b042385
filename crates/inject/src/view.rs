//! The few fields of an admission request that are read, borrowed from its bytes; everything else is never touched.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

use serde::Deserialize;
use serde_json::Value;

/// Text that is borrowed wherever the JSON needs no unescaping.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// An `AdmissionReview`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review<'a> {
    /// Of which version it is.
    #[serde(borrow, default)]
    pub api_version: Option<Text<'a>>,
    /// What is asked.
    #[serde(borrow)]
    pub request: Request<'a>,
}

/// Its request.
#[derive(Debug, Deserialize)]
pub struct Request<'a> {
    /// Repeated in the answer.
    #[serde(borrow)]
    pub uid: Text<'a>,
    /// Where the pod is made; the pod itself need not say.
    #[serde(borrow, default)]
    pub namespace: Option<Text<'a>>,
    /// The pod; absent on deletion.
    #[serde(borrow, default)]
    pub object: Option<Pod<'a>>,
}

/// A pod.
#[derive(Debug, Default, Deserialize)]
pub struct Pod<'a> {
    /// Labels and annotations.
    #[serde(borrow, default)]
    pub metadata: Metadata<'a>,
    /// Containers and volumes.
    #[serde(borrow, default)]
    pub spec: Spec<'a>,
}

/// Of a pod.
#[derive(Debug, Default, Deserialize)]
pub struct Metadata<'a> {
    /// Its name; absent where the API server makes one.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    /// What the API server makes a name of.
    #[serde(borrow, default, rename = "generateName")]
    pub generate_name: Option<Text<'a>>,
    /// Labels.
    #[serde(borrow, default)]
    pub labels: Option<BTreeMap<Text<'a>, Text<'a>>>,
    /// Annotations.
    #[serde(borrow, default)]
    pub annotations: Option<BTreeMap<Text<'a>, Text<'a>>>,
}

impl Metadata<'_> {
    /// The label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name).map(Deref::deref)
    }

    /// The annotation's value.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(Deref::deref)
    }
}

/// Of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec<'a> {
    /// The identity.
    #[serde(borrow, default)]
    pub service_account_name: Option<Text<'a>>,
    /// Whether processes of one container see those of another.
    #[serde(default)]
    pub share_process_namespace: Option<bool>,
    /// Defaults of the containers.
    #[serde(default)]
    pub security_context: Option<SecurityContext>,
    /// Run first, one after the other.
    #[serde(borrow, default)]
    pub init_containers: Option<Vec<Container<'a>>>,
    /// Run together.
    #[serde(borrow, default)]
    pub containers: Vec<Container<'a>>,
    /// What they mount.
    #[serde(borrow, default)]
    pub volumes: Option<Vec<Volume<'a>>>,
}

impl<'a> Spec<'a> {
    /// The init containers, none when absent.
    pub fn init(&self) -> &[Container<'a>] {
        self.init_containers.as_deref().unwrap_or_default()
    }

    /// All containers, init containers first.
    pub fn all(&self) -> impl Iterator<Item = &Container<'a>> {
        self.init().iter().chain(&self.containers)
    }

    /// Whether there is a volume of this name.
    pub fn has_volume(&self, name: &str) -> bool {
        self.volumes.iter().flatten().any(|volume| &*volume.name == name)
    }
}

/// A volume.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// What it is, if it is this.
    #[serde(borrow, default)]
    pub empty_dir: Option<EmptyDir<'a>>,
}

impl Volume<'_> {
    /// Whether what is written there stays in memory.
    pub fn is_tmpfs(&self) -> bool {
        self.empty_dir.as_ref().and_then(|found| found.medium.as_deref()) == Some("Memory")
    }
}

/// An empty directory.
#[derive(Debug, Deserialize)]
pub struct EmptyDir<'a> {
    /// `Memory` for a tmpfs.
    #[serde(borrow, default)]
    pub medium: Option<Text<'a>>,
}

/// Of a pod or a container.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityContext {
    /// The user that its processes run as.
    #[serde(default)]
    pub run_as_user: Option<i64>,
}

/// A container.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Its image.
    #[serde(borrow, default)]
    pub image: Option<Text<'a>>,
    /// Its variables.
    #[serde(borrow, default)]
    pub env: Option<Vec<Variable<'a>>>,
    /// Its mounts.
    #[serde(borrow, default)]
    pub volume_mounts: Option<Vec<Mount<'a>>>,
    /// Its user.
    #[serde(default)]
    pub security_context: Option<SecurityContext>,
    /// Its requests and limits.
    #[serde(borrow, default)]
    pub resources: Option<Resources<'a>>,
}

impl Container<'_> {
    /// Whether it mounts the volume.
    pub fn mounts(&self, volume: &str) -> bool {
        self.volume_mounts.iter().flatten().any(|mount| &*mount.name == volume)
    }

    /// The variable of this name.
    pub fn variable(&self, name: &str) -> Option<&Variable<'_>> {
        self.env.iter().flatten().find(|variable| &*variable.name == name)
    }
}

/// A variable.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variable<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Its value, when it stands in the pod.
    #[serde(borrow, default)]
    pub value: Option<Text<'a>>,
    /// Where its value comes from otherwise.
    #[serde(borrow, default)]
    pub value_from: Option<ValueFrom<'a>>,
}

impl Variable<'_> {
    /// The volume of the environment file that it is read from.
    pub fn file_volume(&self) -> Option<&str> {
        self.value_from.as_ref()?.file_key_ref.as_ref().map(|file| &*file.volume_name)
    }
}

/// Where a variable's value comes from.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueFrom<'a> {
    /// An environment file.
    #[serde(borrow, default)]
    pub file_key_ref: Option<FileKeyRef<'a>>,
}

/// An environment file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileKeyRef<'a> {
    /// The volume that holds it.
    #[serde(borrow)]
    pub volume_name: Text<'a>,
}

/// A mount.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount<'a> {
    /// The volume.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Where.
    #[serde(borrow)]
    pub mount_path: Text<'a>,
}

/// Requests and limits.
#[derive(Debug, Default, Deserialize)]
pub struct Resources<'a> {
    /// Limits.
    #[serde(borrow, default)]
    pub limits: Option<BTreeMap<Text<'a>, Value>>,
    /// Requests.
    #[serde(borrow, default)]
    pub requests: Option<BTreeMap<Text<'a>, Value>>,
}

impl Resources<'_> {
    /// Whether both resources are limited, and requested as they are limited.
    pub fn are_guaranteed(&self) -> bool {
        let Some(limits) = &self.limits else { return false };
        ["cpu", "memory"].into_iter().all(|name| {
            let limit = limits.get(name);
            limit.is_some() && self.requests.as_ref().and_then(|requests| requests.get(name)).or(limit) == limit
        })
    }
}
