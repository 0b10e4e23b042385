//! The HTTP edge: bounds, correlation ids, one log line for each answer, and what runs beside the requests.

use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use kustody_core::wire::RELEASE_TYPE;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Broker;
use super::limits::holding;
use super::open::SWEEP;
use super::refusal::Refused;
use super::{inspect, release, watch};
use crate::runtime::process::Process;

/// How long one request may take: less than an agent waits, so that it hears the cause.
const TIMEOUT: Duration = Duration::from_secs(12);
/// Wait between attempts to fetch the signing keys for the first time.
const FETCH_AGAIN: Duration = Duration::from_secs(1);

/// `/v1/release`, `/v1/watch`, `/v1/inspect`, `/v1/held` and `/healthz`.
pub fn router(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/v1/release", post(serve_release))
        .route("/v1/watch", post(watch::serve))
        .route("/v1/inspect", post(serve_inspect))
        .route("/v1/held", post(serve_held))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(broker)
}

/// Keeps the signing keys fresh and overwrites seeds whose time is over, until the process stops.
pub fn keep(broker: &Arc<Broker>, process: &Process) {
    let waiting = process.readiness.register("signing keys of service accounts");
    let (broker, stop) = (Arc::downgrade(broker), process.stop.clone());
    process.tasks.spawn(async move {
        let mut waiting = Some(waiting);
        let keeping = async {
            while let Some(broker) = broker.upgrade() {
                match tokio::time::timeout(SWEEP, broker.authenticator.refresh()).await {
                    Ok(Ok(())) => drop(waiting.take()),
                    Ok(Err(error)) => tracing::warn!(%error, "unable to fetch the signing keys of service accounts, retrying"),
                    Err(_) => tracing::warn!("the API server does not answer with the signing keys of service accounts, retrying"),
                }
                broker.opener.sweep().await;
                broker.watch.sweep().await;
                drop(broker);
                tokio::time::sleep(if waiting.is_some() { FETCH_AGAIN } else { SWEEP }).await;
            }
        };
        stop.run_until_cancelled(keeping).await;
        // Ended without keys: never ready.
        std::mem::forget(waiting);
    });
}

async fn serve_release(State(broker): State<Arc<Broker>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let id = correlation_id();
    let answer = bounded(&broker, release::release(&broker, &parts.headers, body, &id));
    finish(&broker, "release", &id, answer, |(answer, place)| {
        let mut response = Body::from(holding(answer.body, place)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(RELEASE_TYPE));
        (response, answer.outcome)
    })
    .await
}

async fn serve_inspect(State(broker): State<Arc<Broker>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let id = correlation_id();
    let answer = bounded(&broker, inspect::inspect(&broker, &parts.headers, body, &id));
    finish(&broker, "inspect", &id, answer, |(answer, _place)| (Json(answer).into_response(), "inspected")).await
}

async fn serve_held(State(broker): State<Arc<Broker>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let id = correlation_id();
    let answer = bounded(&broker, watch::held(&broker, &parts.headers, &id));
    finish(&broker, "held", &id, answer, |(answer, _place)| (Json(answer).into_response(), "told")).await
}

/// Refuses what is too much, too slow, or too early. The place that comes with the answer is held for as long as it is.
pub(super) async fn bounded<T>(
    broker: &Broker,
    answer: impl Future<Output = Result<T, Refused>>,
) -> Result<(T, OwnedSemaphorePermit), Refused> {
    let place = broker.limits.enter()?;
    if !broker.caches.filled() {
        return Err(Refused::later("CacheBehind", "the broker is starting and does not know the cluster yet; try again"));
    }
    Ok((timely(answer).await?, place))
}

/// Refuses what is too slow.
pub(super) async fn timely<T>(answer: impl Future<Output = Result<T, Refused>>) -> Result<T, Refused> {
    // On the heap: whoever waits for a change carries none of it meanwhile.
    match tokio::time::timeout(TIMEOUT, Box::pin(answer)).await {
        Ok(answer) => answer,
        Err(_) => Err(Refused::later("Timeout", format!("the broker had no answer within {} s; try again", TIMEOUT.as_secs()))),
    }
}

/// Logs and counts an answer. The time of it is that of `answer` alone.
pub(super) async fn finish<T>(
    broker: &Broker,
    route: &'static str,
    correlation_id: &str,
    answer: impl Future<Output = Result<T, Refused>>,
    respond: impl FnOnce(T) -> (Response, &'static str),
) -> Response {
    let started = Instant::now();
    let answer = answer.await;
    let seconds = started.elapsed().as_secs_f64();
    let (mut response, outcome) = match answer {
        Ok(answer) => {
            let (response, outcome) = respond(answer);
            if outcome == "unchanged" || outcome == "told" {
                // Once a minute for every pod that waits, and twice for the controller.
                tracing::debug!(route, correlation_id, outcome, "answered");
            } else {
                tracing::info!(route, correlation_id, outcome, seconds, "answered");
            }
            (response, outcome)
        }
        Err(refused) => {
            let reason = refused.reason;
            tracing::info!(route, correlation_id, outcome = reason, seconds, why = refused.message, "refused");
            (refused.respond(correlation_id), reason)
        }
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    broker.counts.answered(route, outcome, seconds);
    response
}

/// Finds the record of an answer; random, so that it says nothing else.
pub(super) fn correlation_id() -> String {
    let mut bytes = [0; 8];
    // Only finds records: without randomness it finds nothing, and protects nothing.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes.iter().fold(String::with_capacity(16), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
