//! Conditions and their reasons, the protocol between controllers and people.

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use strum::IntoStaticStr;

/// Which question a condition answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum ConditionType {
    /// The object does what its spec asks for.
    Ready,
    /// `KeyProvider`: the root key lies in the cluster beside what it protects.
    RootKeyInCluster,
    /// `KeyProvider`: audit records survive what a disk survives.
    AuditDurable,
    /// `EncryptionKey`: the key is taken out of use as its spec asks; absent while the spec asks for an enabled key.
    Retiring,
    /// `EncryptionKey`: new versions are made as its spec asks; absent without `spec.rotation`.
    Rotating,
    /// `SecretBinding`: no pod that it selects asks for it.
    NotAskedFor,
    /// `SecretBinding`: live pods that should have its secrets have none.
    PodsWithoutSecrets,
}

/// Why a condition has its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum Reason {
    /// Everything is as asked.
    Available,
    /// The spec cannot be acted on.
    InvalidSpec,
    /// The provider's object does not exist.
    ProviderNotFound,
    /// The provider is there, but not ready.
    ProviderNotReady,
    /// The provider did not answer.
    ProviderUnavailable,
    /// The provider refuses us.
    ProviderRefuses,
    /// `access` of the provider has no line that allows this.
    AccessDenied,
    /// An earlier key of this object's name was retained.
    RetainedKeyFound,
    /// The key belongs to another object.
    Conflict,
    /// The key that the object holds is not the key that its spec names.
    KeyIdMismatch,
    /// The key does not exist any more.
    KeyNotFound,
    /// The key was disabled or scheduled for deletion behind our back.
    KeyNotUsable,
    /// The key is being made.
    Creating,
    /// The key is disabled, as the spec asks.
    Disabled,
    /// The key is scheduled for deletion, as the spec asks.
    PendingDeletion,
    /// The key was destroyed, as the spec asked.
    Destroyed,
    /// Bindings use the key, and the spec does not say that they may lose it.
    InUse,
    /// The next rotation has its time.
    Scheduled,
    /// The spec names no time; rotations are made on request.
    OnRequest,
    /// A referenced `EncryptionKey` does not exist.
    EncryptionKeyNotFound,
    /// A referenced `EncryptionKey` is not ready.
    EncryptionKeyNotReady,
    /// A sealed value cannot be read or is sealed for another place.
    SealedValueInvalid,
    /// No grant lets the service account open values under the key.
    NotGranted,
    /// A variable is one that changes how programs load, trust or connect.
    VariableRefused,
    /// An environment file cannot carry the value.
    VariableNotRepresentable,
    /// The broker did not answer.
    BrokerUnavailable,
    /// The root key that the keys are under is gone, or another one is in its place.
    RootKeyLost,
    /// The root key lies in a Secret that was generated beside the keys.
    GeneratedRootKey,
    /// The root key comes from a mounted file.
    MountedRootKey,
    /// Audit records are on a claim of their own.
    PersistentVolume,
    /// Audit records are in an emptyDir.
    EmptyDir,
    /// Pods that the binding selects ask for it.
    PodsAsk,
    /// Pods that the binding selects carry no label, nor does their namespace.
    NoPodAsks,
    /// The binding selects no pod at the moment.
    NoMatchingPods,
    /// A live pod should have secrets and has no agent that could have fetched them.
    SecretsMissing,
    /// Every live pod that should have secrets has an agent.
    NoSecretsMissing,
}

/// What a controller says of one condition; [`set`] merges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which condition.
    pub kind: ConditionType,
    /// `Some(true)` is True, `Some(false)` False, `None` Unknown.
    pub status: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// The object, the field, the rule and the remedy.
    pub message: String,
}

/// Merges `seen` into `conditions`: the transition time changes only with the status.
///
/// Returns whether reason, status or message changed, that is, whether there is something to tell.
pub fn set(conditions: &mut Vec<Condition>, seen: &Observation, generation: Option<i64>, now: &Time) -> bool {
    let type_: &'static str = seen.kind.into();
    let reason: &'static str = seen.reason.into();
    let status = match seen.status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let next = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: seen.message.clone(),
        observed_generation: generation,
        last_transition_time: now.clone(),
    };
    if let Some(old) = conditions.iter_mut().find(|c| c.type_ == type_) {
        let changed = old.status != next.status || old.reason != next.reason || old.message != next.message;
        let since = if old.status == next.status { old.last_transition_time.clone() } else { now.clone() };
        *old = Condition { last_transition_time: since, ..next };
        return changed;
    }
    conditions.push(next);
    true
}

/// Whether `kind` is True for `generation` (any generation when `None`).
pub fn is_true(conditions: &[Condition], kind: ConditionType, generation: Option<i64>) -> bool {
    let type_: &'static str = kind.into();
    conditions.iter().any(|c| c.type_ == type_ && c.status == "True" && (generation.is_none() || c.observed_generation == generation))
}
