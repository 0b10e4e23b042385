//! `kubectl kustody reseal`: what the annotation asks for, and the answer in status; ciphertext only.

use kube::ResourceExt;
use kustody_api::SecretBinding;
use kustody_api::names::RESEAL_ANNOTATION;
use kustody_api::secret_binding::{Resealed, ResealedSecret};
use kustody_core::sealing::format::hex;
use kustody_core::wire::ResealedValue;
use sha2::{Digest, Sha256};

/// An object has a limit, and the spec holds as much already.
const LIMIT: usize = 512 * 1024;

/// The token of the request that the binding carries.
pub fn requested(binding: &SecretBinding) -> Option<&String> {
    binding.annotations().get(RESEAL_ANNOTATION)
}

/// The token of a request that is not answered yet.
pub fn pending(binding: &SecretBinding) -> Option<String> {
    let answered = binding.status.as_ref().and_then(|status| status.resealed.as_ref()).map(|resealed| &resealed.request);
    requested(binding).filter(|request| Some(*request) != answered).cloned()
}

/// The answer, as much of it as an object can hold.
pub fn answered(binding: &SecretBinding, request: String, values: Vec<ResealedValue>, refused: Option<String>) -> Resealed {
    let (mut left, all) = (LIMIT, values.len());
    let mut secrets = Vec::new();
    for ResealedValue { name, sealed } in values {
        let old = binding.spec.secrets.iter().find(|source| source.name == name).and_then(|source| source.sealed.as_ref());
        let (Some(old), Some(rest)) = (old, left.checked_sub(sealed.len())) else { continue };
        left = rest;
        secrets.push(ResealedSecret { name, replaces_sha256: hex(&Sha256::digest(old.value.as_bytes())), value: sealed });
    }
    let more = || format!("{} more values are outdated than one answer holds; apply these and ask again", all - secrets.len());
    let message = refused.or_else(|| (secrets.len() < all).then(more));
    Resealed { request, message, secrets }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn binding(annotation: Option<&str>, answered: Option<&str>) -> SecretBinding {
        let secret = |name: &str| json!({"name": name, "sealed": {"key": "k", "value": name}});
        let resealed = answered.map(|request| json!({"resealed": {"request": request, "secrets": []}}));
        serde_json::from_value(json!({
            "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding",
            "metadata": {"name": "b", "annotations": annotation.map(|token| json!({RESEAL_ANNOTATION: token}))},
            "spec": {"workloads": {"serviceAccounts": ["a"]}, "secrets": [secret("one"), secret("two")], "deliver": {}},
            "status": resealed,
        }))
        .unwrap()
    }

    #[test]
    fn a_request_is_answered_once() {
        assert_eq!(pending(&binding(None, None)), None);
        assert_eq!(pending(&binding(Some("r1"), None)).as_deref(), Some("r1"));
        assert_eq!(pending(&binding(Some("r1"), Some("r1"))), None);
        assert_eq!(pending(&binding(Some("r2"), Some("r1"))).as_deref(), Some("r2"));
    }

    #[test]
    fn what_an_object_cannot_hold_or_the_broker_refuses_is_said() {
        let value = |name: &str, length: usize| ResealedValue { name: name.to_owned(), sealed: "x".repeat(length) };
        let all = answered(&binding(None, None), "r".to_owned(), vec![value("one", 10), value("two", 10)], None);
        assert_eq!((all.secrets.len(), all.message), (2, None));
        let half = answered(&binding(None, None), "r".to_owned(), vec![value("one", LIMIT), value("two", 10)], None);
        assert_eq!(half.secrets.len(), 1);
        assert!(half.message.unwrap().contains("1 more values are outdated"));
        let none = answered(&binding(None, None), "r".to_owned(), Vec::new(), Some("not ours".to_owned()));
        assert_eq!(none.message.as_deref(), Some("not ours"));
    }
}
