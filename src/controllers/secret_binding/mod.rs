//! Says of each `SecretBinding` whether it resolves, what is missing, and which pods it selects; opens no value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::runtime::controller::Controller;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt, predicates, reflector, watcher};
use kube::{Api, Resource, ResourceExt};
use kustody_api::conditions::{self, ConditionType};
use kustody_api::{EncryptionKey, KeyProvider, Reason, SecretBinding};
use kustody_core::wire::{InspectAnswer, InspectRequest};

use super::context::{Context, Next, drive};
use super::uninjected;
use crate::k8s::backoff::of_watches;
use crate::k8s::events::Events;
use crate::k8s::status;

mod caches;
mod concerned;
mod held;
pub mod inspect;
pub mod pods;
mod reseal;
pub mod resolve;
#[cfg(test)]
mod tests;

use caches::{Caches, Known, fingerprint};
use concerned::Concerned;
use resolve::{Facts, Resolution};

/// How often a broker that has not seen the binding yet is asked again within one pass, and how long is waited between.
const BEHIND: (u32, Duration) = (8, Duration::from_millis(150));

/// Reconciles all bindings until the process stops.
///
/// Requires: `secretbindings, encryptionkeys, keyproviders, namespaces, pods: list, watch`; `secretbindings/status: patch`;
/// `events.k8s.io/events: create, patch`.
pub async fn run(context: Arc<Context>) {
    let client = &context.client;
    let config = || watcher::Config::default().any_semantic();
    let (bindings, writer) = reflector::store::<SecretBinding>();
    let objects = watcher(Api::all(client.clone()), config())
        .backoff(of_watches())
        .reflect(writer)
        .applied_objects()
        // Requests come as annotations, which no generation counts.
        .predicate_filter(predicates::generation.combine(predicates::annotations), PredicateConfig::default());
    let (keys, writer) = reflector::store::<EncryptionKey>();
    let mut concerned = Concerned::new(bindings.clone(), keys.clone());
    let of_changed_keys = watcher(Api::all(client.clone()), config())
        .backoff(of_watches())
        .reflect(writer)
        // What fails is retried by the watcher, and told by the watch of the same kind in `encryption_key`.
        .filter_map(|event| std::future::ready(event.ok()))
        .flat_map(move |event| stream::iter(concerned.by(&event)));
    let (providers, writer) = reflector::store::<KeyProvider>();
    let provider_changes = watcher(Api::all(client.clone()), config())
        .backoff(of_watches())
        .reflect(writer)
        .touched_objects()
        .predicate_filter(predicates::generation, PredicateConfig::default());
    let (namespaces, writer) = reflector::store::<Namespace>();
    let namespace_changes = watcher(Api::all(client.clone()), config())
        .backoff(of_watches())
        .modify(|namespace: &mut Namespace| namespace.metadata.managed_fields = None)
        .reflect(writer)
        .touched_objects()
        .predicate_filter(predicates::labels, PredicateConfig::default());
    let (pods, writer) = reflector::store::<Pod>();
    let pod_changes = watcher(Api::all(client.clone()), config())
        .backoff(of_watches())
        .modify(|pod: &mut Pod| {
            pod.metadata.managed_fields = None;
            pods::trim(pod);
        })
        .reflect(writer)
        .touched_objects();

    let (of_namespace, of_provider, of_pod, all) = (bindings.clone(), bindings.clone(), bindings.clone(), bindings.clone());
    let (other, otherwise) = futures::channel::mpsc::unbounded();
    // Over the same caches, so that each pod is in memory once.
    let seen = uninjected::Caches { pods: pods.clone(), namespaces: namespaces.clone(), bindings: bindings.clone() };
    let controller = Controller::for_stream(objects, bindings)
        .watches_stream(provider_changes, move |_: KeyProvider| references(&of_provider, |_| true))
        .watches_stream(namespace_changes, move |namespace: Namespace| {
            references(&of_namespace, |binding| binding.namespace() == namespace.metadata.name)
        })
        .watches_stream(pod_changes, move |pod: Pod| {
            references(&of_pod, |binding| {
                binding.namespace() == pod.namespace()
                    && binding.spec.workloads.service_accounts.iter().any(|name| name == pods::account(&pod))
            })
        })
        .reconcile_on(of_changed_keys)
        .reconcile_on(otherwise);
    let (answers, held) = (std::sync::Mutex::default(), held::Seen::default());
    let caches = Arc::new(Caches { bindings: all, keys, providers, namespaces, pods, answers, held });
    let following = Arc::clone(&caches);
    let reconciling = drive("SecretBinding", controller, Arc::clone(&context), move |binding, context| {
        let caches = Arc::clone(&caches);
        async move { reconcile(&binding, &caches, &context).await }
    });
    let following = held::follow(&context, &following, other);
    futures::future::join3(reconciling, uninjected::run(&context, &seen), following).await;
}

fn references(bindings: &Store<SecretBinding>, wanted: impl Fn(&SecretBinding) -> bool) -> Vec<ObjectRef<SecretBinding>> {
    bindings.state().iter().filter(|binding| wanted(binding)).map(|binding| ObjectRef::from_obj(binding.as_ref())).collect()
}

