//! Which state a binding is in for one pod, as a short name; pure.
//!
//! Made of names and ciphertext alone, so that it says nothing of a value, and of nothing that differs between replicas or over
//! a restart, so that a pod is not told again what it knows.

use kube::ResourceExt;
use kustody_core::hex::hex;
use kustody_core::wire::Plan;
use kustody_core::wire::watch::{REVISION_LENGTH, Revision};
use sha2::{Digest, Sha256};

use super::authorize::Decision;

/// The revision of each binding of the plan, under this decision about it.
///
/// It changes when a secret is sealed anew, when one is withdrawn or given again, and when the reason for a withdrawal changes.
pub fn of(plan: &Plan, decision: &Decision) -> Vec<Revision> {
    plan.bindings.iter().map(|planned| Revision { binding: planned.name.clone(), revision: one(&planned.name, decision) }).collect()
}

fn one(binding: &str, decision: &Decision) -> String {
    let mut hash = Sha256::new();
    put(&mut hash, b"kustody.dev/revision/1");
    put(&mut hash, binding.as_bytes());
    for allowed in decision.allowed.iter().filter(|allowed| allowed.binding.name_any() == binding) {
        put(&mut hash, b"given");
        put(&mut hash, allowed.secret.as_bytes());
        for property in &allowed.properties {
            put(&mut hash, property.as_ref().map_or(&b"whole"[..], |_| b"property"));
            put(&mut hash, property.as_deref().unwrap_or_default().as_bytes());
        }
        put(&mut hash, &allowed.sealed.header.to_bytes());
        put(&mut hash, &allowed.sealed.encapsulated);
        put(&mut hash, &allowed.sealed.ciphertext);
    }
    for withdrawn in decision.withdrawn.iter().filter(|withdrawn| withdrawn.binding == binding) {
        put(&mut hash, b"withdrawn");
        put(&mut hash, withdrawn.item.as_bytes());
        put(&mut hash, withdrawn.reason.as_bytes());
    }
    hex(&hash.finalize()[..REVISION_LENGTH / 2])
}

fn put(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_be_bytes());
    hash.update(part);
}
