//! The emitted schemas and rules.

use kube::CustomResourceExt;

use crate::{EncryptionKey, KeyProvider, SecretBinding};

#[test]
fn each_crd_is_under_100_kb() {
    for crd in [KeyProvider::crd(), EncryptionKey::crd(), SecretBinding::crd()] {
        let size = serde_json::to_string(&crd).expect("a CRD serialises").len();
        assert!(size < 100_000, "{} has {size} bytes", crd.metadata.name.unwrap_or_default());
    }
}
