//! `SecretBinding`: which pods get which secrets, how, and under which conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which pods get which secrets, and how.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kustody.dev",
    version = "v1alpha1",
    kind = "SecretBinding",
    namespaced,
    status = "SecretBindingStatus",
    shortname = "sbind",
    category = "kustody",
    doc = "Which pods get which secrets, how, and under which conditions.",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.size() <= 63 && !(self.metadata.name in ['true', 'false', 'enabled', 'required'])")
        .message("metadata.name: a binding's name is a value of the label kustody.dev/inject: at most 63 characters, and not true, false, enabled or required"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.matchingPods"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("!has(self.update) || !has(self.update.mode) || self.update.mode != 'Restart'")
        .message("spec.update.mode: Restart comes in a later release; use Live for files, or OnRestart and restart the workload to deliver a changed value"),
    validation = Rule::new("!has(self.update) || !has(self.update.mode) || self.update.mode != 'Live' || (has(self.deliver.files) && self.deliver.files.size() > 0)")
        .message("spec.update.mode: Live replaces files, and spec.deliver names none: variables change only when a container starts; deliver a file, or use OnRestart"),
    validation = Rule::new("!has(self.deliver.files) || self.deliver.files.all(f, self.secrets.exists(s, s.name == f.secret))")
        .message("spec.deliver.files[].secret must be the name of an entry of spec.secrets; correct the name or add the entry"),
    validation = Rule::new("!has(self.deliver.env) || self.deliver.env.all(e, self.secrets.exists(s, s.name == e.secret))")
        .message("spec.deliver.env[].secret must be the name of an entry of spec.secrets; correct the name or add the entry"),
)]
#[serde(rename_all = "camelCase")]
pub struct SecretBindingSpec {
    /// Which pods are meant.
    pub workloads: Workloads,
    /// What they get.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<SecretSource>,
    /// How they get it.
    pub deliver: Deliver,
    /// What happens when a value changes. Absent: `OnRestart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
}

/// Which pods are meant. A pod must fit every part. The identity is the boundary; the rest narrows for convenience.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workloads {
    /// Names of service accounts of this namespace. Whoever may create a pod with such a service account can have what the binding gives.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub service_accounts: Vec<String>,
    /// Labels of the pods. Absent: all pods of the service accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Names of containers, init containers included. `["*"]` or absent: the container that `kubectl.kubernetes.io/default-container` names, else all containers but those of known infrastructure (meshes, queue-proxy, Argo's wait and the like).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63), regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$")))]
    pub containers: Vec<String>,
}

/// One secret and where it comes from; exactly one source.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("[has(self.sealed), has(self.store), has(self.kubernetesSecret)].exists_one(p, p)")
        .message("spec.secrets[]: name exactly one source: sealed (store and kubernetesSecret come in later releases)"),
    validation = Rule::new("!has(self.store)")
        .message("spec.secrets[].store: secrets of a store are not available in this release; use sealed (kubectl kustody seal)"),
    validation = Rule::new("!has(self.kubernetesSecret)")
        .message("spec.secrets[].kubernetesSecret: existing Kubernetes Secrets are not available as a source in this release; use sealed (kubectl kustody seal)"),
)]
#[serde(rename_all = "camelCase")]
pub struct SecretSource {
    /// Name by which `deliver` speaks of it. Part of what a sealed value is bound to: renaming it needs sealing again.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A value sealed for an `EncryptionKey` of this namespace; ciphertext that may live in git.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
    /// A secret of a provider's store. Refused in this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
    /// An existing Kubernetes Secret. Refused in this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_secret: Option<KubernetesSecret>,
}

/// A sealed value.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    /// Name of the `EncryptionKey`, in the binding's own namespace.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// What `kubectl kustody seal` prints: one base64url line. It opens only for this namespace, binding and secret name.
    #[schemars(length(min = 1, max = 524_288))]
    pub value: String,
}

/// A secret of a provider's store.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// Name of the `KeyProvider`.
    #[schemars(length(min = 1, max = 253))]
    pub provider: String,
    /// Id of the secret at the provider.
    #[schemars(length(min = 1, max = 512))]
    pub id: String,
    /// Version or stage; absent: the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// An existing Kubernetes Secret.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesSecret {
    /// Name of the Secret in this namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// How the secrets arrive.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("(has(self.files) && self.files.size() > 0) || (has(self.env) && self.env.size() > 0)")
        .message("spec.deliver: name at least one file or one variable"),
    validation = Rule::new("!has(self.exec)")
        .message("spec.deliver.exec: the exec wrapper is not available in this release; use files, or env on nodes of Kubernetes 1.35 or newer"),
    validation = Rule::new("!has(self.files) || self.files.all(f, !self.files.exists(g, g.path.startsWith(f.path + '/')))")
        .message("spec.deliver.files[].path: one path is a directory of another; rename one of them"),
)]
#[serde(rename_all = "camelCase")]
pub struct Deliver {
    /// Files below `/var/run/secrets/kustody.dev/<binding>/`, on a tmpfs that only the containers that the binding names mount, read-only. Prefer files: a variable's value ends in the container runtime's metadata on disk and in `/proc`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into()]))]
    pub files: Vec<File>,
    /// Environment variables, through a file that the kubelet reads when it starts the container (`fileKeyRef`); every node's kubelet must be 1.35 or newer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<Variable>,
    /// Size limit of each tmpfs, a quantity between `64Ki` and `16Mi`. Absent: `4Mi`. It counts against the pod's memory. Files may take half of it, each in pages of 4 KiB: both states are there while one takes the place of the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(
        pattern = r"^((6[4-9]|[7-9][0-9]|[1-9][0-9]{2,3}|1[0-5][0-9]{3}|16[0-2][0-9]{2}|163[0-7][0-9]|1638[0-4])Ki|([1-9]|1[0-6])Mi)$"
    ))]
    pub size_limit: Option<String>,
    /// Start the workload through a wrapper that sets the variables. Refused in this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<bool>,
}

