//! What the agent and the broker say to each other: the pinned plan, the release, the refusal.
//!
//! The agent sends `POST /v1/release` with its projected token as bearer and the pinned [`Plan`] as JSON body.
//! The broker answers 200 with an encoded [`Release`] (the only way a value leaves the broker), or an error status
//! with a [`Refusal`] as JSON.

use serde::{Deserialize, Serialize};

/// The audience of the token that an agent (or the controller, for `/v1/inspect`) presents to the broker.
pub const AUDIENCE: &str = "broker.kustody.dev";
/// The name that the broker's certificate carries, whatever address it is reached by.
pub const BROKER_NAME: &str = "broker.kustody.dev";
/// Where a binding's files appear in the containers that it serves: `<FILES_ROOT>/<binding>/`.
pub const FILES_ROOT: &str = "/var/run/secrets/kustody.dev";
/// Where the agent alone mounts the volumes of environment files: `<ENV_ROOT>/<binding>/`.
pub const ENV_ROOT: &str = "/var/run/kustody.dev/env";
/// The name of the environment file in its volume.
pub const ENV_FILE: &str = "env";
/// Content type of an encoded [`Release`].
pub const RELEASE_TYPE: &str = "application/vnd.kustody.release";
/// The largest release, values and framing together.
pub const MAX_RELEASE: usize = 1 << 20;
/// Environment variables of the agent container, set by admission.
pub mod env {
    /// The pinned [`super::Plan`] as JSON.
    pub const PLAN: &str = "KUSTODY_PLAN";
    /// `https://IP:PORT` of the broker.
    pub const BROKER: &str = "KUSTODY_BROKER";
    /// PEM of the authority that signs the broker's certificate.
    pub const CA: &str = "KUSTODY_CA";
    /// Seconds after which `init` gives up (default 120).
    pub const DEADLINE: &str = "KUSTODY_DEADLINE_SECONDS";
}

/// What admission promised to a pod; pinned in the agent container's environment, which nobody can change later.
///
/// It names things and holds no value. The broker treats it as untrusted: it can narrow what is authorized, never widen it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// Format of the plan: 1.
    pub version: u8,
    /// One entry for each binding that serves the pod, in order of name.
    pub bindings: Vec<PlannedBinding>,
}

/// The part of a [`Plan`] that one binding promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedBinding {
    /// Name of the `SecretBinding`.
    pub name: String,
    /// Its UID: a binding of the same name that was made later is another one.
    pub uid: String,
    /// Files, in order of path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PlannedFile>,
    /// Variables, in the order of the binding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<PlannedVariable>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedFile {
    /// Path below the binding's directory.
    pub path: String,
    /// Name of the secret in the binding.
    pub secret: String,
    /// Member of the secret's JSON object; absent: the whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// Permission bits, for example 0o400 (256).
    pub mode: u32,
}

/// One environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedVariable {
    /// Name of the variable.
    pub name: String,
    /// Name of the secret in the binding.
    pub secret: String,
    /// Member of the secret's JSON object; absent: the whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
}

/// Why the broker did not answer with values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// Machine-readable, `CamelCase`.
    pub reason: String,
    /// Names the object, the field, the rule and the remedy to those who may know.
    pub message: String,
    /// Finds the audit record of this refusal.
    pub correlation_id: String,
    /// Whether the same request may succeed later without a change of the pod.
    pub retry: bool,
}
