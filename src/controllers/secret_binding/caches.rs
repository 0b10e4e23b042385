//! What the reconciler of bindings reads besides the binding itself, and what the broker said of it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use kustody_api::names::REFRESH_ANNOTATION;
use kustody_api::{EncryptionKey, KeyProvider, SecretBinding};
use kustody_core::wire::InspectAnswer;

use super::held::Seen;
use crate::k8s::cache::filled;

/// How long an answer of the broker holds: one that is good throughout, and any other.
const AGAIN: (SignedDuration, SignedDuration) = (SignedDuration::from_hours(6), SignedDuration::from_mins(10));

/// What the reconciler reads besides the binding itself.
pub(super) struct Caches {
    pub(super) bindings: Store<SecretBinding>,
    pub(super) keys: Store<EncryptionKey>,
    pub(super) providers: Store<KeyProvider>,
    pub(super) namespaces: Store<Namespace>,
    pub(super) pods: Store<Pod>,
    pub(super) answers: Mutex<HashMap<String, Known>>,
    pub(super) held: Seen,
}

/// What the broker said, and of what.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) of: String,
    pub(super) at: Timestamp,
    pub(super) answer: InspectAnswer,
}

impl Known {
    /// Whether it need not be asked again: each question is an audit record, and only a change or time makes the answer another.
    ///
    /// What did not open may be the provider's fault and heal by itself, so that is asked again sooner.
    pub(super) fn is_current(&self, of: &str, now: Timestamp) -> bool {
        let all = self.answer.secrets.iter().chain(&self.answer.variables).chain(&self.answer.files);
        let lasts = if all.into_iter().all(|item| item.ok) { AGAIN.0 } else { AGAIN.1 };
        self.of == of && now < self.at + lasts
    }
}

/// Tells one state of binding and keys from another, as far as the broker's answer depends on it.
pub(super) fn fingerprint(binding: &SecretBinding, key: &dyn Fn(&str) -> Option<Arc<EncryptionKey>>) -> String {
    let keys = binding.spec.secrets.iter().filter_map(|source| key(&source.sealed.as_ref()?.key)).map(|key| {
        let status = key.status.clone().unwrap_or_default();
        format!("{:?} {:?} {:?}", key.uid(), status.key_id, status.sealing_keys.len())
    });
    let refresh = binding.annotations().get(REFRESH_ANNOTATION);
    format!("{:?} {refresh:?} {}", binding.metadata.generation, keys.collect::<Vec<_>>().join(" "))
}

impl Caches {
    /// Waits until every cache was filled once: before that, what is not there yet would look missing.
    pub(super) async fn filled(&self) -> bool {
        filled(&self.keys).await && filled(&self.providers).await && filled(&self.namespaces).await && filled(&self.pods).await
    }

    pub(super) fn known(&self, binding: &SecretBinding) -> Option<Known> {
        self.locked().get(&binding.uid()?).cloned()
    }

    pub(super) fn remember(&self, binding: &SecretBinding, known: Known) {
        let mut answers = self.locked();
        answers.insert(binding.uid().unwrap_or_default(), known);
        // A binding that was deleted has no pass in which it could be forgotten.
        if answers.len() > 2 * self.bindings.len() + 64 {
            let live: HashSet<String> = self.bindings.state().iter().filter_map(|binding| binding.uid()).collect();
            answers.retain(|uid, _| live.contains(uid));
        }
    }

    pub(super) fn forget(&self, binding: &SecretBinding) {
        self.locked().remove(&binding.uid().unwrap_or_default());
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kustody_core::wire::Inspected;

    use super::*;

    #[test]
    fn a_request_to_refresh_makes_an_answer_that_is_remembered_one_of_another_time() {
        let binding = |token: Option<&str>| -> SecretBinding {
            let annotations: serde_json::Value = token.map(|token| serde_json::json!({REFRESH_ANNOTATION: token})).into();
            serde_json::from_value(serde_json::json!({
                "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": "b", "annotations": annotations},
                "spec": {"workloads": {"serviceAccounts": ["a"]}, "secrets": [], "deliver": {}},
            }))
            .unwrap()
        };
        let of = |token| fingerprint(&binding(token), &|_| None);
        assert_eq!(of(Some("1")), of(Some("1")));
        assert_ne!(of(None), of(Some("1")));
        assert_ne!(of(Some("1")), of(Some("2")));
    }

    #[test]
    fn an_answer_holds_until_the_binding_changes_or_its_time_is_over() {
        let known = |ok: bool| Known {
            of: "a".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            answer: InspectAnswer { secrets: vec![Inspected { name: "s".to_owned(), ok, message: None }], ..InspectAnswer::default() },
        };
        let after = |minutes: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        assert!(known(true).is_current("a", after(359)) && !known(true).is_current("a", after(360)));
        assert!(known(false).is_current("a", after(9)) && !known(false).is_current("a", after(10)));
        assert!(!known(true).is_current("b", after(1)));
    }
}
