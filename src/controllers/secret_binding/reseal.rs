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
pub fn answered(binding: &SecretBinding, request: String, values: Vec<ResealedValue>) -> Resealed {
    let mut left = LIMIT;
    let mut secrets = Vec::new();
    for ResealedValue { name, sealed } in values {
        let old = binding.spec.secrets.iter().find(|source| source.name == name).and_then(|source| source.sealed.as_ref());
        let (Some(old), Some(rest)) = (old, left.checked_sub(sealed.len())) else { continue };
        left = rest;
        secrets.push(ResealedSecret { name, replaces_sha256: hex(&Sha256::digest(old.value.as_bytes())), value: sealed });
    }
    Resealed { request, secrets }
}
