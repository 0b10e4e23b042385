//! Liveness, readiness and metrics for the kubelet and the scraper; plain HTTP, nothing secret.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use super::process::Process;

/// `/livez`, `/readyz` (with what is still waited for) and `/metrics`.
pub fn router(process: &Process) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|State(process): State<Process>| async move { process.metrics.render() }))
        .with_state(process.clone())
}

async fn ready(State(process): State<Process>) -> (StatusCode, String) {
    if process.draining.is_cancelled() || process.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    let waiting = process.readiness.waiting();
    if waiting.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", waiting.join(", ")))
    }
}
