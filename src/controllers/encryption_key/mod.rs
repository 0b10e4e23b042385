//! Keeps the provider's key equal to what its `EncryptionKey` asks for; never destroys one.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::controller::Controller;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, predicates, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use kustody_api::conditions::{self, ConditionType, Observation};
use kustody_api::encryption_key::DesiredState;
use kustody_api::{EncryptionKey, EncryptionKeyStatus, KeyProvider, Reason, SecretBinding};
use kustody_providers::{Claim, Error as ProviderError};
use tokio::time::Instant;

use super::context::{Context, Next, drive};
use crate::k8s::backoff::of_watches;
use crate::k8s::cache::filled;
use crate::k8s::events::Events;
use crate::k8s::status;

pub mod pass;
pub mod plan;
mod rotation;
mod schedule;
mod sealed;
mod sealing;
mod state;
#[cfg(test)]
mod tests;
pub mod verdict;

use pass::{Cluster, Pass};
use plan::Facts;
use verdict::{Failure, Verdict, condition_of};

/// Reconciles all keys until the process stops.
///
/// Requires: `encryptionkeys: get, list, watch`; `encryptionkeys/status: patch`; `keyproviders: get, list, watch`;
/// `namespaces: get, list, watch`; `secretbindings: list, watch`; `events.k8s.io/events: create, patch`; what the providers require.
pub async fn run(context: Arc<Context>) {
    let client = &context.client;
    let (reader, writer) = reflector::store();
    let keys = watcher(Api::<EncryptionKey>::all(client.clone()), watcher::Config::default().any_semantic())
        .backoff(of_watches())
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation, predicates_config());
    let (sealed, users) = sealed::watch(client);
    let of_provider = reader.clone();
    let of_namespace = reader.clone();
    let namespaces = watcher(Api::<Namespace>::all(client.clone()), watcher::Config::default().any_semantic())
        .backoff(of_watches())
        .applied_objects()
        .predicate_filter(predicates::labels, predicates_config());
    let providers =
        watcher(Api::<KeyProvider>::all(client.clone()), watcher::Config::default().any_semantic()).backoff(of_watches()).touched_objects();
    let controller = Controller::for_stream(keys, reader)
        .watches_stream(providers, move |provider: KeyProvider| {
            let name = provider.name_any();
            references(&of_provider, move |key| key.spec.provider_ref.name == name)
        })
        .watches_stream(namespaces, move |namespace: Namespace| {
            let name = namespace.name_any();
            references(&of_namespace, move |key| key.namespace().as_deref() == Some(&name))
        })
        .reconcile_on(users);
    drive("EncryptionKey", controller, Arc::clone(&context), move |key, context| reconcile(key, sealed.clone(), context)).await;
}

fn predicates_config() -> kube::runtime::PredicateConfig {
    kube::runtime::PredicateConfig::default()
}

fn references(keys: &Store<EncryptionKey>, wanted: impl Fn(&EncryptionKey) -> bool) -> Vec<ObjectRef<EncryptionKey>> {
    keys.state().iter().filter(|key| wanted(key)).map(|key| ObjectRef::from_obj(key.as_ref())).collect()
}

/// One pass over one key.
///
/// Guarantees: idempotent; everything that is decided upon was read live; no call to the provider before `access` allows it.
async fn reconcile(seen: Arc<EncryptionKey>, sealed: Store<SecretBinding>, context: Arc<Context>) -> Result<Next, kube::Error> {
    let namespace = seen.namespace().unwrap_or_default();
    let api: Api<EncryptionKey> = Api::namespaced(context.client.clone(), &namespace);
    let confirmed = Instant::now();
    let Some(key) = api.get_opt(&seen.name_any()).await? else { return Ok(Next::Settled) };
    let Some(facts) = facts(&key, &namespace, &sealed, &context).await? else { return Ok(Next::Settled) };
    let name = key.spec.provider_ref.name.clone();
    let held = key.status.as_ref().and_then(|status| status.key_id.clone());
    let cluster = Live(context.client.clone());

    let (key, mut status, said, result) = match plan::start(&key.spec, held.as_deref(), &facts) {
        Err(verdict) => {
            let status = key.status.clone().unwrap_or_default();
            (key, status, Vec::new(), Err(Failure::Refused(verdict)))
        }
        Ok(start) => match connect(&facts, &context).await {
            Err(error) => {
                let status = key.status.clone().unwrap_or_default();
                (key, status, Vec::new(), Err(Failure::Provider(error)))
            }
            Ok(provider) => {
                let mut pass = Pass::new(key, &facts, provider.as_ref(), &cluster, context.now(), confirmed);
                let result = pass.run(start).await;
                (pass.key, pass.status, pass.said, result)
            }
        },
    };

    let next = next_of(&result, &status, context.timestamp());
    let ready = match (observation(&result, &status, &key, &name), result) {
        (None, Err(Failure::Kubernetes(error))) => return Err(error),
        (None, _) => return Ok(next),
        (Some(ready), _) => ready,
    };
    let now = context.now();
    let mut told = Vec::new();
    for observation in said.into_iter().chain([ready]) {
        if conditions::set(&mut status.conditions, &observation, key.metadata.generation, &now) {
            told.push(observation);
        }
    }
    status.observed_generation = key.metadata.generation;
    if key.status.as_ref() != Some(&status) {
        status::replace(&api, &key, &status).await?;
    }
    let events = Events::new(context.client.clone(), "kustody-encryption-key");
    for observation in told {
        let reason: &'static str = observation.reason.into();
        events.publish(&key.object_ref(&()), observation.status != Some(true), reason, "Reconcile", &observation.message).await;
    }
    Ok(next)
}

