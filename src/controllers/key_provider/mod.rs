//! `KeyProvider`: asks each provider who and what it is, and says so.

use std::sync::Arc;

use futures::future::BoxFuture;
use kube::runtime::controller::Controller;
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates, reflector, watcher};
use kube::{Api, Resource};
use kustody_api::KeyProvider;
use kustody_providers::{Error as ProviderError, Probe};
use thiserror::Error as ThisError;

use super::context::{Context, Next, drive};
use crate::k8s::backoff::of_watches;
use crate::k8s::events::Events;
use crate::k8s::status;

mod observe;
#[cfg(test)]
mod tests;

/// Name of this controller in events.
const NAME: &str = "kustody-key-provider";

/// Why a pass could not be recorded.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The status could not be written.
    #[error("failed to write the status")]
    PatchStatus(#[source] kube::Error),
}

/// Looks at every `KeyProvider` until the process stops.
///
/// Requires: `keyproviders: list, watch`; `keyproviders/status: patch`; `events.k8s.io/events: create, patch`; what the
/// providers require.
pub fn controller(context: Arc<Context>) -> BoxFuture<'static, ()> {
    let api = Api::<KeyProvider>::all(context.client.clone());
    let (reader, writer) = reflector::store();
    let objects = watcher(api, watcher::Config::default())
        .backoff(of_watches())
        .reflect(writer)
        .applied_objects()
        // Our own writes of the status are no reason to ask the provider again.
        .predicate_filter(predicates::generation, PredicateConfig::default());
    Box::pin(drive("KeyProvider", Controller::for_stream(objects, reader), context, reconcile))
}

/// One pass over one provider: asks it, records what it said once, and tells people what changed.
async fn reconcile(object: Arc<KeyProvider>, context: Arc<Context>) -> Result<Next, Error> {
    let probe = probe(&object, &context).await;
    let outcome = observe::outcome(&object, &probe, context.config.audit_volume, &context.now());
    if object.status.as_ref() != Some(&outcome.status) {
        let api = Api::<KeyProvider>::all(context.client.clone());
        status::replace(&api, object.as_ref(), &outcome.status).await.map_err(Error::PatchStatus)?;
    }
    let events = Events::new(context.client.clone(), NAME);
    for observe::Transition { observation, warning } in &outcome.transitions {
        events.publish(&object.object_ref(&()), *warning, observation.reason.into(), "Probe", &observation.message).await;
    }
    // Also what only a person can put right (a file's mode, a Secret to restore) is put right without telling us.
    Ok(if probe.is_ok() { Next::Settled } else { Next::Retry })
}

async fn probe(object: &KeyProvider, context: &Context) -> Result<Probe, ProviderError> {
    context.providers.get(object).await?.probe().await
}
