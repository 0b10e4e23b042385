//! Which SecretBindings use a key, and for which of its sealing keys their values are sealed; no value is opened.

use std::collections::{BTreeMap, BTreeSet};

use futures::Stream;
use kube::runtime::reflector::Store;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use kustody_api::SecretBinding;
use kustody_core::sealing::SealedValue;
use kustody_core::sealing::format::hex;

/// A cache of all bindings, trimmed while decoding, and their changes.
pub fn watch(client: &Client) -> (Store<SecretBinding>, impl Stream<Item = Result<SecretBinding, watcher::Error>> + Send + use<>) {
    let (reader, writer) = reflector::store();
    let changes = watcher(Api::<SecretBinding>::all(client.clone()), watcher::Config::default().any_semantic())
        .default_backoff()
        .modify(trim)
        .reflect(writer)
        .touched_objects();
    (reader, changes)
}

/// Of each sealed value only the sealing key stays: the ciphertexts of a cluster are large.
fn trim(binding: &mut SecretBinding) {
    binding.metadata.managed_fields = None;
    binding.metadata.annotations = None;
    binding.status = None;
    for sealed in binding.spec.secrets.iter_mut().filter_map(|source| source.sealed.as_mut()) {
        let header = SealedValue::parse(&sealed.value).map(|value| hex(&value.header.public_key_sha256));
        sealed.value = header.unwrap_or_default();
    }
}

/// How many values of the namespace are sealed for the key, by SHA-256 of the public key; from the trimmed cache.
pub fn count(bindings: &Store<SecretBinding>, namespace: &str, key: &str) -> BTreeMap<String, i32> {
    let mut counts = BTreeMap::new();
    for binding in bindings.state().iter().filter(|binding| binding.namespace().as_deref() == Some(namespace)) {
        let sealed = binding.spec.secrets.iter().filter_map(|source| source.sealed.as_ref());
        for sealed in sealed.filter(|sealed| sealed.key == key) {
            *counts.entry(sealed.value.clone()).or_default() += 1;
        }
    }
    counts
}

/// Names of the keys that the binding uses.
pub fn keys(binding: &SecretBinding) -> BTreeSet<String> {
    binding.spec.secrets.iter().filter_map(|source| source.sealed.as_ref()).map(|sealed| sealed.key.clone()).collect()
}

/// Names of the bindings of the namespace that use the key, read live.
pub async fn users(client: &Client, namespace: &str, key: &str) -> Result<Vec<String>, kube::Error> {
    let bindings = Api::<SecretBinding>::namespaced(client.clone(), namespace).list(&kube::api::ListParams::default()).await?;
    Ok(bindings.items.iter().filter(|binding| keys(binding).contains(key)).map(ResourceExt::name_any).collect())
}
