//! `KeyProvider`: one connection to a key and secret service, and who may reach what through it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A connection to a key and secret service. Cluster-scoped: endpoints and identities are decided here and nowhere else.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kustody.dev",
    version = "v1alpha1",
    kind = "KeyProvider",
    status = "KeyProviderStatus",
    shortname = "kprov",
    category = "kustody",
    doc = "One connection to a key and secret service, and who may reach what through it.",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Identity", type_ = "string", json_path = ".status.identity"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("[has(self.local), has(self.aws), has(self.openbao), has(self.azure), has(self.gcp)].exists_one(p, p)")
        .message("spec: name exactly one provider: local (aws, openbao, azure and gcp come in later releases)"),
    validation = Rule::new("!has(self.aws)").message("spec.aws: AWS is not available in this release; use spec.local"),
    validation = Rule::new("!has(self.openbao)").message("spec.openbao: OpenBao is not available in this release; use spec.local"),
    validation = Rule::new("!has(self.azure)").message("spec.azure: Azure is not available in this release; use spec.local"),
    validation = Rule::new("!has(self.gcp)").message("spec.gcp: Google Cloud is not available in this release; use spec.local"),
    validation = Rule::new("!has(self.limits)").message("spec.limits: budgets come with the cloud providers in a later release; remove spec.limits"),
    validation = Rule::new("has(self.local) == has(oldSelf.local)")
        .message("spec: the kind of provider cannot be changed, keys would be lost; make another KeyProvider"),
)]
#[serde(rename_all = "camelCase")]
pub struct KeyProviderSpec {
    /// The embedded software KMS: no cloud needed. Keys are stored as Secrets in the operator's namespace, each version wrapped by a root key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    /// AWS KMS, Secrets Manager and Parameter Store. Refused in this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<Later>,
    /// OpenBao or Vault: Transit and KV. Refused in this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openbao: Option<Later>,
    /// Azure Key Vault. Refused in this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<Later>,
    /// Google Cloud KMS and Secret Manager. Refused in this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcp: Option<Later>,
    /// Which namespaces may reach what through this provider. Nobody reaches anything without a line here; lines add up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub access: Vec<Access>,
    /// One budget for every component that calls the provider. Refused in this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// Settings of a provider that this release does not have; any content is accepted by the schema and refused by a rule that says so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Later {}

/// The embedded software KMS.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.rootKey) == has(oldSelf.rootKey) && (!has(self.rootKey) || self.rootKey == oldSelf.rootKey)")
        .message("spec.local.rootKey cannot be changed: the keys under the old root key would be lost"),
)]
#[serde(rename_all = "camelCase")]
pub struct Local {
    /// Where the root key comes from. Absent: `generated`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key: Option<RootKey>,
}

/// Where the root key of the local provider comes from; exactly one.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("[has(self.generated), has(self.file), has(self.passphrase)].exists_one(p, p)")
        .message("spec.local.rootKey: name exactly one of generated, file and passphrase"),
)]
#[serde(rename_all = "camelCase")]
pub struct RootKey {
    /// Generated with the first key, once, into a Secret beside the keys. Convenient, and no protection from whoever reads Secrets in the operator's namespace: condition `RootKeyInCluster` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<Generated>,
    /// Read from a file that is mounted into the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<RootKeyFile>,
    /// Derived from a passphrase in a file that is mounted into the operator. Salt and parameters are recorded with the first key, in a Secret of the operator's namespace, and never change after: who restores the keys needs that Secret (an export has it) and the passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<Passphrase>,
}

/// A generated root key has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Generated {}

/// A root key in a mounted file.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootKeyFile {
    /// Absolute path in the operator's containers, for example `/etc/kustody/root-key/key`. The file holds 32 bytes, raw or as base64, and is refused when its group or the world can read it.
    #[schemars(length(min = 2, max = 4096), regex(pattern = r"^/[^\x00]*$"))]
    pub path: String,
}

/// A root key that is derived from a passphrase.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Passphrase {
    /// Absolute path in the operator's containers, for example `/etc/kustody/root-key/key`. The file holds the passphrase: 12 to 256 bytes, of which one line end at the end is not a part. It is refused when its group or the world can read it. Whoever has the Secrets of the operator's namespace can guess at it without being slowed by anything but the derivation: take six or more random words.
    #[schemars(length(min = 2, max = 4096), regex(pattern = r"^/[^\x00]*$"))]
    pub path: String,
    /// How the root key is derived. Absent: `Argon2id`, for a provider that has no keys yet; one that has keys goes on as its root key was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derivation: Option<Derivation>,
}

/// How a root key is derived from a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Derivation {
    /// Argon2id (RFC 9106) with 64 MiB of memory, 3 passes and 4 lanes.
    Argon2id,
    /// PBKDF2-HMAC-SHA256 with 600,000 iterations, where a policy asks for an algorithm that NIST has approved. Guessing is much cheaper than with Argon2id.
    Pbkdf2HmacSha256,
}

/// One line of who may reach what.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.secrets) || self.secrets.size() == 0")
        .message("spec.access[].secrets: stored secrets are not available in this release; remove the list (sealed values need none)"),
)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Labels of the namespaces that this line is for; `{}` is every namespace. Who may label namespaces may widen access; `kubernetes.io/metadata.name` is set by the API server alone.
    pub namespaces: LabelSelector,
    /// Ids of stored secrets that may be named. `{namespace}` is a whole path segment and stands for the namespace of the binding, `*` stands only at the end. Example: `prod/{namespace}/*`. Refused in this release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 512), regex(pattern = r"^([^*{}/]+|\{namespace\})(/([^*{}/]+|\{namespace\}))*(/\*)?$"))
    )]
    pub secrets: Vec<String>,
    /// Whether `EncryptionKey`s of these namespaces may make new keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_keys: Option<bool>,
    /// Existing keys that `EncryptionKey`s of these namespaces may take over. A key that was made by an `EncryptionKey` of the same namespace (same UID) needs no line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub adopt: Vec<AdoptAccess>,
    /// Names out of the refused list (variables that change how programs load, trust or connect) that secrets under this provider may fill. A name that ends with `*` is a prefix. Without regard to case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*\*?$")))]
    pub allow_variables: Vec<String>,
}

/// Existing keys that may be taken over.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdoptAccess {
    /// Ids of keys. `{namespace}` is a whole path segment, `*` stands only at the end. Example: `alias/{namespace}/*`.
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 512), regex(pattern = r"^([^*{}/]+|\{namespace\})(/([^*{}/]+|\{namespace\}))*(/\*)?$"))
    )]
    pub ids: Vec<String>,
    /// What may be done with an adopted key. Without `Retire` nothing here can destroy it.
    #[schemars(length(min = 1, max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub operations: Vec<AdoptOperation>,
}

/// What may be done with an adopted key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdoptOperation {
    /// Wrap and unwrap with it.
    Use,
    /// Make new versions of it.
    Rotate,
    /// Disable it and schedule its deletion.
    Retire,
}

/// One budget for every component.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Calls per second to the provider.
    #[schemars(range(min = 1))]
    pub requests_per_second: i32,
}

/// What the controller has seen.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyProviderStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the provider answers. `RootKeyInCluster`, `AuditDurable`: what the installation does not survive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Who the provider says we are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// What the provider can do, for example `Wrap`, `CreateKeys`, `AssociatedData`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}
