//! Watch caches: what roles know of the cluster without asking.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt};
use kube::Api;
use kube::runtime::reflector::Store;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backoff::of_watches;
use crate::runtime::readiness::Readiness;

/// How often one who waits for a cache looks.
const LOOK: Duration = Duration::from_millis(100);

/// What every role needs to start its watches.
#[derive(Clone)]
pub struct Watches {
    /// Not ready until each cache was filled once.
    pub readiness: Readiness,
    /// Runs the watches.
    pub tasks: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
}

impl Watches {
    /// Fills a store from a watch, after `trim` has dropped what nobody reads.
    pub fn start<K>(&self, name: &'static str, api: Api<K>, config: watcher::Config, trim: fn(&mut K)) -> Store<K>
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        K::DynamicType: Default + Eq + Hash + Clone + Send + Sync + Unpin,
    {
        self.start_telling(name, api, config, trim, |_| {})
    }

    /// The same; `tell` hears of each event after the store has it.
    pub fn start_telling<K>(
        &self,
        name: &'static str,
        api: Api<K>,
        config: watcher::Config,
        trim: fn(&mut K),
        mut tell: impl FnMut(&watcher::Event<K>) + Send + 'static,
    ) -> Store<K>
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        K::DynamicType: Default + Eq + Hash + Clone + Send + Sync + Unpin,
    {
        let (reader, writer) = reflector::store();
        let stream = watcher(api, config)
            .backoff(of_watches())
            .modify(move |object| {
                object.meta_mut().managed_fields = None;
                trim(object);
            })
            .reflect(writer)
            .map_err(move |error| tracing::warn!(%error, watch = name, "watch failed, retrying"))
            .take_until(self.stop.clone().cancelled_owned());
        let token = self.readiness.register(name);
        self.tasks.spawn(async move {
            let mut waiting = Some(token);
            tokio::pin!(stream);
            while let Some(event) = stream.next().await {
                let Ok(event) = event else { continue };
                tell(&event);
                // Not by waiting for the store: of several who wait for one, it wakes the last that looked.
                if matches!(event, watcher::Event::InitDone) {
                    drop(waiting.take());
                }
            }
            // Ended unfilled: never ready.
            std::mem::forget(waiting);
        });
        reader
    }
}

/// Waits until `store` was filled once; `false` when it never will be. Any number may wait.
///
/// Of several who wait for a store by its own means, it wakes the one that looked last.
pub async fn filled<K>(store: &Store<K>) -> bool
where
    K: kube::Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    loop {
        if let Some(ready) = store.wait_until_ready().now_or_never() {
            return ready.is_ok();
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;

    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_for_a_cache_learns_that_it_is_filled() {
        let (store, mut writer) = reflector::store::<Namespace>();
        let tasks = TaskTracker::new();
        let waiting = [store.clone(), store].map(|store| tasks.spawn(async move { filled(&store).await }));
        tokio::task::yield_now().await;
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        writer.apply_watcher_event(&watcher::Event::Init);
        writer.apply_watcher_event(&watcher::Event::InitDone);
        for waiting in waiting {
            assert!(waiting.await.unwrap());
        }
        drop(writer);
        let (gone, _) = reflector::store::<Namespace>();
        assert!(!filled(&gone).await);
    }
}
