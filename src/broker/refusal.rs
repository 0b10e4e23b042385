//! What a caller is told when nothing is released.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kustody_core::wire::Refusal;

/// A refusal with its HTTP status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// HTTP status.
    pub status: StatusCode,
    /// Machine-readable, `CamelCase`.
    pub reason: &'static str,
    /// The object, the field, the rule and the remedy, or one general message to those who may not know.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retry: bool,
}

impl Refused {
    /// A refusal that lasts.
    pub fn denied(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into(), retry: false }
    }

    /// A refusal that may be over soon.
    pub fn later(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, reason, message: message.into(), retry: true }
    }

    /// To whom nothing is known of: neither who is asking nor what for.
    pub fn anonymous() -> Self {
        Self::denied(
            StatusCode::UNAUTHORIZED,
            "Unauthenticated",
            "the token is not a valid token of a running pod for this broker; whoever runs the operator finds the cause in its log",
        )
    }

    /// The audit record could not be written.
    pub fn unrecorded() -> Self {
        Self::later(
            "AuditUnavailable",
            "the broker cannot write its audit log to disk, and releases nothing without it; the operator's log says why",
        )
    }

    /// The answer on the wire.
    pub fn respond(self, correlation_id: &str) -> Response {
        let Self { status, reason, message, retry } = self;
        let body = Refusal { reason: reason.to_owned(), message, correlation_id: correlation_id.to_owned(), retry };
        (status, Json(body)).into_response()
    }
}
