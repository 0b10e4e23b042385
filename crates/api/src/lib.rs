//! The kinds of `kustody.dev/v1alpha1`: types, schemas, rules, conditions and names.
//!
//! The doc comments of the fields are the product's manual: they become the CRDs' descriptions and the reference pages.

#![allow(unreachable_pub, reason = "the derive of kube re-emits public types inside a private module")]
#![allow(clippy::duplicated_attributes, reason = "each print column names its type")]

pub mod conditions;
pub mod encryption_key;
pub mod key_provider;
pub mod names;
pub mod policy;
pub mod secret_binding;

pub use conditions::{Condition, ConditionType, Reason};
pub use encryption_key::{EncryptionKey, EncryptionKeySpec, EncryptionKeyStatus};
pub use key_provider::{KeyProvider, KeyProviderSpec, KeyProviderStatus};
pub use secret_binding::{SecretBinding, SecretBindingSpec, SecretBindingStatus};

#[cfg(test)]
mod tests;
