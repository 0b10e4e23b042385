//! `POST /v1/release`: authenticate, authorize, open, record, answer. Nothing is answered that is not on disk.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use kustody_api::policy::Home;
use kustody_core::audit::{Draft, Event, Item, Subject};
use kustody_core::property;
use kustody_core::wire::watch::{Revision, WITH_REVISIONS};
use kustody_core::wire::{Plan, Release, ReleasedValue, Withdrawn};
use serde::de::DeserializeOwned;

use super::authorize::{self, Allowed, Decision, Facts};
use super::limits::holding;
use super::open::Failure;
use super::refusal::Refused;
use super::token::Identity;
use super::{Broker, revision};

/// The largest plan.
pub const MAX_PLAN: usize = 256 * 1024;
/// How long a plan may take to arrive.
const ARRIVES: Duration = Duration::from_secs(3);
/// How often each sealed byte is held while a provider is asked and after that: itself, what it holds, and in the answer.
const MANIFOLD: usize = 3;
/// A record holds at most this many reasons, and of each this many bytes: plans are written by their pods.
const REASONS: (usize, usize) = (8, 400);

/// What is answered, once its record is on disk.
pub struct Answer {
    /// The encoded release.
    pub body: Bytes,
    /// `released`, `partial` or `withdrawn`, for the metric.
    pub outcome: &'static str,
}

/// An answer and what its record will say.
pub(super) struct Prepared {
    answer: Answer,
    items: Vec<Item>,
    withdrawn: Vec<Withdrawn>,
}

/// Answers one agent.
pub async fn release(broker: &Broker, headers: &HeaderMap, body: Body, correlation_id: &str) -> Result<Answer, Refused> {
    let (identity, token) = broker.authenticator.token(headers).await?;
    broker.limits.count(&identity.subject.pod_uid).await?;
    let prepared = prepare(broker, &identity, (headers, token), body).await;
    recorded(broker, &identity.subject, prepared, correlation_id).await
}

/// The answer, or why there is none, once the record of it is on disk.
pub(super) async fn recorded(
    broker: &Broker,
    subject: &Subject,
    prepared: Result<Prepared, Refused>,
    correlation_id: &str,
) -> Result<Answer, Refused> {
    match prepared {
        Ok(Prepared { answer, items, withdrawn }) => {
            let event = if answer.outcome == "withdrawn" { Event::Refusal } else { Event::Release };
            let reasons = withdrawn.iter().map(|Withdrawn { binding, item, reason }| format!("{binding}/{item}: {reason}"));
            broker.record(broker.draft(event, Some(subject.clone()), items, reasons, correlation_id)).await?;
            Ok(answer)
        }
        Err(refused) => {
            let reasons = std::iter::once(format!("{}: {}", refused.reason, refused.message));
            broker.record(broker.draft(Event::Refusal, Some(subject.clone()), Vec::new(), reasons, correlation_id)).await?;
            Err(refused)
        }
    }
}

/// Everything but the record: the answer stays here until that is on disk.
async fn prepare(broker: &Broker, identity: &Identity, (headers, token): (&HeaderMap, &str), body: Body) -> Result<Prepared, Refused> {
    broker.authenticator.alive(identity, token).await?;
    let plan = received(body).await?;
    let _room = broker.limits.starting.enter(2 * plan.len())?;
    let plan: Plan = parsed(&plan)?;
    checked(&plan)?;
    let decision = decide(broker, &plan, &identity.subject)?;
    // An agent of an earlier release does not read them.
    let wanted = headers.get(ACCEPT).is_some_and(|accept| accept == WITH_REVISIONS);
    let revisions = if wanted { revision::of(&plan, &decision) } else { Vec::new() };
    opened(broker, decision, revisions, Pod::Starts).await
}

/// Who is given something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pod {
    /// A pod that starts: it is told at once what it will not be given.
    Starts,
    /// A pod that holds something already: what a provider refuses now it asks for again, until it is repaired there.
    Runs,
}

/// Opens what was decided upon.
pub(super) async fn opened(broker: &Broker, decision: Decision, revisions: Vec<Revision>, pod: Pod) -> Result<Prepared, Refused> {
    let Decision { allowed, withdrawn } = decision;
    let sealed: usize = allowed.iter().map(|allowed| allowed.sealed.ciphertext.len()).sum();
    let said: usize = withdrawn.iter().map(|withdrawn| withdrawn.reason.len()).sum();
    let at_work = MANIFOLD * (sealed + said);
    let (room, mut held) = match pod {
        Pod::Starts => (&broker.limits.starting, broker.limits.starting.enter(at_work)?),
        Pod::Runs => (&broker.watch.room, broker.watch.room.wait(at_work).await?),
    };
    let mut release = Release { values: Vec::new(), withdrawn, revisions };
    let mut items = Vec::new();
    for allowed in &allowed {
        if give(broker, allowed, &mut release, pod).await? {
            items.push(item(allowed));
        }
    }
    let outcome = match (items.is_empty(), release.withdrawn.is_empty()) {
        (_, true) => "released",
        (false, false) => "partial",
        (true, false) => "withdrawn",
    };
    let encoded = release.encode().map_err(|error| {
        let message = format!("{error}, the limit for one pod; name fewer or smaller secrets in the bindings that serve it");
        Refused::denied(StatusCode::FORBIDDEN, "ReleaseTooLarge", message)
    })?;
    room.fit(&mut held, encoded.len())?;
    // The buffer that is sent is the one that is zeroised.
    let answer = Answer { body: holding(encoded, held), outcome };
    Ok(Prepared { answer, items, withdrawn: release.withdrawn })
}

