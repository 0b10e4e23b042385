//! `EncryptionKey`: one key's whole life.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One key: made or adopted, granted, used for sealing, and never destroyed by accident.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kustody.dev",
    version = "v1alpha1",
    kind = "EncryptionKey",
    namespaced,
    status = "EncryptionKeyStatus",
    shortname = "ekey",
    category = "kustody",
    doc = "One key's whole life: create or adopt, grants, sealing, safe deletion.",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.providerRef.name"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Key", type_ = "string", json_path = ".status.keyId", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.providerRef == oldSelf.providerRef")
        .message("spec.providerRef cannot be changed: a key does not move; make another EncryptionKey"),
    validation = Rule::new("has(self.keySpec) == has(oldSelf.keySpec) && (!has(self.keySpec) || self.keySpec == oldSelf.keySpec)")
        .message("spec.keySpec cannot be changed; make another EncryptionKey"),
    validation = Rule::new("!has(self.adopt) || !has(oldSelf.adopt) || self.adopt.keyId == oldSelf.adopt.keyId")
        .message("spec.adopt.keyId cannot be changed: an EncryptionKey never changes its key; make another EncryptionKey"),
    validation = Rule::new("!has(self.desiredState) || self.desiredState == 'Enabled'")
        .message("spec.desiredState: only Enabled is available in this release; remove a grant to stop release to a service account"),
    validation = Rule::new("!has(self.rotation)")
        .message("spec.rotation: rotation is not available in this release; remove spec.rotation"),
    validation = Rule::new("!has(self.deletionPolicy) || self.deletionPolicy == 'Retain'")
        .message("spec.deletionPolicy: only Retain is available in this release: deleting the object keeps the key"),
)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionKeySpec {
    /// The `KeyProvider` that holds the key. Its `access` must allow this namespace to create or adopt keys. Immutable.
    pub provider_ref: ProviderRef,
    /// What kind of key. `SymmetricDefault` is AES-256. Absent: `SymmetricDefault`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_spec: Option<KeySpec>,
    /// Take over an existing key in place of making one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adopt>,
    /// The state that the key should have. Absent: `Enabled`. Only `Enabled` in this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_state: Option<DesiredState>,
    /// When new versions are made. Refused in this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// Which service accounts of this namespace may have values opened under this key. Empty: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["serviceAccount".into()]))]
    pub grants: Vec<Grant>,
    /// What happens to the key when this object is deleted. Absent: `Retain`. Only `Retain` in this release: the same YAML applied again finds the key and says how to take it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// Reference to a `KeyProvider`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRef {
    /// Name of the `KeyProvider`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeySpec {
    /// AES-256.
    SymmetricDefault,
}

/// An existing key to take over.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adopt {
    /// Id of the key at the provider, for `local` as `status.keyId` or the condition `RetainedKeyFound` shows it. Pinned once taken.
    #[schemars(length(min = 1, max = 512))]
    pub key_id: String,
    /// Key documents (`status.sealingKey.document`) of sealing keys that values are already sealed for; an empty cluster learns them here. Not needed for a key of the local provider that this cluster still has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 8192)))]
    pub sealing_keys: Vec<String>,
}

/// The state that a key should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DesiredState {
    /// Usable.
    Enabled,
    /// Not usable until enabled again.
    Disabled,
    /// Destroyed after a window, unless set to `Enabled` before.
    PendingDeletion,
}

/// When new versions are made.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// Interval between versions, for example `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// Cron expression in place of an interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Time zone of `schedule`, an IANA name such as `Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// When in the day a rotation may happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<RotationWindow>,
    /// Spread of rotations of many keys, for example `30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// A token; each change of it rotates exactly once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// When in the day a rotation may happen.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationWindow {
    /// Local time of the start, for example `02:00`.
    pub start: String,
    /// Length, for example `3h`.
    pub duration: String,
    /// IANA time zone of `start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// Who may do what under the key.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Name of a service account in this namespace.
    #[schemars(length(min = 1, max = 253))]
    pub service_account: String,
    /// What it may do.
    #[schemars(length(min = 1, max = 1))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub operations: Vec<GrantOperation>,
}

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GrantOperation {
    /// Have values opened that were sealed for this key.
    Open,
}

/// What happens to the key when its object is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The key stays at the provider, unused, and can be taken back.
    Retain,
    /// The key is scheduled for deletion. Refused in this release.
    Delete,
}

/// What the controller has seen and done.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionKeyStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: values can be sealed for this key and opened under it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Id of the key at the provider; pinned when the key was made or adopted, never changed after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// UID of the `KeyProvider` that the key was made with: a provider of the same name that was made later is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_uid: Option<String>,
    /// State at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<KeyState>,
    /// Versions of the key's material, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["version".into()]))]
    pub versions: Vec<KeyVersion>,
    /// A side effect that was begun and whose result is not recorded yet. After a crash it is looked up by its nonce, never repeated blindly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_operation: Option<PendingOperation>,
    /// The public key that new values are sealed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing_key: Option<SealingKey>,
    /// All sealing keys whose values can be opened, oldest first. For any other public key no call to the provider is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["publicKeySha256".into()]))]
    pub sealing_keys: Vec<SealingKeyRecord>,
}

/// State of a key at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyState {
    /// Being made.
    Pending,
    /// Usable.
    Enabled,
    /// Not usable until enabled again.
    Disabled,
    /// To be destroyed when its window ends.
    PendingDeletion,
    /// Gone.
    Destroyed,
    /// The provider has it but cannot use it now.
    Unavailable,
}

/// One version of the key's material.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyVersion {
    /// Number or name that the provider gives it.
    pub version: String,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// Whether new values are wrapped with it.
    pub primary: bool,
}

/// An intent: written before the side effect, removed with its result.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingOperation {
    /// What was begun.
    pub operation: Operation,
    /// Carried by the side effect, so that it can be found again.
    pub nonce: String,
    /// When it was begun.
    pub started: Time,
}

/// A side effect at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operation {
    /// A new key.
    Create,
    /// Take over an existing key.
    Adopt,
}

/// The public key that new values are sealed for.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealingKey {
    /// Version of the sealing key, from 1.
    pub version: i32,
    /// SHA-256 of the public key, hex.
    pub public_key_sha256: String,
    /// The key document: one base64url line that `kubectl kustody seal --key-document` takes. It is public.
    pub document: String,
}

/// A sealing key whose values can be opened.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealingKeyRecord {
    /// Version of the sealing key, from 1.
    pub version: i32,
    /// SHA-256 of the public key, hex.
    pub public_key_sha256: String,
}
