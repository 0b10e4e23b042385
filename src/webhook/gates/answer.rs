//! From a verdict to the answer, and to what a person reads. Pure.

use kustody_api::names::{GROUP, USE_VERB};
use serde::Serialize;

use super::question::{MOST_SECRETS, Named, Question, What};

/// The longest denial: more is cut by clients.
const MOST: usize = 5;

/// What came of one question.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The spec names nothing, or nothing new.
    Unchanged,
    /// The user may use all of it.
    Allowed,
    /// The user may not use these.
    Denied(Vec<Named>),
    /// The spec has this many secrets, more than are asked about.
    TooMany(usize),
    /// The API server did not say.
    Unknown,
}

/// Why not, for people and for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Denial {
    code: u16,
    reason: &'static str,
    /// The object, the field, the rule and the remedy.
    pub message: String,
}

/// The `AdmissionReview` to send.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Denial>,
}

impl Verdict {
    /// For the metric.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Allowed => "allowed",
            Self::Denied(_) | Self::TooMany(_) => "denied",
            Self::Unknown => "unknown",
        }
    }

    /// Why the write is refused; `None` when it is not.
    pub fn denial(&self, question: &Question) -> Option<Denial> {
        let user = question.user.username.as_deref().unwrap_or_default();
        let object = &question.object;
        match self {
            Self::Unchanged | Self::Allowed => None,
            Self::Denied(denied) => {
                let mut parts: Vec<String> = denied.iter().take(MOST).map(|named| missing(named, user)).collect();
                if denied.len() > MOST {
                    parts.push(format!("and {} more", denied.len() - MOST));
                }
                let message = format!("Kustody: {object}: {}", parts.join("; "));
                Some(Denial { code: 403, reason: "Forbidden", message })
            }
            Self::TooMany(count) => {
                let message = format!(
                    "Kustody: {object}: spec.secrets has {count} entries, and at most {MOST_SECRETS} are allowed; divide them among \
                     more bindings"
                );
                Some(Denial { code: 422, reason: "Invalid", message })
            }
            Self::Unknown => {
                let all: Vec<String> = question.named.iter().take(MOST).map(named_at).collect();
                let message = format!(
                    "Kustody: {object}: whether user {user:?} has the verb `{USE_VERB}` on what it names ({}) is not known: the API \
                     server did not answer in time; apply it again",
                    all.join(", ")
                );
                Some(Denial { code: 503, reason: "ServiceUnavailable", message })
            }
        }
    }

    /// The answer; whatever is not a yes is a no.
    pub fn answer<'a>(&self, question: &'a Question) -> Answer<'a> {
        let status = self.denial(question);
        let response = Response { uid: &question.uid, allowed: status.is_none(), status };
        Answer { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response }
    }
}

fn named_at(named: &Named) -> String {
    format!("{}: {} {}", named.field, named.what.kind(), named.name)
}

fn missing(named: &Named, user: &str) -> String {
    let Named { what, namespace, name, field } = named;
    let place = match (what, namespace) {
        (What::Key, Some(namespace)) => format!("a Role in namespace {namespace}"),
        // A RoleBinding to it would say nothing about what has no namespace.
        _ => "a ClusterRole, by a ClusterRoleBinding,".to_owned(),
    };
    format!(
        "{field}: user {user:?} lacks the verb `{USE_VERB}` on {} {name}; bind the user to {place} with the rule {{apiGroups: [{GROUP}], \
         resources: [{}], resourceNames: [{name}], verbs: [{USE_VERB}]}}",
        what.kind(),
        what.resource()
    )
}
