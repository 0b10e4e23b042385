//! A record as the Secret that it is in the operator's namespace: one form for the operator and for whoever brings keys back.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kustody_core::secret::SecretBytes;

use crate::key_store::{Record, Written};

/// On every such Secret.
pub const LABEL: &str = "kustody.dev/local-key";
/// Type of such a Secret.
pub const TYPE: &str = "kustody.dev/local-key";

/// The record that a Secret holds.
pub fn read(secret: Secret) -> Record {
    let Secret { metadata, data, .. } = secret;
    Record {
        name: metadata.name.unwrap_or_default(),
        revision: metadata.resource_version.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        annotations: metadata.annotations.unwrap_or_default(),
        data: data.unwrap_or_default().into_iter().map(|(name, ByteString(value))| (name, SecretBytes::new(value))).collect(),
    }
}

/// What the API server says of a write in its answer: it notes the time of every write itself.
pub fn stamp(secret: &Secret) -> Written {
    let fields = secret.metadata.managed_fields.iter().flatten();
    Written {
        revision: secret.metadata.resource_version.clone().unwrap_or_default(),
        at: fields.filter_map(|managed| managed.time.as_ref()).map(|time| time.0).max(),
    }
}

/// The Secret that holds a record, at the record's revision if it has one.
#[expect(clippy::disallowed_methods, reason = "what is stored is ciphertext, or the generated root key, which is the stated exception")]
pub fn written(record: &Record) -> Secret {
    let ours = [("app.kubernetes.io/managed-by".to_owned(), "kustody".to_owned()), (LABEL.to_owned(), "true".to_owned())];
    Secret {
        metadata: ObjectMeta {
            name: Some(record.name.clone()),
            resource_version: Some(record.revision.clone()).filter(|revision| !revision.is_empty()),
            labels: Some(record.labels.clone().into_iter().chain(ours).collect()),
            annotations: Some(record.annotations.clone()),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(record.data.iter().map(|(name, value)| (name.clone(), ByteString(value.expose().to_vec()))).collect()),
        ..Secret::default()
    }
}
