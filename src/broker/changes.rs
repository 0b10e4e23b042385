//! Wakes those who wait for a change in what the caches say of their namespace.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use kustody_api::EncryptionKey;
use kustody_api::encryption_key::EncryptionKeyStatus;
use tokio::sync::watch;

/// Who waits, by namespace; clones share it.
#[derive(Clone, Default)]
pub struct Changes(Arc<Mutex<HashMap<String, watch::Sender<()>>>>);

impl Changes {
    /// Is changed each time that something in `namespace` may have.
    pub fn of(&self, namespace: &str) -> watch::Receiver<()> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(namespace.to_owned()).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// Something of `namespace` changed; `None`: of any.
    pub fn tell(&self, namespace: Option<&str>) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match namespace {
            Some(namespace) => waiting.get(namespace).into_iter().for_each(wake),
            None => waiting.values().for_each(wake),
        }
    }

    /// How many wait for a change of `namespace`.
    #[cfg(test)]
    pub fn waiting(&self, namespace: &str) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(namespace).map_or(0, watch::Sender::receiver_count)
    }

    /// Forgets namespaces in which nobody waits.
    pub fn sweep(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, sender| sender.receiver_count() > 0);
    }

    /// What a watch's events are handed to: wakes nobody for an object of which nothing changed that `matters`.
    ///
    /// Objects without a namespace matter to all; a namespace matters to itself.
    pub fn teller<K>(&self, matters: fn(&K) -> u64) -> impl FnMut(&Event<K>) + Send + use<K>
    where
        K: Resource,
        K::DynamicType: Default,
    {
        let (changes, mut known) = (self.clone(), HashMap::new());
        let namespaces = K::kind(&K::DynamicType::default()) == "Namespace";
        move |event| {
            let key = |object: &K| (object.namespace(), object.name_any());
            let tell =
                |(namespace, name): &(Option<String>, String)| changes.tell(if namespaces { Some(name) } else { namespace.as_deref() });
            match event {
                Event::Init => known.clear(),
                Event::InitApply(object) => {
                    known.insert(key(object), matters(object));
                }
                Event::InitDone => changes.tell(None),
                Event::Apply(object) => {
                    let (key, now) = (key(object), matters(object));
                    if known.insert(key.clone(), now) != Some(now) {
                        tell(&key);
                    }
                }
                Event::Delete(object) => {
                    let key = key(object);
                    known.remove(&key);
                    tell(&key);
                }
            }
        }
    }
}

fn wake(sender: &watch::Sender<()>) {
    sender.send_replace(());
}

/// Which object, and which of its specs: statuses are written far more often.
pub fn of_spec<K: Resource>(object: &K) -> u64 {
    hash(&(&object.meta().uid, object.meta().generation))
}

/// Labels, by which `access` selects.
pub fn of_namespace(namespace: &Namespace) -> u64 {
    hash(namespace.labels())
}

/// The spec, and what the controller says of the key itself; not how its conditions stand.
pub fn of_key(key: &EncryptionKey) -> u64 {
    let status =
        key.status.as_ref().map(|status| EncryptionKeyStatus { conditions: Vec::new(), observed_generation: None, ..status.clone() });
    hash(&(of_spec(key), serde_json::to_string(&status).unwrap_or_default()))
}

fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