impl Broker {
    /// A record whose size is bounded, whatever was asked.
    pub(super) fn draft(
        &self,
        event: Event,
        subject: Option<Subject>,
        items: Vec<Item>,
        reasons: impl Iterator<Item = String>,
        correlation_id: &str,
    ) -> Draft {
        let (count, length) = REASONS;
        let mut reasons: Vec<String> = reasons.collect();
        let more = reasons.len().saturating_sub(count);
        reasons.truncate(count);
        for reason in &mut reasons {
            reason.truncate(reason.floor_char_boundary(length));
        }
        if more > 0 {
            reasons.push(format!("and {more} more"));
        }
        Draft { time: self.clock.now(), event, subject, items, reasons, correlation_id: correlation_id.to_owned() }
    }

    /// Returns when the record is on disk.
    pub(super) async fn record(&self, draft: Draft) -> Result<(), Refused> {
        self.log.record(draft).await.map_err(|error| {
            tracing::error!(%error, "nothing is released: no audit record");
            Refused::unrecorded()
        })
    }
}

fn unreadable(rule: impl std::fmt::Display) -> Refused {
    Refused::denied(StatusCode::BAD_REQUEST, "PlanUnreadable", format!("the plan: {rule}; recreate the pod"))
}

/// The bytes of a request that holds a plan.
pub(super) async fn received(body: Body) -> Result<Bytes, Refused> {
    // One place of the broker is held meanwhile: a pod that sends slowly must not keep it from the others.
    let whole = || unreadable(format_args!("it has at most {MAX_PLAN} bytes and arrives within {} s", ARRIVES.as_secs()));
    tokio::time::timeout(ARRIVES, to_bytes(body, MAX_PLAN)).await.map_err(|_| whole())?.map_err(|_| whole())
}

/// The request in them.
pub(super) fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(bytes).map_err(|error| unreadable(format_args!("it cannot be read: {error}")))
}

/// Whether the plan is one that can be decided about.
pub(super) fn checked(plan: &Plan) -> Result<(), Refused> {
    if plan.version != 1 {
        return Err(unreadable(format_args!("its version is {}, and this broker reads version 1", plan.version)));
    }
    let mut names: Vec<&str> = plan.bindings.iter().map(|binding| binding.name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(unreadable("it names a binding twice"));
    }
    Ok(())
}

/// What of the plan may be given to the pod at this moment.
pub(super) fn decide(broker: &Broker, plan: &Plan, subject: &Subject) -> Result<Decision, Refused> {
    let namespace = subject.namespace.as_str();
    let Some(home) = broker.caches.namespaces.get(&ObjectRef::new(namespace)) else {
        return Err(Refused::later(
            "CacheBehind",
            format!("the broker does not know namespace {namespace}: it was made a moment ago, then try again, or it was deleted"),
        ));
    };
    let facts = Facts {
        home: Home { name: namespace, labels: home.labels() },
        binding: &|name| broker.caches.binding(namespace, name),
        key: &|name| broker.caches.key(namespace, name),
        provider: &|name| broker.caches.provider(name),
    };
    Ok(authorize::decide(plan, &subject.service_account, facts))
}

/// Opens one secret and takes from it what is asked for; says whether anything of it is given.
///
/// A provider that does not answer refuses the whole release: it is over soon, and half of what was asked starts no pod.
async fn give(broker: &Broker, allowed: &Allowed, release: &mut Release, pod: Pod) -> Result<bool, Refused> {
    let Allowed { binding, secret, properties, key, provider, sealed } = allowed;
    let name = binding.name_any();
    let named = |reason: String| format!("SecretBinding {}/{name}: {reason}", binding.namespace().unwrap_or_default());
    let withdraw = |reason: String| Withdrawn { binding: name.clone(), item: secret.clone(), reason: named(reason) };
    let value = match broker.opener.open(binding, secret, (key, provider, sealed)).await {
        Ok(value) => value,
        Err(Failure::Later(reason)) => return Err(Refused::later("ProviderUnavailable", named(reason))),
        Err(Failure::Refused(reason)) if pod == Pod::Runs => return Err(Refused::later("ProviderRefuses", named(reason))),
        Err(Failure::Refused(reason) | Failure::Never(reason)) => {
            release.withdrawn.push(withdraw(reason));
            return Ok(false);
        }
    };
    let mut given = false;
    for property in properties {
        match property::extract(&value, property.as_deref()) {
            Ok(value) => {
                broker.opener.hide(&value);
                let (binding, secret, property) = (name.clone(), secret.clone(), property.clone());
                release.values.push(ReleasedValue { binding, secret, property, value });
                given = true;
            }
            Err(error) => release.withdrawn.push(withdraw(format!("spec.secrets[{secret}]: {error}"))),
        }
    }
    Ok(given)
}

/// What the audit says of an opened secret.
pub(super) fn item(allowed: &Allowed) -> Item {
    Item {
        binding: allowed.binding.name_any(),
        binding_uid: allowed.binding.uid().unwrap_or_default(),
        secret: allowed.secret.clone(),
        key: allowed.key.name_any(),
        key_id: allowed.sealed.header.provider_key_id.clone(),
        sealing_key_version: Some(allowed.sealed.header.version),
    }
}
