//! What is derived from a watch, brought up to date with each of its events.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;

use futures::StreamExt;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::k8s::backoff::of_watches;
use crate::k8s::cache::Watches;

/// How many events that are there already become known together: a namespace of many objects is not derived anew for each.
const AT_ONCE: usize = 256;

/// What was derived of each object, by namespace and name.
pub type Derived<V> = BTreeMap<(String, String), V>;

/// Watches `api` and hands `publish` everything that is known after its events, with the namespace that changed (`None`: all).
///
/// The process is not ready before the first complete list.
pub fn index<K, V>(
    watches: &Watches,
    name: &'static str,
    api: Api<K>,
    config: watcher::Config,
    derive: impl Fn(K) -> V + Send + 'static,
    publish: impl Fn(&Derived<V>, Option<&str>) + Send + 'static,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default + Eq + Hash,
    V: Send + 'static,
{
    let mut waiting = Some(watches.readiness.register(name));
    let events = watcher(api, config).backoff(of_watches()).take_until(watches.stop.clone().cancelled_owned()).ready_chunks(AT_ONCE);
    watches.tasks.spawn(async move {
        tokio::pin!(events);
        let (mut known, mut listed) = (Derived::new(), Derived::new());
        while let Some(events) = events.next().await {
            let mut changed = BTreeSet::new();
            for event in events {
                match event {
                    Ok(Event::Init) => listed.clear(),
                    Ok(Event::InitApply(object)) => {
                        listed.insert(key(&object), derive(object));
                    }
                    Ok(Event::InitDone) => {
                        known = std::mem::take(&mut listed);
                        publish(&known, None);
                        changed.clear();
                        drop(waiting.take());
                    }
                    Ok(Event::Apply(object)) => {
                        let key = key(&object);
                        changed.insert(key.0.clone());
                        known.insert(key, derive(object));
                    }
                    Ok(Event::Delete(object)) => {
                        let key = key(&object);
                        known.remove(&key);
                        changed.insert(key.0);
                    }
                    Err(error) => tracing::warn!(%error, watch = name, "watch failed, retrying"),
                }
            }
            for namespace in &changed {
                publish(&known, Some(namespace));
            }
        }
        // Ended before it was filled: the process stops, and was never ready.
        std::mem::forget(waiting);
    });
}

fn key<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The values of one namespace, in order of name.
pub fn of_namespace<'a, V>(known: &'a Derived<V>, namespace: &'a str) -> impl Iterator<Item = &'a V> {
    known.range((namespace.to_owned(), String::new())..).take_while(move |((found, _), _)| found == namespace).map(|(_, value)| value)
}
