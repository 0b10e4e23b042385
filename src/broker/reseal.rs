//! Seals values anew for the same place under the newest sealing key of the same key; the plaintext stays here.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use kustody_core::sealing::{self, Place};
use kustody_core::secret::SecretBytes;
use kustody_core::wire::ResealedValue;

use super::authorize::Allowed;
use super::open::{Failure, Opener};

/// Each of `values` that is sealed for an older sealing key than its `EncryptionKey` publishes.
pub async fn reseal(
    opener: &Opener,
    sources: &[(String, Result<Allowed, String>)],
    values: &BTreeMap<String, Arc<SecretBytes>>,
) -> Result<Vec<ResealedValue>, Failure> {
    let mut resealed = Vec::new();
    for (name, source) in sources {
        let (Ok(allowed), Some(value)) = (source, values.get(name)) else { continue };
        let document = opener.document(&allowed.key, &allowed.provider).await?;
        if document.header.public_key_sha256 == allowed.sealed.header.public_key_sha256 {
            continue;
        }
        let (namespace, binding) = (allowed.binding.namespace().unwrap_or_default(), allowed.binding.name_any());
        let (secret, value) = (name.clone(), Arc::clone(value));
        let sealed = tokio::task::spawn_blocking(move || {
            sealing::seal(&document, &Place { namespace: &namespace, binding: &binding, secret: &secret }, &value)
        });
        match sealed.await {
            Ok(Ok(sealed)) => resealed.push(ResealedValue { name: name.clone(), sealed: sealed.to_string() }),
            Ok(Err(error)) => return Err(Failure::Never(format!("spec.secrets[{name}]: {error}"))),
            Err(_) => return Err(Failure::Later("the broker is stopping".to_owned())),
        }
    }
    Ok(resealed)
}
