//! Finds live pods that should have secrets and have no agent, says so, and evicts them where the installation wants that.
//!
//! They are few and rare: a webhook that was not called, or pods that are older than the installation. So this looks at
//! everything that is cached now and then. What it remembers, a restart may lose: it repeats an event, and a controller whose
//! last eviction did not help may lose one pod more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::runtime::reflector::Store;
use kube::{Api, Resource, ResourceExt};
use kustody_api::{Reason, SecretBinding};
use tokio::time::Instant;

use super::context::Context;
use crate::config::PodsWithoutSecrets;
use crate::k8s::cache::filled;
use crate::k8s::events::Events;

mod evict;
pub mod find;
pub mod history;
mod metrics;
#[cfg(test)]
mod tests;
pub mod verdict;

use evict::{Evicted, admission_serves, evict};
use find::Found;
use history::History;
use metrics::Counts;
use verdict::{Owner, Verdict};

/// How often everything is looked at.
const EVERY: Duration = Duration::from_secs(10);
/// How many events one pass publishes; the rest is told by the next ones.
const EVENTS_A_PASS: usize = 50;

/// The caches of the reconciler of bindings, which fills them.
pub struct Caches {
    /// Every pod, as `secret_binding::pods::trim` leaves it.
    pub pods: Store<Pod>,
    /// Every namespace.
    pub namespaces: Store<Namespace>,
    /// Every binding.
    pub bindings: Store<SecretBinding>,
}

/// What earlier passes told and read.
#[derive(Default)]
struct Memory {
    /// The last note of each pod, by UID.
    told: HashMap<String, String>,
    /// Whether a Job ignores disruptions, by UID; the field cannot change.
    jobs: HashMap<String, bool>,
    /// What was evicted.
    history: History,
}

/// A pod that was found, and what is done about it.
struct Judged {
    found: Found,
    owner: Owner,
    verdict: Verdict,
}

/// Looks at all pods until the process stops.
///
/// Guarantees: a pod is evicted only where the installation wants it, its controller makes another that admission would serve,
/// no Job counts it as a failure, every PodDisruptionBudget allows it, and the last eviction of its controller's pods helped.
/// Requires: `events.k8s.io/events: create, patch`; to evict, `jobs: get` and what [`evict`] requires.
pub async fn run(context: &Context, caches: &Caches) {
    let stop = &context.process.stop;
    let all = async { filled(&caches.pods).await && filled(&caches.namespaces).await && filled(&caches.bindings).await };
    if stop.run_until_cancelled(all).await != Some(true) {
        return;
    }
    let counts = Counts::new(&context.process.metrics);
    let mut memory = Memory::default();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if stop.run_until_cancelled(pass(context, caches, &counts, &mut memory)).await.is_none() {
            return;
        }
    }
}

/// Looks at all pods once.
async fn pass(context: &Context, caches: &Caches, counts: &Counts, memory: &mut Memory) {
    let pods = caches.pods.state();
    let found = find::all(&pods, &caches.namespaces.state(), &caches.bindings.state(), &context.config.namespace);
    memory.history.forget(&found, &pods, Instant::now());
    let sequels = memory.history.sequels(&found, &pods);
    let mut judged = Vec::with_capacity(found.len());
    for found in found {
        let owner = verdict::owner(&found.pod, ignores(context, &found.pod, memory).await);
        let sequel = verdict::controller(&found.pod).and_then(|owner| sequels.get(&owner.uid).copied());
        let verdict = verdict::judge(context.config.pods_without_secrets, &found, &owner).after(sequel);
        judged.push(Judged { found, owner, verdict });
    }
    counts.found(&judged.iter().map(|one| (one.found.asks, one.verdict)).collect::<Vec<_>>());
    tell(context, &judged, memory).await;

    let evictable = judged.iter().filter(|one| one.verdict == Verdict::Evict).map(|one| &one.found);
    let chosen = verdict::chosen(evictable, &pods, &memory.history, &sequels);
    if chosen.is_empty() || !serves(context).await {
        return;
    }
    for found in chosen {
        // Before the call: what was asked may be done though nobody answers.
        memory.history.begin(&found.pod, &caches.pods.state(), Instant::now());
        let outcome = evict(&context.client, &found.pod).await;
        counts.eviction(outcome.label());
        let pod = kube::runtime::reflector::ObjectRef::from_obj(found.pod.as_ref());
        match outcome {
            Evicted::Done => {
                memory.history.done(&found.pod);
                tracing::info!(%pod, "evicted a pod without its secrets");
                let note = "evicted: it ran without the secrets that it should have";
                publish(context, &found.pod, "Evict", note).await;
            }
            Evicted::NotNow | Evicted::Gone => tracing::debug!(%pod, ?outcome, "did not evict a pod without its secrets"),
            Evicted::Failed(error) => tracing::warn!(%pod, %error, "unable to evict a pod without its secrets, retrying"),
        }
    }
}

/// One event for each distinct note of a pod.
async fn tell(context: &Context, judged: &[Judged], memory: &mut Memory) {
    let mut left = EVENTS_A_PASS;
    for Judged { found, owner, verdict } in judged {
        let uid = found.pod.uid().unwrap_or_default();
        let note = verdict::note(found, owner, *verdict);
        if left == 0 || memory.told.get(&uid) == Some(&note) {
            continue;
        }
        left -= 1;
        if publish(context, &found.pod, "Look", &note).await {
            memory.told.insert(uid, note);
        }
    }
    let here: HashSet<String> = judged.iter().filter_map(|one| one.found.pod.uid()).collect();
    memory.told.retain(|uid, _| here.contains(uid));
    let owners: HashSet<&str> = judged.iter().filter_map(|one| Some(verdict::controller(&one.found.pod)?.uid.as_str())).collect();
    memory.jobs.retain(|uid, _| owners.contains(uid.as_str()));
}

async fn publish(context: &Context, pod: &Arc<Pod>, action: &str, note: &str) -> bool {
    let events = Events::new(context.client.clone(), "kustody-uninjected");
    events.publish(&pod.object_ref(&()), true, Reason::SecretsMissing.into(), action, note).await
}

/// Whether the Job that the pod belongs to ignores disruptions; `None` for any other pod, while it cannot be read, and where
/// nothing is evicted.
async fn ignores(context: &Context, pod: &Pod, memory: &mut Memory) -> Option<bool> {
    let owner = verdict::controller(pod).filter(|owner| owner.kind == "Job" && owner.api_version == "batch/v1")?;
    if context.config.pods_without_secrets == PodsWithoutSecrets::Report {
        return None;
    }
    if let Some(known) = memory.jobs.get(&owner.uid) {
        return Some(*known);
    }
    let jobs = Api::<Job>::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
    match jobs.get_opt(&owner.name).await {
        Ok(found) => {
            let job = found.filter(|job| job.uid().as_ref() == Some(&owner.uid))?;
            let ignores = verdict::ignores_disruptions(&job);
            memory.jobs.insert(owner.uid.clone(), ignores);
            Some(ignores)
        }
        Err(error) => {
            tracing::warn!(job = owner.name, %error, "unable to read the Job of a pod without its secrets, retrying");
            None
        }
    }
}

async fn serves(context: &Context) -> bool {
    match admission_serves(&context.client, &context.config).await {
        Ok(true) => true,
        Ok(false) => {
            tracing::info!(
                "pods without their secrets are not evicted while the webhook is not there: those in their place would be refused"
            );
            false
        }
        Err(error) => {
            tracing::warn!(%error, "unable to see whether the webhook is there, so nothing is evicted");
            false
        }
    }
}
