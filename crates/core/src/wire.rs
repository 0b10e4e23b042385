//! What the agent and the broker say to each other: the pinned plan, the release, the refusal.
//!
//! The agent sends `POST /v1/release` with its projected token as bearer and the pinned [`Plan`] as JSON body.
//! The broker answers 200 with an encoded [`Release`] (the only way a value leaves the broker), or an error status
//! with a [`Refusal`] as JSON. The [`watch`] of a running pod says first what the pod has, and waits for something else.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret::SecretBytes;

pub mod watch;

use watch::Revision;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at what they made")]
mod tests;

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
/// The most that one answer to an [`InspectRequest`] seals anew: an object has a limit, and its spec holds as much already.
pub const MAX_RESEALED: usize = 512 * 1024;
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
    /// Finds the audit record of this refusal, or the broker's log line where there was nobody to write a record of.
    pub correlation_id: String,
    /// Whether the same request may succeed later without a change of the pod.
    pub retry: bool,
}

/// One value of a [`Release`].
pub struct ReleasedValue {
    /// Name of the binding.
    pub binding: String,
    /// Name of the secret in it.
    pub secret: String,
    /// Member of the secret's JSON object, as the plan asks for it.
    pub property: Option<String>,
    /// The value itself.
    pub value: SecretBytes,
}

/// Something that the plan names and that is not given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Withdrawn {
    /// Name of the binding.
    pub binding: String,
    /// What of it: a secret's name, or empty for the whole binding.
    pub item: String,
    /// The object, the field, the rule and the remedy.
    pub reason: String,
}

/// The answer to an agent: the only form in which values leave the broker.
#[derive(Default)]
pub struct Release {
    /// What is given.
    pub values: Vec<ReleasedValue>,
    /// What is not, with the reason.
    pub withdrawn: Vec<Withdrawn>,
    /// Which state of each binding this is; for those alone who asked for it (`accept: `[`watch::WITH_REVISIONS`]).
    pub revisions: Vec<Revision>,
}

/// Why an answer cannot be sent or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Larger than [`MAX_RELEASE`].
    #[error("the release is larger than 1 MiB")]
    TooLarge,
    /// Not what an encoder of this version writes.
    #[error("the release cannot be read: it is truncated, altered or of another version")]
    Malformed,
}

const MAGIC: &[u8; 4] = b"KRL1";
/// The same with revisions after the withdrawn list.
const MAGIC_REVISIONS: &[u8; 4] = b"KRL2";
const ABSENT: u32 = u32::MAX;

impl Release {
    /// The bytes on the wire: magic, the withdrawn list as JSON, the revisions as JSON if there are any, then each value's
    /// names and bytes, all length-prefixed.
    #[expect(clippy::disallowed_methods, reason = "the one encoder through which values leave the broker")]
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, FrameError> {
        let withdrawn = serde_json::to_vec(&self.withdrawn).map_err(|_| FrameError::Malformed)?;
        let revisions = match self.revisions.as_slice() {
            [] => None,
            some => Some(serde_json::to_vec(some).map_err(|_| FrameError::Malformed)?),
        };
        let head = MAGIC.len() + 4 + withdrawn.len() + revisions.as_ref().map_or(0, |revisions| 4 + revisions.len());
        let size = self.values.iter().fold(head, |size, v| {
            size + 16 + v.binding.len() + v.secret.len() + v.property.as_ref().map_or(0, String::len) + v.value.len()
        });
        if size > MAX_RELEASE {
            return Err(FrameError::TooLarge);
        }
        // Reserved at once: a vector that grows leaves copies of what it held behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(size));
        bytes.extend_from_slice(if revisions.is_some() { MAGIC_REVISIONS } else { MAGIC });
        put(&mut bytes, &withdrawn)?;
        if let Some(revisions) = revisions {
            put(&mut bytes, &revisions)?;
        }
        for value in &self.values {
            put(&mut bytes, value.binding.as_bytes())?;
            put(&mut bytes, value.secret.as_bytes())?;
            match &value.property {
                Some(property) => put(&mut bytes, property.as_bytes())?,
                None => bytes.extend_from_slice(&ABSENT.to_be_bytes()),
            }
            put(&mut bytes, value.value.expose())?;
        }
        Ok(bytes)
    }

