//! Which bindings a change of a key concerns.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kustody_api::{EncryptionKey, SecretBinding};

/// Those that name it, when what they read of it changed: a key counts the values that are sealed for it in its status, so that
/// each of its bindings would otherwise be looked at for every other.
pub(super) struct Concerned {
    bindings: Store<SecretBinding>,
    keys: Store<EncryptionKey>,
    /// What was read of each key when its bindings were told.
    told: HashMap<ObjectRef<EncryptionKey>, u64>,
}

impl Concerned {
    /// Over these caches.
    pub(super) fn new(bindings: Store<SecretBinding>, keys: Store<EncryptionKey>) -> Self {
        Self { bindings, keys, told: HashMap::new() }
    }

    /// By an event that the cache of keys has taken.
    pub(super) fn by(&mut self, event: &Event<EncryptionKey>) -> Vec<ObjectRef<SecretBinding>> {
        let changed: HashSet<ObjectRef<EncryptionKey>> = match event {
            // The cache holds what was until all of a list are there.
            Event::Init | Event::InitApply(_) => return Vec::new(),
            Event::InitDone => {
                let now = self.keys.state().iter().map(|key| (ObjectRef::from_obj(key.as_ref()), read(key))).collect();
                let before = std::mem::replace(&mut self.told, now);
                let all = self.told.keys().chain(before.keys());
                all.filter(|key| self.told.get(key) != before.get(key)).cloned().collect()
            }
            Event::Apply(key) => {
                let (place, now) = (ObjectRef::from_obj(key), read(key));
                if self.told.insert(place.clone(), now) == Some(now) {
                    return Vec::new();
                }
                [place].into()
            }
            Event::Delete(key) => {
                let place = ObjectRef::from_obj(key);
                self.told.remove(&place);
                [place].into()
            }
        };
        let of = |binding: &SecretBinding| {
            let keys = binding.spec.secrets.iter().filter_map(|source| source.sealed.as_ref()).map(|sealed| &sealed.key);
            let namespace = binding.namespace().unwrap_or_default();
            keys.map(|name| ObjectRef::new(name).within(&namespace)).any(|key| changed.contains(&key))
        };
        super::references(&self.bindings, of)
    }
}

/// Tells apart what bindings read of a key.
fn read(key: &EncryptionKey) -> u64 {
    let status = key.status.clone().map(|status| kustody_api::EncryptionKeyStatus { sealed_values: None, ..status });
    let mut hasher = DefaultHasher::new();
    format!("{:?} {:?} {status:?}", key.metadata.uid, key.spec).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use serde_json::{Value, json};

    use super::*;

    fn key(name: &str, status: &Value) -> EncryptionKey {
        serde_json::from_value(json!({
            "apiVersion": "kustody.dev/v1alpha1", "kind": "EncryptionKey", "metadata": {"name": name, "namespace": "vision"},
            "spec": {"providerRef": {"name": "local"}}, "status": status,
        }))
        .unwrap()
    }

    fn binding(name: &str, namespace: &str, key: &str) -> SecretBinding {
        serde_json::from_value(json!({
            "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": name, "namespace": namespace},
            "spec": {"workloads": {"serviceAccounts": ["a"]}, "secrets": [{"name": "s", "sealed": {"key": key, "value": ""}}], "deliver": {}},
        }))
        .unwrap()
    }

    #[test]
    fn bindings_are_looked_at_when_their_key_changes_or_goes_and_not_for_what_it_counts() {
        let (bindings, mut writer) = reflector::store();
        for found in [binding("mine", "vision", "team"), binding("of-another-key", "vision", "other"), binding("elsewhere", "text", "team")]
        {
            writer.apply_watcher_event(&Event::Apply(found));
        }
        let (keys, mut writer) = reflector::store();
        let mut concerned = Concerned::new(bindings, keys);
        let mut told = |event: Event<EncryptionKey>| -> Vec<String> {
            writer.apply_watcher_event(&event);
            concerned.by(&event).into_iter().map(|binding| binding.name).collect()
        };
        let status = |count: i32, id: &str| json!({"keyId": id, "sealedValues": {"total": count, "outdated": 0}});
        assert_eq!(told(Event::Apply(key("team", &Value::Null))), ["mine"]);
        assert_eq!(told(Event::Apply(key("team", &status(1, "a")))), ["mine"]);
        assert!(told(Event::Apply(key("team", &status(2, "a")))).is_empty());
        assert_eq!(told(Event::Apply(key("team", &status(2, "b")))), ["mine"]);
        assert_eq!(told(Event::Delete(key("team", &status(2, "b")))), ["mine"]);
        assert_eq!(told(Event::Apply(key("team", &status(2, "b")))), ["mine"]);
        // Told again as a whole: what changed meanwhile, what did not, and what is gone.
        assert!(told(Event::Init).is_empty() && told(Event::InitApply(key("team", &status(2, "c")))).is_empty());
        assert_eq!(told(Event::InitDone), ["mine"]);
        assert!(told(Event::Init).is_empty() && told(Event::InitApply(key("team", &status(3, "c")))).is_empty());
        assert!(told(Event::InitDone).is_empty());
        assert!(told(Event::Init).is_empty());
        assert_eq!(told(Event::InitDone), ["mine"]);
    }
}
