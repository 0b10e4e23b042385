//! From the bytes of a request to the bytes of its answer.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use thiserror::Error;

use crate::decide::{Decision, decide};
use crate::facts::{Config, Facts};
use crate::view::{Request, Review};

/// The longest denial: more is cut by clients and events.
const MAX_MESSAGE: usize = 1900;
/// The only version of a review that is understood.
pub const VERSION: &str = "admission.k8s.io/v1";

/// An answer, and what came of it for metrics.
#[derive(Debug)]
pub struct Answer {
    /// The `AdmissionReview` to send.
    pub body: Vec<u8>,
    /// `injected`, `unchanged`, `skipped` or `denied`.
    pub outcome: &'static str,
    /// Why the pod was denied.
    pub denial: Option<String>,
    /// Namespace and name of the pod, as far as it has one, for the log.
    pub pod: String,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum Error {
    /// The request cannot be read.
    #[error("{}", unreadable(.0))]
    Malformed(serde_json::Error),
    /// It may mean something else than we would read.
    #[error("apiVersion: the review is of {0:?}, and only {VERSION} is understood; admissionReviewVersions of the webhook must say v1")]
    Version(String),
    /// Caches are not filled.
    #[error("what admission needs to know is not known yet; try again")]
    NotReady,
    /// The answer cannot be written.
    #[error("the answer cannot be written")]
    Write(#[source] serde_json::Error),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Out<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

/// Answers one review; `facts` are those of a namespace, `None` while they are not known.
pub fn respond(body: &[u8], facts: impl FnOnce(&str) -> Option<Facts>, config: &Config) -> Result<Answer, Error> {
    let review: Review<'_> = serde_json::from_slice(body).map_err(Error::Malformed)?;
    let version = review.api_version.as_deref().unwrap_or_default();
    if version != VERSION {
        return Err(Error::Version(version.to_owned()));
    }
    let request = review.request;
    let mut response = Response { uid: &request.uid, allowed: true, ..Response::default() };
    let mut denial = None;
    let outcome = match (&request.object, request.namespace.as_deref()) {
        (Some(pod), Some(namespace)) => {
            let facts = facts(namespace).ok_or(Error::NotReady)?;
            match decide(pod, namespace, &facts, config) {
                Decision::Skip(_) => "skipped",
                Decision::Deny(why) => {
                    let message = bounded(format!("Kustody: {why}"));
                    response.allowed = false;
                    response.status = Some(Status { code: 403, reason: "Forbidden", message });
                    denial = Some(why);
                    "denied"
                }
                Decision::Inject { patch, bindings, warnings } => {
                    response.warnings = warnings;
                    response.audit_annotations.insert("bindings", bindings.join(","));
                    if patch.is_empty() {
                        "unchanged"
                    } else {
                        response.patch_type = Some("JSONPatch");
                        response.patch = Some(STANDARD.encode(serde_json::to_vec(patch.operations()).map_err(Error::Write)?));
                        "injected"
                    }
                }
            }
        }
        _ => "skipped",
    };
    let out = Out { api_version: VERSION, kind: "AdmissionReview", response };
    Ok(Answer { body: serde_json::to_vec(&out).map_err(Error::Write)?, outcome, denial, pod: named(&request) })
}

/// `NAMESPACE/NAME`; `NAMESPACE/PREFIX*` where the API server has yet to make a name.
fn named(request: &Request<'_>) -> String {
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let pod = request.object.as_ref().map(|pod| &pod.metadata);
    let prefix = || pod.and_then(|pod| pod.generate_name.as_deref()).unwrap_or_default();
    match pod.and_then(|pod| pod.name.as_deref()) {
        Some(name) => format!("{namespace}/{name}"),
        None => format!("{namespace}/{}*", prefix()),
    }
}

/// Why a review cannot be read. The parser's own words may hold what a pod says; these hold its place alone.
pub fn unreadable(error: &serde_json::Error) -> String {
    let what = if error.is_eof() { "it ends too early" } else { "it is not as the API server writes it" };
    let (line, column) = (error.line(), error.column());
    format!(
        "the admission review cannot be read: {what} (line {line}, column {column}); see what is between the API server and the webhook"
    )
}

fn bounded(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}
