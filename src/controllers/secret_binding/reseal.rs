//! `kubectl kustody reseal`: what the annotation asks for, and the answer in status; ciphertext only.

use kube::ResourceExt;
use kustody_api::SecretBinding;
use kustody_api::names::RESEAL_ANNOTATION;
use kustody_api::secret_binding::{Resealed, ResealedSecret};
use kustody_core::sealing::format::hex;
use kustody_core::wire::ResealedValue;
use sha2::{Digest, Sha256};

/// As long as a condition's message may be.
const MESSAGE: usize = 2048;

/// The token of the request that the binding carries.
pub fn requested(binding: &SecretBinding) -> Option<&String> {
    binding.annotations().get(RESEAL_ANNOTATION)
}

/// The token of a request that is not answered yet.
pub fn pending(binding: &SecretBinding) -> Option<String> {
    let answered = binding.status.as_ref().and_then(|status| status.resealed.as_ref()).map(|resealed| &resealed.request);
    requested(binding).filter(|request| Some(*request) != answered).cloned()
}

/// The broker's answer as status holds it.
pub fn answered(binding: &SecretBinding, request: String, values: Vec<ResealedValue>, reasons: &[String]) -> Resealed {
    let of_spec = |name: &str| binding.spec.secrets.iter().find(|source| source.name == name)?.sealed.as_ref();
    let secret = |ResealedValue { name, sealed }: ResealedValue| {
        let replaces_sha256 = hex(&Sha256::digest(of_spec(&name)?.value.as_bytes()));
        Some(ResealedSecret { name, replaces_sha256, value: sealed })
    };
    let mut message = reasons.join("; ");
    message.truncate(message.floor_char_boundary(MESSAGE));
    Resealed {
        request,
        message: Some(message).filter(|message| !message.is_empty()),
        secrets: values.into_iter().filter_map(secret).collect(),
    }
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
    fn status_holds_what_was_sealed_anew_what_it_replaces_and_why_the_rest_was_not() {
        let value = |name: &str| ResealedValue { name: name.to_owned(), sealed: "new".to_owned() };
        let all = answered(&binding(None, None), "r".to_owned(), vec![value("one"), value("two"), value("gone")], &[]);
        assert_eq!((all.secrets.len(), &all.message), (2, &None));
        assert_eq!(all.secrets[0].replaces_sha256, hex(&Sha256::digest(b"one")));
        let none = answered(&binding(None, None), "r".to_owned(), Vec::new(), &["a".to_owned(), "b".to_owned()]);
        assert_eq!(none.message.as_deref(), Some("a; b"));
    }
}
