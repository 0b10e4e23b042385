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
    doc = "One key's whole life: create or adopt, grants, sealing, rotation, safe deletion.",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.providerRef.name"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Outdated", type_ = "integer", json_path = ".status.sealedValues.outdated"),
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
    validation = Rule::new("!has(self.rotation) || !(has(self.rotation.every) && has(self.rotation.schedule))")
        .message("spec.rotation: name an interval (every) or a cron expression (schedule), not both"),
    validation = Rule::new("!has(self.rotation) || !has(self.rotation.timeZone) || has(self.rotation.schedule)")
        .message("spec.rotation.timeZone is the time zone of spec.rotation.schedule; the window has one of its own (spec.rotation.window.timeZone)"),
    validation = Rule::new("!has(self.rotation) || has(self.rotation.every) || has(self.rotation.schedule) || !(has(self.rotation.window) || has(self.rotation.jitter))")
        .message("spec.rotation: window and jitter say when a scheduled rotation happens; add every or schedule, or remove them"),
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
    /// The state that the key should have. Absent: `Enabled`. `Disabled` stops release within a minute and is undone by `Enabled`. `PendingDeletion` also destroys the key when the window of `deletion` ends; until then `Enabled` takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_state: Option<DesiredState>,
    /// How `desiredState: PendingDeletion` is carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// When new versions are made. Each rotation makes a new version of the key and a new sealing key; what was sealed before still opens. Absent: never.
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

/// How a key is scheduled for deletion.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Days between `PendingDeletion` and the end of the key. Absent: 30. A change does not move a deletion that is scheduled already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 7, max = 30))]
    pub window_days: Option<i32>,
    /// Names of the SecretBindings of this namespace that use the key and may lose it. While a binding that is not named here uses the key, it is not scheduled for deletion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub even_though_used_by: Vec<String>,
}

/// When new versions are made.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// Interval between versions in days or hours, for example `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,4}[dh]$"))]
    pub every: Option<String>,
    /// Cron expression of five fields in place of an interval, for example `0 3 1 */3 *`. A time that was missed is made up for once; within an hour of the last version nothing is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 128))]
    pub schedule: Option<String>,
    /// Time zone of `schedule`, an IANA name such as `Europe/Berlin`. Absent: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// When in the day a scheduled rotation may happen; one that is due outside waits for the next window. Absent: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<RotationWindow>,
    /// Spreads the rotations of many keys, for example `30m`: each is later by a part of it that its UID decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,4}[dhm]$"))]
    pub jitter: Option<String>,
    /// A token; each new one rotates exactly once, at any time of the day (`kubectl kustody rotate` writes it), and one of the last sixteen that comes back rotates nothing. One that is there when the key is made or adopted asks for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"))]
    pub request: Option<String>,
}

/// When in the day a scheduled rotation may happen.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationWindow {
    /// Local time of the start, for example `02:00`.
    #[schemars(regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub start: String,
    /// Length in hours or minutes, at most a day, for example `3h`.
    #[schemars(regex(pattern = r"^([1-9]|1[0-9]|2[0-4])h$|^[1-9][0-9]{0,2}m$"))]
    pub duration: String,
    /// IANA time zone of `start`. Absent: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
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
    /// The state that this object last gave the key. When `state` is another, somebody changed it at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_state: Option<DesiredState>,
    /// When the key will be destroyed, while it is scheduled for deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_time: Option<Time>,
    /// Rotations that were made and that are to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,
    /// Values of this namespace's SecretBindings that are sealed for this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_values: Option<SealedValues>,
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

/// Rotations that were made and that are to come.
// Absent members are written as null: a merge patch would keep the old ones.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// The last `spec.rotation.request` that was carried out.
    #[serde(default)]
    pub last_request: Option<String>,
    /// The last sixteen that were carried out, oldest first: none of them rotates again when it comes back.
    // A merge patch never has to empty it: what was carried out stays so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub served_requests: Vec<String>,
    /// When the last rotation was made.
    #[serde(default)]
    pub last_rotation: Option<Time>,
    /// When the next scheduled rotation is due.
    #[serde(default)]
    pub next_rotation: Option<Time>,
}

impl RotationStatus {
    /// Whether a request was carried out, as far as is remembered.
    pub fn served(&self, request: &str) -> bool {
        self.last_request.as_deref() == Some(request) || self.served_requests.iter().any(|served| served == request)
    }

    /// Remembers a request as carried out.
    pub fn serve(&mut self, request: String) {
        // An earlier release remembered the last one alone.
        let earlier = self.last_request.take().filter(|last| !self.served_requests.contains(last));
        self.served_requests.extend(earlier);
        self.served_requests.retain(|served| *served != request);
        self.served_requests.push(request.clone());
        let forgotten = self.served_requests.len().saturating_sub(16);
        self.served_requests.drain(..forgotten);
        self.last_request = Some(request);
    }
}

/// How many values are sealed for the key.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedValues {
    /// All of them.
    pub total: i32,
    /// Those sealed for an older sealing key than the published one. They open; `kubectl kustody reseal` brings them up to date.
    pub outdated: i32,
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
    /// The provider does not find it, or cannot use it now.
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
    /// Of a rotation, or of one that this operation takes the place of: the primary version that it began with. When another is primary, the rotation took place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_version: Option<String>,
    /// Of such a rotation: the `spec.rotation.request` that asked for it; absent for a scheduled one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// A side effect at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operation {
    /// A new key.
    Create,
    /// A new version of the key.
    Rotate,
    /// Make the key usable.
    Enable,
    /// Make the key unusable.
    Disable,
    /// Have the key destroyed later.
    ScheduleDeletion,
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
    /// Version of the key that wraps its seed; absent when that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_version: Option<String>,
}
