//! `POST /v1/inspect`: says to the controller whether a binding opens, in booleans and reasons, never a value.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, StatusCode};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use kustody_api::SecretBinding;
use kustody_api::policy::Home;
use kustody_core::audit::{Event, Item, Subject};
use kustody_core::secret::SecretBytes;
use kustody_core::wire::{InspectAnswer, InspectRequest, Inspected, MAX_RELEASE};
use kustody_core::{envfile, property};

use super::Broker;
use super::authorize::{self, Allowed, Facts};
use super::open::Failure;
use super::refusal::Refused;
use super::release::item;
use super::reseal::reseal;

const MAX_REQUEST: usize = 16 * 1024;

/// Answers the controller, once the record of what it asked is on disk.
pub async fn inspect(broker: &Broker, headers: &HeaderMap, body: Body, correlation_id: &str) -> Result<InspectAnswer, Refused> {
    let subject = &controller(broker, headers, correlation_id).await?;
    let unreadable = |rule: String| Refused::denied(StatusCode::BAD_REQUEST, "RequestUnreadable", rule);
    let bytes = to_bytes(body, MAX_REQUEST).await.map_err(|_| unreadable("the request is too large or was cut off".to_owned()))?;
    let request: InspectRequest = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    look(broker, &request, subject, correlation_id).await
}

/// The controller, if it is the one who asks.
pub(super) async fn controller(broker: &Broker, headers: &HeaderMap, correlation_id: &str) -> Result<Subject, Refused> {
    let (identity, token) = broker.authenticator.token(headers).await?;
    let subject = &identity.subject;
    let config = &broker.config;
    if subject.namespace != config.namespace || subject.service_account != config.controller_service_account() {
        broker.limits.count(&subject.pod_uid).await?;
        let refused = Refused::denied(StatusCode::FORBIDDEN, "NotTheController", "only the operator's controller may ask this");
        let reasons = std::iter::once(format!("{}: {}", refused.reason, refused.message));
        broker.record(broker.draft(Event::Refusal, Some(subject.clone()), Vec::new(), reasons, correlation_id)).await?;
        return Err(refused);
    }
    broker.authenticator.alive(&identity, token).await?;
    Ok(identity.subject)
}

async fn look(broker: &Broker, request: &InspectRequest, subject: &Subject, correlation_id: &str) -> Result<InspectAnswer, Refused> {
    let namespace = request.namespace.as_str();
    let behind = || Refused {
        status: StatusCode::CONFLICT,
        reason: "CacheBehind",
        message: format!("the broker does not see generation {} of SecretBinding {namespace}/{}", request.generation, request.binding),
        retry: true,
    };
    let same =
        |binding: &SecretBinding| binding.uid().as_deref() == Some(&request.uid) && binding.metadata.generation == Some(request.generation);
    let binding = broker.caches.binding(namespace, &request.binding).filter(|binding| same(binding)).ok_or_else(behind)?;
    let home = broker.caches.namespaces.get(&ObjectRef::new(namespace)).ok_or_else(behind)?;
    let sources = sources(broker, &binding, Home { name: namespace, labels: home.labels() });
    let (mut values, mut items) = (BTreeMap::new(), Vec::new());
    let mut answer = InspectAnswer::default();
    for (name, found) in &sources {
        let opened = match found {
            Ok(allowed) => {
                items.push(item(allowed));
                broker.opener.open(&binding, name, (&allowed.key, &allowed.provider, &allowed.sealed)).await
            }
            Err(reason) => Err(Failure::Never(reason.clone())),
        };
        let message = match opened {
            Ok(value) => {
                values.insert(name.clone(), value);
                None
            }
            Err(Failure::Later(reason)) => return Err(later(broker, subject, items, reason, correlation_id).await?),
            Err(Failure::Refused(reason) | Failure::Never(reason)) => Some(reason),
        };
        answer.secrets.push(Inspected { name: name.clone(), ok: message.is_none(), message });
    }
    deliverable(&binding, &values, &mut answer);
    if request.reseal {
        match reseal(&broker.opener, &sources, &values).await {
            Ok(resealed) => (answer.resealed, answer.not_resealed) = resealed,
            Err(reason) => return Err(later(broker, subject, items, reason, correlation_id).await?),
        }
    }
    let failed = answer.secrets.iter().chain(&answer.variables).chain(&answer.files).filter_map(|item| item.message.clone());
    let failed: Vec<String> =
        failed.chain(answer.not_resealed.iter().cloned()).map(|reason| format!("{namespace}/{}: {reason}", request.binding)).collect();
    let event = if answer.resealed.is_empty() { Event::Inspect } else { Event::Reseal };
    broker.record(broker.draft(event, Some(subject.clone()), items, failed.into_iter(), correlation_id)).await?;
    Ok(answer)
}

