//! Seals values anew for the same place under the newest sealing key of the same key; the plaintext stays here.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use kustody_core::sealing::{self, Place};
use kustody_core::secret::SecretBytes;
use kustody_core::wire::{MAX_RESEALED, ResealedValue};

use super::authorize::Allowed;
use super::open::{Failure, Opener};

/// What was sealed anew, and why something that is outdated was not.
type Resealed = (Vec<ResealedValue>, Vec<String>);

/// Each of `values` that is sealed for an older sealing key than its `EncryptionKey` publishes; `Err` when a provider does not
/// answer.
pub async fn reseal(
    opener: &Opener,
    sources: &[(String, Result<Allowed, String>)],
    values: &BTreeMap<String, Arc<SecretBytes>>,
) -> Result<Resealed, String> {
    let (mut resealed, mut reasons) = (Vec::new(), Vec::new());
    let (mut left, mut more) = (MAX_RESEALED, 0);
    for (name, source) in sources {
        let Ok(allowed) = source else { continue };
        if allowed.is_current() {
            continue;
        }
        let Some(value) = values.get(name) else {
            reasons.push(format!("spec.secrets[{name}] is outdated and does not open; status.secrets says why"));
            continue;
        };
        // What is sealed is as long as it was, but for the header.
        if left < allowed.sealed.to_string().len() * 2 && !resealed.is_empty() {
            more += 1;
            continue;
        }
        match anew(opener, allowed, name, value).await {
            Ok(sealed) => {
                left = left.saturating_sub(sealed.len());
                resealed.push(ResealedValue { name: name.clone(), sealed });
            }
            Err(Failure::Later(reason)) => return Err(reason),
            Err(Failure::Refused(reason) | Failure::Never(reason)) => reasons.push(reason),
        }
    }
    if more > 0 {
        reasons.push(format!("{more} more values are outdated than one answer holds; apply these and ask again"));
    }
    Ok((resealed, reasons))
}

async fn anew(opener: &Opener, allowed: &Allowed, secret: &str, value: &Arc<SecretBytes>) -> Result<String, Failure> {
    let document = opener.document(&allowed.key, &allowed.provider).await?;
    let (namespace, binding) = (allowed.binding.namespace().unwrap_or_default(), allowed.binding.name_any());
    let (name, value) = (secret.to_owned(), Arc::clone(value));
    let sealed = tokio::task::spawn_blocking(move || {
        sealing::seal(&document, &Place { namespace: &namespace, binding: &binding, secret: &name }, &value)
    });
    match sealed.await {
        Ok(Ok(sealed)) => Ok(sealed.to_string()),
        Ok(Err(error)) => Err(Failure::Never(format!("spec.secrets[{secret}]: {error}"))),
        Err(_) => Err(Failure::Later("the broker is stopping".to_owned())),
    }
}
