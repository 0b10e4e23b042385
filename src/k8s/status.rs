//! The one way in which status is written.

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Replaces `.status` of `object` with `status`, if the object is still the one that was read.
///
/// Guarantees: the write is refused (`409`) when anybody wrote the object since, so a decision from a stale read is never
/// recorded. Requires: `<kind>/status: patch`.
pub async fn replace<K, S>(api: &Api<K>, object: &K, status: &S) -> Result<K, kube::Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug,
    S: Serialize,
{
    let mut next = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
    // A merge patch keeps what it does not name; naming the absent fields as null makes it a replacement.
    if let Value::Object(fields) = &mut next {
        for name in STATUS_FIELDS {
            fields.entry(*name).or_insert(Value::Null);
        }
    }
    let patch = json!({
        "metadata": {"resourceVersion": object.resource_version(), "uid": object.uid()},
        "status": next,
    });
    api.patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await
}

/// Every field that a status of ours may have; `tests` hold it against the schemas.
const STATUS_FIELDS: &[&str] = &[
    "observedGeneration",
    "conditions",
    "identity",
    "capabilities",
    "keyId",
    "providerUid",
    "state",
    "appliedState",
    "deletionTime",
    "rotation",
    "sealedValues",
    "versions",
    "pendingOperation",
    "sealingKey",
    "sealingKeys",
    "secrets",
    "variables",
    "matchingPods",
    "resealed",
    "held",
];

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;
    use kustody_api::{EncryptionKey, KeyProvider, SecretBinding};

    use super::STATUS_FIELDS;

    #[test]
    fn every_status_field_of_every_kind_can_be_cleared() {
        for crd in [KeyProvider::crd(), EncryptionKey::crd(), SecretBinding::crd()] {
            let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
            let status = &schema["openAPIV3Schema"]["properties"]["status"]["properties"];
            for field in status.as_object().unwrap().keys() {
                assert!(STATUS_FIELDS.contains(&field.as_str()), "{field} is missing in STATUS_FIELDS");
            }
        }
    }
}