async fn connect(facts: &Facts, context: &Context) -> Result<Arc<dyn kustody_providers::Provider>, ProviderError> {
    match &facts.provider {
        Some(object) => context.providers.get(object).await,
        None => Err(ProviderError::Configuration { detail: "the KeyProvider does not exist".to_owned() }),
    }
}

/// What to read beside the key; `None` when there is nothing to do any more.
async fn facts(
    key: &EncryptionKey,
    namespace: &str,
    sealed: &Store<SecretBinding>,
    context: &Context,
) -> Result<Option<Facts>, kube::Error> {
    let Some(found) = Api::<Namespace>::all(context.client.clone()).get_opt(namespace).await? else { return Ok(None) };
    if key.meta().deletion_timestamp.is_some() || found.meta().deletion_timestamp.is_some() {
        return Ok(None);
    }
    let provider = Api::<KeyProvider>::all(context.client.clone()).get_opt(&key.spec.provider_ref.name).await?;
    // Before it was filled once, values that are there would not be counted; it is only gone when the process ends.
    if !filled(sealed).await {
        return Ok(None);
    }
    // Decided upon, so read live.
    let users = if state::desired(&key.spec) == DesiredState::PendingDeletion {
        sealed::users(&context.client, namespace, &key.name_any()).await?
    } else {
        Vec::new()
    };
    Ok(Some(Facts {
        users,
        sealed: sealed::count(sealed, namespace, &key.name_any()),
        namespace_labels: found.labels().clone(),
        claim: Claim {
            cluster: context.cluster().await?,
            namespace: namespace.to_owned(),
            namespace_uid: found.uid().unwrap_or_default(),
            name: key.name_any(),
            owner_uid: key.uid().unwrap_or_default(),
        },
        provider,
    }))
}

/// What the condition is to say; `None` leaves it as it is.
fn observation(result: &Result<(), Failure>, status: &EncryptionKeyStatus, key: &EncryptionKey, provider: &str) -> Option<Observation> {
    let (ready, verdict) = match result {
        Ok(()) => (true, Verdict::new(Reason::Available, "values can be sealed for this key and opened under it")),
        Err(Failure::Provider(error))
            if error.is_transient() && conditions::is_true(&status.conditions, ConditionType::Ready, key.metadata.generation) =>
        {
            // A provider that does not answer says nothing of the key: what was known of it still holds.
            return None;
        }
        Err(failure) => (false, condition_of(failure, provider)?),
    };
    Some(Observation { kind: ConditionType::Ready, status: Some(ready), reason: verdict.reason, message: verdict.message })
}

fn next_of(result: &Result<(), Failure>, status: &EncryptionKeyStatus, now: jiff::Timestamp) -> Next {
    match result {
        Ok(()) => match status.rotation.as_ref().and_then(|rotation| rotation.next_rotation.as_ref()) {
            Some(next) => Next::Within(next.0.duration_since(now).try_into().unwrap_or_default()),
            None => Next::Settled,
        },
        Err(Failure::Refused(verdict)) => match verdict.reason {
            // What heals these is a change of an object that is watched.
            Reason::AccessDenied
            | Reason::Destroyed
            | Reason::Disabled
            | Reason::InvalidSpec
            | Reason::KeyIdMismatch
            | Reason::PendingDeletion
            | Reason::ProviderNotFound
            | Reason::RetainedKeyFound => Next::Settled,
            _ => Next::Retry,
        },
        Err(_) => Next::Retry,
    }
}

/// The API server itself.
struct Live(Client);

#[async_trait]
impl Cluster for Live {
    async fn write(&self, key: &EncryptionKey, status: &EncryptionKeyStatus) -> Result<EncryptionKey, kube::Error> {
        let api = Api::namespaced(self.0.clone(), &key.namespace().unwrap_or_default());
        status::replace(&api, key, status).await
    }

    async fn lives(&self, claim: &Claim) -> Result<bool, kube::Error> {
        let api: Api<EncryptionKey> = Api::namespaced(self.0.clone(), &claim.namespace);
        let found = api.get_metadata_opt(&claim.name).await?;
        Ok(found.is_some_and(|found| found.metadata.uid.as_deref() == Some(claim.owner_uid.as_str())))
    }
}
