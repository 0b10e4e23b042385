//! Admission of pods over HTTP: bytes in, bytes out; decides nothing itself.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use kustody_inject::answer::Error;
use kustody_inject::{Config, Facts, respond};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::runtime::intake::Intake;
use crate::runtime::metrics::Metrics;

/// The API server sends a pod of up to 3 MiB, and says more around it.
const MAX_BODY: usize = 4 << 20;
/// All bodies together; what is made of one is a few times as large.
const ROOM: usize = 32 << 20;

/// Where facts come from: caches, or what a benchmark makes up.
pub type Source = Arc<dyn Fn(&str) -> Option<Facts> + Send + Sync>;

/// What every request is handed.
#[derive(Clone)]
pub struct Admission {
    source: Source,
    config: Arc<Config>,
    intake: Intake,
    outcomes: Family<Outcome, Counter>,
    seconds: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl Admission {
    /// With facts from `source`.
    pub fn new(source: Source, config: Config, metrics: &Metrics) -> Self {
        let seconds = Histogram::new([0.000_05, 0.000_2, 0.001, 0.005, 0.02, 0.1]);
        Self {
            source,
            config: Arc::new(config),
            intake: Intake::new(ROOM, MAX_BODY),
            outcomes: metrics.register("admission", "Pods that the webhook was asked about", Family::default()),
            seconds: metrics.register("admission_seconds", "Time from a decoded request to its answer", seconds),
        }
    }

    /// `POST /mutate-pods`, and `GET /healthz` for those who check the way here.
    pub fn router(self) -> Router {
        Router::new().route("/mutate-pods", post(mutate)).route("/healthz", get(|| async { "ok" })).with_state(self)
    }
}

async fn mutate(State(admission): State<Admission>, request: Request) -> Response {
    let taken = match admission.intake.take(request.into_body()).await {
        Ok(taken) => taken,
        // Counted and not logged: a flood is not to fill a disk.
        Err(refusal) => {
            admission.outcomes.get_or_create(&Outcome { outcome: "shed" }).inc();
            return refusal;
        }
    };
    let started = tokio::time::Instant::now();
    let answer = respond(&taken.bytes, |namespace| (admission.source)(namespace), &admission.config);
    admission.seconds.observe(started.elapsed().as_secs_f64());
    let outcome = match &answer {
        Ok(answer) => answer.outcome,
        Err(_) => "failed",
    };
    admission.outcomes.get_or_create(&Outcome { outcome }).inc();
    match answer {
        Ok(answer) => {
            tracing::info!(outcome, pod = answer.pod, why = answer.denial, "answered for a pod");
            ([(CONTENT_TYPE, "application/json")], answer.body).into_response()
        }
        Err(error) => {
            tracing::warn!(outcome, %error, "unable to answer an admission review");
            let status = if matches!(error, Error::NotReady) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST };
            (status, error.to_string()).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
