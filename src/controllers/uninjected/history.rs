//! What became of earlier evictions, and whose turn is next; pure.
//!
//! It is lost with the process: then a controller may lose one pod more, and is waited for again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kustody_api::names::INJECTED_ANNOTATION;
use tokio::time::Instant;

use super::find::Found;
use super::verdict::{controller, is_ready};
use crate::controllers::secret_binding::pods::is_live;

/// How long a controller without any pod is remembered, and one that made no pod in place of the evicted one: its pods may be
/// refused for a while, or it wants one less.
const KEPT: Duration = Duration::from_hours(1);

/// What came of the last eviction of a controller's pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequel {
    /// Nothing yet: no pod in its place is served and ready.
    Awaited,
    /// A pod in its place is served and ready.
    Served,
    /// A pod in its place lacks its secrets as well.
    Again,
}

/// Evictions by their pod's controller, and turns by the UIDs of pods and controllers.
#[derive(Default)]
pub struct History {
    evictions: HashMap<String, Eviction>,
    tries: HashMap<String, u64>,
    turn: u64,
}

struct Eviction {
    pod: String,
    /// The controller's pods at that moment, by UID: creation times are whole seconds of another clock.
    known: HashSet<String>,
    /// Whether the API server said yes; what was asked without an answer shows by the pod.
    done: bool,
    at: Instant,
    /// Since when its pod is not there any more.
    gone: Option<Instant>,
}

impl History {
    /// This pod is about to be evicted.
    pub fn begin(&mut self, pod: &Pod, pods: &[Arc<Pod>], now: Instant) {
        let (Some(owner), Some(uid)) = (controller(pod).map(|owner| owner.uid.clone()), pod.uid()) else { return };
        let known = pods.iter().filter(|other| controller(other).is_some_and(|other| other.uid == owner)).filter_map(|pod| pod.uid());
        let eviction = Eviction { pod: uid.clone(), known: known.collect(), done: false, at: now, gone: None };
        self.turn += 1;
        self.tries.insert(uid, self.turn);
        self.tries.insert(owner.clone(), self.turn);
        self.evictions.insert(owner, eviction);
    }

    /// The API server evicts the pod.
    pub fn done(&mut self, pod: &Pod) {
        if let Some(eviction) = controller(pod).and_then(|owner| self.evictions.get_mut(&owner.uid)) {
            eviction.done = true;
        }
    }

    /// What came of evictions, by the controller's UID; none where nothing was evicted.
    pub fn sequels(&self, found: &[Found], pods: &[Arc<Pod>]) -> BTreeMap<String, Sequel> {
        let lacking: HashSet<String> = found.iter().filter_map(|found| found.pod.uid()).collect();
        let mut sequels: BTreeMap<String, Sequel> = self.evictions.keys().map(|owner| (owner.clone(), Sequel::Awaited)).collect();
        for pod in pods {
            let Some((owner, uid)) = controller(pod).and_then(|owner| Some((&owner.uid, pod.uid()?))) else { continue };
            let Some(eviction) = self.evictions.get(owner) else { continue };
            let stays = pod.metadata.deletion_timestamp.is_none();
            if eviction.pod == uid && !eviction.done && stays && is_live(pod) {
                sequels.remove(owner);
            }
            let Some(sequel) = sequels.get_mut(owner).filter(|_| !eviction.known.contains(&uid)) else { continue };
            if lacking.contains(&uid) {
                *sequel = Sequel::Again;
            } else if *sequel == Sequel::Awaited && stays && is_served(pod) {
                *sequel = Sequel::Served;
            }
        }
        sequels
    }

    /// When the pod's controller, and then the pod, had its last turn: whoever a disruption budget refuses goes behind the others.
    pub fn last_turn(&self, pod: &Pod) -> (u64, u64) {
        let turn = |uid: Option<String>| uid.and_then(|uid| self.tries.get(&uid).copied()).unwrap_or_default();
        (turn(controller(pod).map(|owner| owner.uid.clone())), turn(pod.uid()))
    }

    /// Forgets what no longer matters.
    pub fn forget(&mut self, found: &[Found], pods: &[Arc<Pod>], now: Instant) {
        if self.evictions.is_empty() {
            return;
        }
        let mut owners = HashMap::<&str, HashSet<String>>::new();
        for (owner, uid) in pods.iter().filter_map(|pod| Some((controller(pod)?.uid.as_str(), pod.uid()?))) {
            owners.entry(owner).or_default().insert(uid);
        }
        self.evictions.retain(|owner, eviction| {
            let Some(uids) = owners.get(owner.as_str()) else { return now < eviction.at + KEPT };
            eviction.gone = if uids.contains(&eviction.pod) { None } else { eviction.gone.or(Some(now)) };
            let replaced = uids.iter().any(|uid| !eviction.known.contains(uid));
            replaced || eviction.gone.is_none_or(|gone| now < gone + KEPT)
        });
        let lacking: HashSet<String> = found.iter().filter_map(|found| found.pod.uid()).collect();
        self.tries.retain(|uid, _| lacking.contains(uid) || owners.contains_key(uid.as_str()));
    }
}

/// Served, and ready or done with its work.
fn is_served(pod: &Pod) -> bool {
    let succeeded = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Succeeded"));
    pod.annotations().contains_key(INJECTED_ANNOTATION) && (succeeded || is_ready(pod))
}
