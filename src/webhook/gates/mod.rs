//! The gate at write time: whoever writes an object of ours must have the verb `use` on what its spec names.
//!
//! A help against mistakes, not the boundary: that stays at release (`KeyProvider.access`, `EncryptionKey.grants`).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::Semaphore;

use crate::runtime::intake::Intake;
use crate::runtime::metrics::Metrics;

pub mod answer;
pub mod ask;
pub mod question;
#[cfg(test)]
mod tests;

use answer::Verdict;
use ask::Reviewer;
use question::{Named, Question};

/// The API server sends an object of up to 3 MiB, on an update with what it was before.
const MAX_BODY: usize = 8 << 20;
/// All bodies together.
const ROOM: usize = 16 << 20;
/// How long the API server may take to say all that one object needs: less than it waits for us (5 s), so that a person reads
/// our message.
const ANSWERS: Duration = Duration::from_secs(3);
/// Reviews at the same time for one object.
const AT_ONCE: usize = 8;
/// Reviews at the same time for all objects together: whoever writes very much must not make us flood the API server.
const REVIEWS: usize = 32;

/// What every request is handed.
#[derive(Clone)]
pub struct Gate {
    reviewer: Arc<dyn Reviewer>,
    intake: Intake,
    reviews: Arc<Semaphore>,
    patience: Duration,
    outcomes: Family<Outcome, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl Gate {
    /// Asks `reviewer`.
    pub fn new(reviewer: Arc<dyn Reviewer>, metrics: &Metrics) -> Self {
        let outcomes = metrics.register("gate", "Writes of our kinds, by what the verb use said", Family::default());
        let (intake, reviews) = (Intake::new(ROOM, MAX_BODY), Arc::new(Semaphore::new(REVIEWS)));
        Self { reviewer, intake, reviews, patience: ANSWERS, outcomes }
    }

    /// `POST /gates`.
    pub fn router(self) -> Router {
        Router::new().route("/gates", post(review)).with_state(self)
    }

    async fn refused(&self, question: &Question, named: &Named) -> Result<Option<Named>, kube::Error> {
        let _place = self.reviews.acquire().await;
        let may = self.reviewer.may_use(&question.user, named).await?;
        Ok((!may).then(|| named.clone()))
    }

    /// Whether the user of this question may `use` everything that it names; no answer in time is no.
    async fn decide(&self, question: &Question) -> Verdict {
        if let Some(count) = question.too_many {
            return Verdict::TooMany(count);
        }
        if question.named.is_empty() {
            return Verdict::Unchanged;
        }
        let asking = question.named.iter().map(|named| self.refused(question, named)).collect::<Vec<_>>();
        let asked = stream::iter(asking).buffered(AT_ONCE).try_collect::<Vec<Option<Named>>>();
        match tokio::time::timeout(self.patience, asked).await {
            Ok(Ok(denied)) => {
                let denied: Vec<Named> = denied.into_iter().flatten().collect();
                if denied.is_empty() { Verdict::Allowed } else { Verdict::Denied(denied) }
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, object = question.object, "unable to ask who may use what");
                Verdict::Unknown
            }
            Err(_) => {
                tracing::warn!(object = question.object, "the API server does not say in time who may use what");
                Verdict::Unknown
            }
        }
    }
}

async fn review(State(gate): State<Gate>, request: Request) -> Response {
    let taken = match gate.intake.take(request.into_body()).await {
        Ok(taken) => taken,
        // Counted and not logged: a flood is not to fill a disk.
        Err(refusal) => {
            gate.outcomes.get_or_create(&Outcome { outcome: "shed" }).inc();
            return refusal;
        }
    };
    let question = match Question::read(&taken.bytes) {
        Ok(question) => question,
        Err(error) => {
            gate.outcomes.get_or_create(&Outcome { outcome: "failed" }).inc();
            tracing::warn!(outcome = "failed", %error, "unable to answer an admission review of our own kinds");
            return (StatusCode::BAD_REQUEST, error.to_string()).into_response();
        }
    };
    let verdict = gate.decide(&question).await;
    // The question holds as much as the body had, so its place is kept until the decision is made.
    drop(taken);
    gate.outcomes.get_or_create(&Outcome { outcome: verdict.outcome() }).inc();
    let why = verdict.denial(&question).map(|denial| denial.message);
    tracing::info!(outcome = verdict.outcome(), object = question.object, why, "answered for an object of ours");
    Json(verdict.answer(&question)).into_response()
}