/// One pass over one binding, from caches: nothing here changes anything but the binding's own status.
async fn reconcile(binding: &SecretBinding, caches: &Caches, context: &Context) -> Result<Next, kube::Error> {
    if !caches.filled().await {
        return Ok(Next::Retry);
    }
    let namespace = binding.namespace().unwrap_or_default();
    let Some(home) = caches.namespaces.get(&ObjectRef::new(&namespace)) else { return Ok(Next::Retry) };
    if binding.meta().deletion_timestamp.is_some() || home.meta().deletion_timestamp.is_some() {
        caches.forget(binding);
        return Ok(Next::Settled);
    }
    let mut status = binding.status.clone().unwrap_or_default();
    if reseal::requested(binding).is_none() {
        status.resealed = None;
    }
    let (resolution, next) = judge(binding, home.labels(), caches, context).await;

    let found = caches.pods.state();
    let count =
        pods::count(binding, home.labels(), found.iter().map(AsRef::as_ref).filter(|pod| pod.namespace().as_deref() == Some(&namespace)));
    status.matching_pods = Some(i32::try_from(count.matching).unwrap_or(i32::MAX));
    let mut seen = vec![pods::not_asked_for(count)];
    if let Some(resolution) = resolution {
        seen.push(resolution.ready());
        (status.secrets, status.variables) = (resolution.secrets, resolution.variables);
        if let Some(resealed) = resolution.resealed {
            status.resealed = Some(resealed);
        }
    }
    seen.retain(|observation| conditions::set(&mut status.conditions, observation, binding.metadata.generation, &context.now()));
    // Not among those that are told: each pod has an event of its own.
    let ready = conditions::is_true(&status.conditions, ConditionType::Ready, binding.metadata.generation);
    let lacking = uninjected::find::lacking(binding, ready, &found, home.labels(), &context.config.namespace);
    conditions::set(&mut status.conditions, &uninjected::find::pods_without_secrets(&lacking), binding.metadata.generation, &context.now());
    status.held = caches.held.of(binding, status.held);
    status.observed_generation = binding.metadata.generation;
    if binding.status.as_ref() != Some(&status) {
        let api = Api::<SecretBinding>::namespaced(context.client.clone(), &namespace);
        status::replace(&api, binding, &status).await?;
    }
    let events = Events::new(context.client.clone(), "kustody-secret-binding");
    for observation in seen {
        let warning = observation.status != Some(observation.kind == ConditionType::Ready);
        // That pods come and go is in status; an event for each would drown the rest.
        if observation.kind == ConditionType::Ready || warning {
            events.publish(&binding.object_ref(&()), warning, observation.reason.into(), "Reconcile", &observation.message).await;
        }
    }
    Ok(next)
}

/// Resolves from caches and, when that succeeds, asks the broker; `None` leaves what is known as it is.
async fn judge(
    binding: &SecretBinding,
    namespace_labels: &BTreeMap<String, String>,
    caches: &Caches,
    context: &Context,
) -> (Option<Resolution>, Next) {
    let namespace = binding.namespace().unwrap_or_default();
    let key = |name: &str| caches.keys.get(&ObjectRef::new(name).within(&namespace));
    let provider = |name: &str| caches.providers.get(&ObjectRef::new(name));
    let mut resolution = resolve::resolve(binding, &Facts { namespace_labels, key: &key, provider: &provider });
    if resolution.failed.is_some() {
        return (Some(resolution), Next::Settled);
    }
    let of = fingerprint(binding, &key);
    let reseal = reseal::pending(binding);
    let known = caches.known(binding).filter(|known| reseal.is_none() && known.is_current(&of, context.timestamp()));
    let answer = match known {
        Some(known) => Ok(known),
        None => ask(binding, reseal.is_some(), context).await.map(|answer| Known { of, at: context.timestamp(), answer }),
    };
    match answer {
        Ok(mut known) => {
            let (resealed, refused) = (std::mem::take(&mut known.answer.resealed), std::mem::take(&mut known.answer.not_resealed));
            let mut resolution = resolve::merge(resolution, &known.answer);
            resolution.resealed = reseal.map(|request| reseal::answered(binding, request, resealed, &refused));
            caches.remember(binding, known);
            (Some(resolution), Next::Settled)
        }
        Err(error) => {
            tracing::info!(binding = %ObjectRef::from_obj(binding), %error, "the broker could not be asked");
            let ready = binding
                .status
                .as_ref()
                .is_some_and(|status| conditions::is_true(&status.conditions, ConditionType::Ready, binding.metadata.generation));
            if ready {
                // A broker that does not answer says nothing of the binding: what was known of it still holds.
                return (None, Next::Retry);
            }
            resolution.failed = Some((
                Reason::BrokerUnavailable,
                format!("every reference resolves, but whether the values open is not known: {error}; this is retried"),
            ));
            (Some(resolution), Next::Retry)
        }
    }
}

async fn ask(binding: &SecretBinding, reseal: bool, context: &Context) -> Result<InspectAnswer, inspect::Error> {
    let question = InspectRequest {
        namespace: binding.namespace().unwrap_or_default(),
        binding: binding.name_any(),
        uid: binding.uid().unwrap_or_default(),
        generation: binding.metadata.generation.unwrap_or_default(),
        reseal,
    };
    let (attempts, wait) = BEHIND;
    let mut attempt = 0;
    loop {
        let authority = context.authority.load_full();
        match inspect::ask(&context.config, authority.as_deref().map(String::as_str), &question).await {
            Err(inspect::Error::Behind) if attempt < attempts => {
                attempt += 1;
                tokio::time::sleep(wait).await;
            }
            answer => return answer,
        }
    }
}
