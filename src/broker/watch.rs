//! `POST /v1/watch`: a running pod waits for what changes for it. Woken by the watch caches; no provider is asked before.
//!
//! A request has three parts: a first look, which holds one of the places that all requests share; a wait, which holds none of
//! them but a bound of its own; and the release of what changed, in a queue of its own, so that a change for many pods does not
//! keep those from their secrets that are starting.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use kube::ResourceExt;
use kustody_core::audit::Subject;
use kustody_core::hex::hex;
use kustody_core::wire::watch::{AUTHORITIES_TYPE, Authorities, HOLD_SECONDS, HeldAnswer, REVISION_LENGTH, WatchRequest, is_revision};
use kustody_core::wire::{Plan, RELEASE_TYPE};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::authorize::Decision;
use super::changes::Changes;
use super::limits::{RUNNING, Room};
use super::refusal::Refused;
use super::release::{self, Answer};
use super::reports::{Cause, Held, Report, Reports};
use super::routes::{bounded, correlation_id, finish, timely};
use super::token::Identity;
use super::turns::Turns;
use super::{Broker, inspect, revision};
use crate::k8s::backoff::jittered;
use crate::runtime::metrics::Metrics;

/// What all who wait may need, in KiB: some 2,900 pods with plans of 1 KiB, well below the memory that the chart gives a broker.
const WAITING: usize = 96 * 1024;
/// What one who waits needs besides its plan, in KiB: a TLS connection, its buffers, a task, a token.
const EACH: u32 = 32;
/// Releases to running pods at the same time.
const RELEASING: usize = 32;
/// The middle of how long one waits; jittered by a quarter either way, it is the longest that agents expect at most.
const HOLD: Duration = Duration::from_secs(HOLD_SECONDS * 4 / 5);

/// Those who wait.
pub struct Watch {
    /// Whom the caches wake.
    pub changes: Changes,
    /// What pods say that they hold.
    pub reports: Reports,
    waiting: Arc<Semaphore>,
    turns: Turns,
    releasing: Semaphore,
    /// What answers with values hold, until they are sent.
    pub(super) room: Room,
    hold: Duration,
    stop: CancellationToken,
}

impl Watch {
    /// With nobody waiting; at `stop` everybody is sent to another replica.
    pub fn new(changes: Changes, metrics: &Metrics, stop: CancellationToken) -> Self {
        let (waiting, releasing) = (Arc::new(Semaphore::new(WAITING)), Semaphore::new(RELEASING));
        Self {
            changes,
            reports: Reports::new(metrics),
            waiting,
            turns: Turns::default(),
            releasing,
            room: Room::new(RUNNING),
            hold: HOLD,
            stop,
        }
    }

    /// The same with another patience.
    #[must_use]
    pub fn holding(self, hold: Duration) -> Self {
        Self { hold, ..self }
    }

    /// Brings the metrics up to date, and forgets who is gone.
    pub async fn sweep(&self) {
        self.changes.sweep();
        self.reports.sweep().await;
    }

