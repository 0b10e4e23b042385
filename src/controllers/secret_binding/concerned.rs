//! Which bindings a change of a key concerns.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use kustody_api::{EncryptionKey, SecretBinding};

/// Those that name it, when what they read of it changed: a key counts the values that are sealed for it in its status, so that
/// each of its bindings would otherwise be looked at for every other.
pub(super) struct Concerned {
    bindings: Store<SecretBinding>,
    keys: Store<EncryptionKey>,
    /// What was read of each key when its bindings were told.
    told: Mutex<HashMap<ObjectRef<EncryptionKey>, u64>>,
}

impl Concerned {
    /// Over these caches.
    pub(super) fn new(bindings: Store<SecretBinding>, keys: Store<EncryptionKey>) -> Self {
        Self { bindings, keys, told: Mutex::default() }
    }

    /// By a key that was touched; the cache says what it is now, or that it is gone.
    pub(super) fn by(&self, touched: &EncryptionKey) -> Vec<ObjectRef<SecretBinding>> {
        let place = ObjectRef::from_obj(touched);
        let now = self.keys.get(&place).map(|key| read(&key));
        let before = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            match now {
                Some(now) => told.insert(place, now),
                None => told.remove(&place),
            }
        };
        if before.is_some() && before == now {
            return Vec::new();
        }
        let (namespace, name) = (touched.namespace(), touched.name_any());
        let named =
            |binding: &SecretBinding| binding.spec.secrets.iter().filter_map(|source| source.sealed.as_ref()).any(|s| s.key == name);
        let state = self.bindings.state();
        let concerned = state.iter().filter(|binding| binding.namespace() == namespace && named(binding));
        concerned.map(|binding| ObjectRef::from_obj(binding.as_ref())).collect()
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
    use kube::runtime::{reflector, watcher};
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
            writer.apply_watcher_event(&watcher::Event::Apply(found));
        }
        let (keys, mut writer) = reflector::store();
        let concerned = Concerned::new(bindings, keys);
        let mut told = |event: watcher::Event<EncryptionKey>| -> Vec<String> {
            writer.apply_watcher_event(&event);
            let (watcher::Event::Apply(key) | watcher::Event::Delete(key)) = event else { unreachable!() };
            concerned.by(&key).into_iter().map(|binding| binding.name).collect()
        };
        let status = |count: i32, id: &str| json!({"keyId": id, "sealedValues": {"total": count, "outdated": 0}});
        assert_eq!(told(watcher::Event::Apply(key("team", &Value::Null))), ["mine"]);
        assert_eq!(told(watcher::Event::Apply(key("team", &status(1, "a")))), ["mine"]);
        assert!(told(watcher::Event::Apply(key("team", &status(2, "a")))).is_empty());
        assert_eq!(told(watcher::Event::Apply(key("team", &status(2, "b")))), ["mine"]);
        assert_eq!(told(watcher::Event::Delete(key("team", &status(2, "b")))), ["mine"]);
        assert_eq!(told(watcher::Event::Apply(key("team", &status(2, "b")))), ["mine"]);
    }
}