/// One file.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!self.path.startsWith('/') && !self.path.split('/').exists(p, p == '' || p == '.' || p == '..' || p.startsWith('..'))")
        .message("spec.deliver.files[].path: a path is relative and stays below the binding's directory: no segment is empty, a dot or begins with two dots; correct the path"),
)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Name of the secret.
    #[schemars(length(min = 1, max = 63))]
    pub secret: String,
    /// Member of the secret's value, which is then a JSON object. A string arrives as it is, anything else as JSON. Absent: the whole value, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub property: Option<String>,
    /// Path below the binding's directory, for example `db.json`.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[A-Za-z0-9._/-]+$"))]
    pub path: String,
    /// Permission bits, for example `0400`. Can be had only where all containers of the binding name the same non-root `runAsUser`; then absent means `0400`. Elsewhere files are `0444` in a volume that only these containers mount, and another mode is refused when the pod is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub mode: Option<i32>,
}

/// One environment variable.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Name of the variable. Names that change how programs load, trust or connect (`LD_*`, `PATH`, `PYTHON*`, `*_PROXY` and others) are refused unless the provider's `allowVariables` names them.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Name of the secret.
    #[schemars(length(min = 1, max = 63))]
    pub secret: String,
    /// Member of the secret's value, which is then a JSON object. Absent: the whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub property: Option<String>,
}

/// What happens when a value changes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<UpdateMode>,
}

/// How a change reaches pods. Absent: `OnRestart`, a pod has the values of its start. `Live`: files of running pods are replaced, all files of the binding at once, by a native sidecar; it needs at least one file, and every node's kubelet must be 1.29 or newer. Variables are not replaced: they change only when a container starts. What is withdrawn (a deleted binding, a grant, a disabled key) stays in pods that hold it as it was, and is not updated. A pod follows the mode that it was created under. `Restart` comes in a later release and is refused in this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateMode {
    /// A pod has the values of its start.
    OnRestart,
    /// Files are replaced while the pod runs.
    Live,
    /// The workload is restarted. Comes in a later release; refused in this one.
    Restart,
}

/// What the controller has seen.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretBindingStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: every reference resolves, and pods that ask are admitted. `NotAskedFor`: pods are selected but do not ask. `PodsWithoutSecrets`: live pods that should have its secrets were created while admission did not serve them; their events say what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Each secret: whether it resolves, and what is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<SecretStatus>,
    /// Each variable: whether an environment file can carry its value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub variables: Vec<VariableStatus>,
    /// How many live pods the binding selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching_pods: Option<i32>,
    /// Values sealed anew for the keys' newest sealing keys, as `kubectl kustody reseal` asked; gone once it has read them. Ciphertext, like `spec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resealed: Option<Resealed>,
    /// What running pods hold, as their `kustody-watch` told the broker within the last minutes; for pods that were created with `update.mode: Live`. Looked at every half minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldByPods>,
}

/// How many pods hold what.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldByPods {
    /// Pods that follow the binding. One that went to another broker replica counts at both for up to two minutes.
    pub pods: i32,
    /// Those of them that do not hold the newest values: not given yet, not written, or withdrawn.
    pub behind: i32,
    /// Those of them from which something was withdrawn; they keep what they had.
    pub withdrawn: i32,
    /// At most eight: the newest, then those that most pods hold.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["revision".into()]))]
    #[schemars(length(max = 8))]
    pub revisions: Vec<HeldRevision>,
}

/// One state of the binding's values.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldRevision {
    /// Its name: a hash over names and ciphertext, with which the name of the directory begins that `..data` points to, after its two dots.
    pub revision: String,
    /// How many pods hold it.
    pub pods: i32,
    /// Whether it is the newest.
    pub newest: bool,
}

/// Values that were sealed anew.
// An absent message is written as null: a merge patch would keep the old one.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resealed {
    /// The token of the annotation `kustody.dev/reseal-requested` that asked for them.
    pub request: String,
    /// Why not everything that is outdated is among `secrets`, and what to do.
    #[serde(default)]
    pub message: Option<String>,
    /// Those that were sealed for an older sealing key.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<ResealedSecret>,
}

/// One value, sealed anew for the same place.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResealedSecret {
    /// Name of the secret.
    pub name: String,
    /// SHA-256 of the sealed value that it replaces, hex.
    pub replaces_sha256: String,
    /// The new sealed value.
    pub value: String,
}

/// One secret, resolved or not.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretStatus {
    /// Name of the secret.
    pub name: String,
    /// Whether it can be opened and given.
    pub resolved: bool,
    /// `CamelCase`, as in conditions.
    pub reason: String,
    /// The object, the field, the rule and the remedy, when it is not resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One variable.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariableStatus {
    /// Name of the variable.
    pub name: String,
    /// Whether an environment file can carry its value.
    pub env_file: bool,
    /// Why not: what the value would need to be; never the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
