//! Which SecretBindings use a key, and for which of its sealing keys their values are sealed; no value is opened.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use kustody_api::{EncryptionKey, SecretBinding};
use kustody_core::sealing::SealedValue;
use kustody_core::sealing::format::hex;
use tokio::time::{Instant, sleep_until};

use crate::k8s::backoff::of_watches;

/// How long changes of bindings are gathered after some were told: a key is looked at once for all that begin to use it together.
const GATHER: Duration = Duration::from_secs(1);
/// How many of them at the most.
const AT_ONCE: usize = 1024;

/// A cache of all bindings, trimmed while decoding, and the keys of which a binding began or ceased to use something.
pub fn watch(client: &Client) -> (Store<SecretBinding>, impl Stream<Item = ObjectRef<EncryptionKey>> + Send + use<>) {
    let (reader, writer) = reflector::store();
    let mut used = Used::default();
    let keys = watcher(Api::<SecretBinding>::all(client.clone()), watcher::Config::default().any_semantic())
        .backoff(of_watches())
        .modify(trim)
        .reflect(writer)
        // What fails is retried by the watcher, and told by the watch of the same kind in `secret_binding`.
        .filter_map(|event| std::future::ready(event.ok()))
        .flat_map(move |event| stream::iter(used.concerned(event)))
        .ready_chunks(AT_ONCE)
        .zip(stream::unfold(Instant::now(), |earliest| async move {
            sleep_until(earliest).await;
            Some(((), Instant::now() + GATHER))
        }))
        .flat_map(|(keys, ())| stream::iter(keys.into_iter().collect::<HashSet<_>>()));
    (reader, keys)
}

/// Which keys each binding uses, by generation of the binding: statuses are written far more often than specs.
#[derive(Default)]
struct Used(HashMap<(String, String), (Option<i64>, BTreeSet<String>)>);

impl Used {
    fn concerned(&mut self, event: Event<SecretBinding>) -> Vec<ObjectRef<EncryptionKey>> {
        let (binding, gone) = match event {
            // Everything is told anew, and what is gone is not.
            Event::Init => {
                self.0.clear();
                return Vec::new();
            }
            Event::InitDone => return Vec::new(),
            Event::InitApply(binding) | Event::Apply(binding) => (binding, false),
            Event::Delete(binding) => (binding, true),
        };
        let namespace = binding.namespace().unwrap_or_default();
        let place = (namespace.clone(), binding.name_any());
        let before = if gone {
            self.0.remove(&place)
        } else {
            let now = (binding.metadata.generation, keys(&binding));
            let before = self.0.insert(place, now);
            if before.as_ref().is_some_and(|(generation, _)| *generation == binding.metadata.generation) {
                return Vec::new();
            }
            before
        };
        let mut concerned = keys(&binding);
        concerned.extend(before.into_iter().flat_map(|(_, keys)| keys));
        concerned.iter().map(|name| ObjectRef::new(name).within(&namespace)).collect()
    }
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
fn keys(binding: &SecretBinding) -> BTreeSet<String> {
    binding.spec.secrets.iter().filter_map(|source| source.sealed.as_ref()).map(|sealed| sealed.key.clone()).collect()
}

/// Names of the bindings of the namespace that use the key, read live.
pub async fn users(client: &Client, namespace: &str, key: &str) -> Result<Vec<String>, kube::Error> {
    let bindings = Api::<SecretBinding>::namespaced(client.clone(), namespace).list(&kube::api::ListParams::default()).await?;
    Ok(bindings.items.iter().filter(|binding| keys(binding).contains(key)).map(ResourceExt::name_any).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn binding(generation: i64, key: &str) -> SecretBinding {
        serde_json::from_value(json!({
            "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding",
            "metadata": {"name": "train", "namespace": "vision", "generation": generation},
            "spec": {"workloads": {"serviceAccounts": ["a"]}, "secrets": [{"name": "s", "sealed": {"key": key, "value": ""}}], "deliver": {}},
        }))
        .unwrap()
    }

    #[test]
    fn a_key_is_looked_at_when_a_binding_begins_or_ceases_to_use_it_and_not_for_a_status() {
        let mut used = Used::default();
        let mut concerned = |event| used.concerned(event).into_iter().map(|key| key.name).collect::<Vec<_>>();
        assert_eq!(concerned(Event::InitApply(binding(1, "old"))), ["old"]);
        assert!(concerned(Event::Apply(binding(1, "old"))).is_empty());
        assert_eq!(concerned(Event::Apply(binding(2, "new"))), ["new", "old"]);
        assert_eq!(concerned(Event::Delete(binding(2, "new"))), ["new"]);
    }
}