    /// Reads what [`Release::encode`] wrote; never panics, whatever the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        if bytes.len() > MAX_RELEASE {
            return Err(FrameError::TooLarge);
        }
        let (magic, mut rest) = bytes.split_first_chunk::<4>().ok_or(FrameError::Malformed)?;
        let with_revisions = magic == MAGIC_REVISIONS;
        if magic != MAGIC && !with_revisions {
            return Err(FrameError::Malformed);
        }
        let withdrawn = json(&mut rest)?;
        let revisions = if with_revisions { json(&mut rest)? } else { Vec::new() };
        let mut values = Vec::new();
        while !rest.is_empty() {
            values.push(ReleasedValue {
                binding: text(&mut rest)?.ok_or(FrameError::Malformed)?,
                secret: text(&mut rest)?.ok_or(FrameError::Malformed)?,
                property: text(&mut rest)?,
                value: SecretBytes::new(take(&mut rest)?.ok_or(FrameError::Malformed)?.to_vec()),
            });
        }
        Ok(Self { values, withdrawn, revisions })
    }
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) -> Result<(), FrameError> {
    let length = u32::try_from(part.len()).map_err(|_| FrameError::TooLarge)?;
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(part);
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, FrameError> {
    let (length, tail) = rest.split_first_chunk::<4>().ok_or(FrameError::Malformed)?;
    let length = u32::from_be_bytes(*length);
    *rest = tail;
    if length == ABSENT {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| FrameError::Malformed)?;
    let (part, tail) = rest.split_at_checked(length).ok_or(FrameError::Malformed)?;
    *rest = tail;
    Ok(Some(part))
}

fn json<T: for<'de> Deserialize<'de>>(rest: &mut &[u8]) -> Result<Vec<T>, FrameError> {
    let part = take(rest)?.ok_or(FrameError::Malformed)?;
    serde_json::from_slice(part).map_err(|_| FrameError::Malformed)
}

fn text(rest: &mut &[u8]) -> Result<Option<String>, FrameError> {
    take(rest)?.map(|part| String::from_utf8(part.to_vec()).map_err(|_| FrameError::Malformed)).transpose()
}

/// `POST /v1/inspect`: the controller asks whether a binding would open, and gets booleans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InspectRequest {
    /// Namespace of the binding.
    pub namespace: String,
    /// Name of the binding.
    pub binding: String,
    /// Its UID.
    pub uid: String,
    /// The generation that the controller looks at; a broker that has not seen it yet says so (409).
    pub generation: i64,
    /// Whether values that are sealed for an older sealing key are to be sealed anew.
    #[serde(default)]
    pub reseal: bool,
}

/// The answer to an [`InspectRequest`]: booleans and reasons, never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InspectAnswer {
    /// Each secret of the binding: whether it opens.
    pub secrets: Vec<Inspected>,
    /// Each variable of the binding: whether an environment file can carry its value.
    pub variables: Vec<Inspected>,
    /// Each file of the binding that asks for a property: whether the value has it.
    pub files: Vec<Inspected>,
    /// What was asked to be sealed anew: ciphertext for the same places, under the same keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resealed: Vec<ResealedValue>,
    /// Why something that is outdated is not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_resealed: Vec<String>,
}

/// A value that was opened and sealed anew for the same place; public, like what it replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResealedValue {
    /// Name of the secret.
    pub name: String,
    /// The new sealed value.
    pub sealed: String,
}

/// One item of an [`InspectAnswer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspected {
    /// Name of the secret or variable, or path of the file.
    pub name: String,
    /// Whether it can be had.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
