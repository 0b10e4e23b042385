//! Why a pass over a key ended: what its condition will say, or what failed on the way.

use kustody_api::Reason;
use kustody_providers::Error as ProviderError;
use thiserror::Error;

use crate::controllers::intent::Late;

/// The key is not ready, and this is what its condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why.
    pub reason: Reason,
    /// The object, the field, the rule and the remedy.
    pub message: String,
}

impl Verdict {
    /// A verdict.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Why a pass did not reach its end.
#[derive(Debug, Error)]
pub enum Failure {
    /// The key is refused, or is not what it should be.
    #[error("{}: {}", <&'static str>::from(.0.reason), .0.message)]
    Refused(Verdict),
    /// The provider failed.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The API server failed, or the object was changed since it was read.
    #[error("the API server refused or failed")]
    Kubernetes(#[from] kube::Error),
    /// This process slept, and may lead no more.
    #[error(transparent)]
    Late(#[from] Late),
    /// No randomness.
    #[error("the system gave no random bytes")]
    Random,
    /// A sealing key could not be made.
    #[error("the sealing key could not be made")]
    Sealing(#[from] kustody_core::sealing::Error),
}

impl From<Verdict> for Failure {
    fn from(verdict: Verdict) -> Self {
        Self::Refused(verdict)
    }
}

/// What a failed pass says in the condition; `None` when nothing was learnt of the key itself.
pub fn condition_of(failure: &Failure, provider: &str) -> Option<Verdict> {
    Some(match failure {
        Failure::Refused(verdict) => verdict.clone(),
        Failure::Provider(error) => {
            let reason = match error {
                ProviderError::NotFound { .. } => Reason::KeyNotFound,
                ProviderError::State { .. } => Reason::KeyNotUsable,
                ProviderError::Conflict { .. } => Reason::Conflict,
                ProviderError::Unavailable { .. } => Reason::ProviderUnavailable,
                ProviderError::RootKey { .. } => Reason::RootKeyLost,
                ProviderError::Denied { .. } | ProviderError::Configuration { .. } | ProviderError::Ciphertext { .. } => {
                    Reason::ProviderNotReady
                }
            };
            let remedy = match error {
                ProviderError::NotFound { .. } => "; restore it at the provider: Kustody never makes a new key in its place",
                ProviderError::State { .. } => "; enable it at the provider",
                ProviderError::Unavailable { .. } => "; this is retried",
                ProviderError::Conflict { .. }
                | ProviderError::Denied { .. }
                | ProviderError::Configuration { .. }
                | ProviderError::RootKey { .. }
                | ProviderError::Ciphertext { .. } => "",
            };
            Verdict::new(reason, format!("KeyProvider {provider}: {error}{remedy}"))
        }
        Failure::Kubernetes(_) | Failure::Late(_) | Failure::Random => return None,
        Failure::Sealing(error) => Verdict::new(Reason::ProviderNotReady, format!("the sealing key could not be made: {error}")),
    })
}