/// Says nothing of the binding: what was known of it still holds. What was opened before it is on record all the same.
async fn later(broker: &Broker, subject: &Subject, items: Vec<Item>, reason: String, correlation_id: &str) -> Result<Refused, Refused> {
    let reasons = std::iter::once(format!("ProviderUnavailable: {reason}"));
    broker.record(broker.draft(Event::Inspect, Some(subject.clone()), items, reasons, correlation_id)).await?;
    Ok(Refused::later("ProviderUnavailable", reason))
}

/// Each secret of the binding, and under what it may be opened.
fn sources(broker: &Broker, binding: &Arc<SecretBinding>, home: Home<'_>) -> Vec<(String, Result<Allowed, String>)> {
    let facts = Facts {
        home,
        binding: &|name| broker.caches.binding(home.name, name),
        key: &|name| broker.caches.key(home.name, name),
        provider: &|name| broker.caches.provider(name),
    };
    let found = |secret: &String| {
        let (key, provider, sealed) = authorize::secret_of(binding, secret, None, facts)?;
        Ok(Allowed { binding: Arc::clone(binding), secret: secret.clone(), properties: Vec::new(), key, provider, sealed })
    };
    binding.spec.secrets.iter().map(|source| (source.name.clone(), found(&source.name))).collect()
}

/// Of the file that is one too many; says no size, which is a part of the value.
const TOO_LARGE: &str = "the files of the binding are larger together than half of spec.deliver.sizeLimit (both states are there while one takes the place of the other, each file in pages of 4 KiB), or than the 1 MiB that one pod is given";

/// A tmpfs gives each file whole pages.
const PAGE: usize = 4096;

/// How large the files may be together, in a tmpfs of the binding's size limit, some of which its directories take: both states
/// of it are there while one takes the place of the other, also when a container of the agent runs again.
fn limit(binding: &SecretBinding) -> usize {
    let text = binding.spec.deliver.size_limit.as_deref().unwrap_or("4Mi");
    let number = |unit: &str| text.strip_suffix(unit).and_then(|number| number.parse::<usize>().ok());
    let bytes = number("Ki").map(|n| n << 10).or_else(|| number("Mi").map(|n| n << 20)).unwrap_or(0);
    (bytes - bytes / 8) / 2
}

/// Whether each variable fits an environment file, and each property is there.
#[expect(clippy::disallowed_methods, reason = "a boolean is made of the value: whether an environment file can carry it")]
fn deliverable(binding: &SecretBinding, values: &BTreeMap<String, Arc<SecretBytes>>, answer: &mut InspectAnswer) {
    let extract = |secret: &str, property: Option<&str>| match values.get(secret) {
        Some(value) => property::extract(value, property).map_err(|error| error.to_string()),
        None => Err(format!("secret {secret} does not open")),
    };
    let inspected = |name: &str, result: Result<(), String>| Inspected { name: name.to_owned(), ok: result.is_ok(), message: result.err() };
    for variable in &binding.spec.deliver.env {
        let result = extract(&variable.secret, variable.property.as_deref())
            .and_then(|value| envfile::check(&variable.name, value.expose()).map_err(|error| error.to_string()));
        answer.variables.push(inspected(&variable.name, result));
    }
    let (mut size, mut pages) = (0, 0);
    for file in &binding.spec.deliver.files {
        let result = extract(&file.secret, file.property.as_deref()).map(|value| {
            size += value.len();
            pages += value.len().div_ceil(PAGE) * PAGE;
        });
        let too_large = size > MAX_RELEASE || pages > limit(binding);
        // Without a property there is nothing to say of a file that its secret does not say.
        let result = if too_large { Err(TOO_LARGE.to_owned()) } else { result };
        if file.property.is_some() || too_large {
            answer.files.push(inspected(&file.path, result));
        }
    }
}