    fn remember(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refused> {
        let kib = EACH + u32::try_from(bytes / 1024).unwrap_or(u32::MAX / 2);
        let busy = |_| Refused::later("Busy", "as many pods wait for changes as this broker can remember; try again");
        Arc::clone(&self.waiting).try_acquire_many_owned(kib).map_err(busy)
    }
}

/// Somebody who was let in.
struct Waiting {
    subject: Subject,
    request: WatchRequest,
    _remembered: OwnedSemaphorePermit,
}

/// Answers one agent: 200 with what changed, or 204.
pub(super) async fn serve(State(broker): State<Arc<Broker>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let id = correlation_id();
    let waited = match bounded(&broker, enter(&broker, &parts.headers, body, &id)).await.map(|(waiting, _place)| waiting) {
        Ok(waiting) => match untold(&broker, &waiting.request) {
            Some(authorities) => Ok(News::Authorities(authorities)),
            None => wait(&broker, &waiting).await.map(|changed| changed.map_or(News::None, |plan| News::Values(waiting, plan))),
        },
        Err(refused) => Err(refused),
    };
    let answer = async {
        match waited? {
            News::None => Ok((StatusCode::NO_CONTENT.into_response(), "unchanged")),
            News::Authorities(authorities) => Ok((typed(AUTHORITIES_TYPE, Json(authorities)), "authorities")),
            News::Values(waiting, plan) => {
                let Answer { body, outcome } = give(&broker, &parts.headers, &waiting, &plan, &id).await?;
                Ok((typed(RELEASE_TYPE, Body::from(body)), outcome))
            }
        }
    };
    finish(&broker, "watch", &id, answer, |answer| answer).await
}

/// What one who waited is told.
enum News {
    None,
    /// Nothing is opened for them, and everybody may know them: no record.
    Authorities(Authorities),
    /// To be released, by this part of the plan.
    Values(Waiting, Plan),
}

fn typed(content_type: &'static str, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The authorities in force, to an agent that wants to know them and does not. One that waits meanwhile comes again within a
/// minute, before another authority signs.
fn untold(broker: &Broker, request: &WatchRequest) -> Option<Authorities> {
    let known = request.authorities.as_ref()?;
    let bundle = broker.authority.load_full()?;
    let name = hex(&Sha256::digest(bundle.as_bytes())[..REVISION_LENGTH / 2]);
    (*known != name).then(|| Authorities { name, bundle: bundle.to_string() })
}

/// The first look: who is asking, and for what. A refusal is recorded as that of a release is; that there is no room is none.
async fn enter(broker: &Broker, headers: &HeaderMap, body: Body, id: &str) -> Result<Waiting, Refused> {
    let (identity, token) = broker.authenticator.token(headers).await?;
    broker.limits.count(&identity.subject.pod_uid).await?;
    match admit(broker, &identity, token, body).await {
        Ok((request, bytes)) => Ok(Waiting { subject: identity.subject.clone(), request, _remembered: broker.watch.remember(bytes)? }),
        Err(refused) => release::recorded(broker, &identity.subject, Err(refused.clone()), id).await.and(Err(refused)),
    }
}

async fn admit(broker: &Broker, identity: &Identity, token: &str, body: Body) -> Result<(WatchRequest, usize), Refused> {
    broker.authenticator.alive(identity, token).await?;
    let bytes = release::received(body).await?;
    let request: WatchRequest = release::parsed(&bytes)?;
    release::checked(&request.plan)?;
    Ok((request, bytes.len()))
}

/// The part of the plan that is in another state than the agent was told last; `None` after a long wait.
async fn wait(broker: &Broker, waiting: &Waiting) -> Result<Option<Plan>, Refused> {
    let turn = broker.watch.turns.take(&waiting.subject.pod_uid);
    let mut changes = broker.watch.changes.of(&waiting.subject.namespace);
    let patience = tokio::time::sleep(jittered(broker.watch.hold));
    tokio::pin!(patience);
    loop {
        // Marked before the look: what changes during it is looked at again.
        changes.borrow_and_update();
        let news = look(broker, waiting).await?;
        if !news.bindings.is_empty() {
            return Ok(Some(news));
        }
        tokio::select! {
            () = &mut patience => return Ok(None),
            () = turn.over() => return Ok(None),
            () = broker.watch.stop.cancelled() => return Err(Refused::later("Stopping", "this broker is stopping; ask again")),
            told = changes.changed() => if told.is_err() { return Ok(None) },
        }
    }
}

/// Compares what the agent knows with what is now; says to the metrics how far behind the pod is.
async fn look(broker: &Broker, Waiting { subject, request, .. }: &Waiting) -> Result<Plan, Refused> {
    let decision = release::decide(broker, &request.plan, subject)?;
    let now = revision::of(&request.plan, &decision);
    let known: HashMap<_, _> = request.known.iter().map(|known| (known.binding.as_str(), known)).collect();
    let known = |binding: &str| known.get(binding).copied();
    let held = |binding: &str| known(binding).and_then(|known| known.held.as_deref());
    let mut report = Report { cause: None, held: Vec::new() };
    for (planned, now) in request.plan.bindings.iter().zip(&now) {
        let held = held(&now.binding);
        let cause = (held != Some(now.revision.as_str())).then(|| cause(&now.binding, &decision));
        report.cause = report.cause.max(cause);
        // Plans are written by their pods: what does not exist is not remembered.
        let exists =
            broker.caches.binding(&subject.namespace, &planned.name).and_then(|found| found.uid()).filter(|uid| *uid == planned.uid);
        if let Some(uid) = exists {
            report.held.push(Held { uid, revision: held.filter(|held| is_revision(held)).map(str::to_owned), cause });
        }
    }
    broker.watch.reports.tell(&subject.pod_uid, report).await;
    let seen = |binding: &str| known(binding).and_then(|known| known.seen.as_deref());
    let news = request.plan.bindings.iter().zip(&now).filter(|(_, now)| seen(&now.binding) != Some(now.revision.as_str()));
    Ok(Plan { version: request.plan.version, bindings: news.map(|(planned, _)| planned.clone()).collect() })
}

/// Tells the controller what pods hold. Nothing is opened, so only a refusal is recorded.
pub(super) async fn held(broker: &Broker, headers: &HeaderMap, id: &str) -> Result<HeldAnswer, Refused> {
    inspect::controller(broker, headers, id).await?;
    Ok(broker.watch.reports.held())
}

fn cause(binding: &str, decision: &Decision) -> Cause {
    if decision.withdrawn.iter().any(|withdrawn| withdrawn.binding == binding) { Cause::Withdrawn } else { Cause::Pending }
}

/// Releases what changed, once its record is on disk. Who it is and what it may have is asked again: that was a while ago.
async fn give(broker: &Broker, headers: &HeaderMap, waiting: &Waiting, plan: &Plan, id: &str) -> Result<Answer, Refused> {
    let Ok(_turn) = broker.watch.releasing.acquire().await else { return Err(Refused::later("Stopping", "this broker is stopping")) };
    let subject = &waiting.subject;
    let release = async {
        let (identity, token) = broker.authenticator.token(headers).await?;
        let prepared = async {
            broker.authenticator.alive(&identity, token).await?;
            let decision = release::decide(broker, plan, subject)?;
            let revisions = revision::of(plan, &decision);
            release::opened(broker, decision, revisions, release::Pod::Runs).await
        };
        release::recorded(broker, subject, prepared.await, id).await
    };
    timely(release).await
}
