//! What can go wrong at a provider, told apart by what the caller must do.

use thiserror::Error as ThisError;

/// A failed call.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The key does not exist. Never a reason to make a new one.
    #[error("key {id} does not exist")]
    NotFound {
        /// Id that was asked for.
        id: String,
    },
    /// The service refuses us.
    #[error("the provider refuses {operation} on {id}: {detail}")]
    Denied {
        /// What was asked.
        operation: &'static str,
        /// On which key.
        id: String,
        /// The missing permission or the rule.
        detail: String,
    },
    /// The key is not in a state that allows this.
    #[error("key {id} is {state:?}: {operation} needs an enabled key")]
    State {
        /// What was asked.
        operation: &'static str,
        /// On which key.
        id: String,
        /// The state it is in.
        state: crate::State,
    },
    /// Somebody else's claim or write came first.
    #[error("key {id} was changed or claimed by another: {detail}")]
    Conflict {
        /// Which key.
        id: String,
        /// Who holds it.
        detail: String,
    },
    /// The ciphertext does not open: other key, other context, or altered.
    #[error("the ciphertext does not open under key {id} with this context")]
    Ciphertext {
        /// Which key.
        id: String,
    },
    /// The root key that the keys are under is gone, or another one is in its place. Nothing was overwritten.
    #[error("{detail}")]
    RootKey {
        /// What to restore.
        detail: String,
    },
    /// The configuration is unusable.
    #[error("{detail}")]
    Configuration {
        /// The object, the field, the rule and the remedy.
        detail: String,
    },
    /// The service did not answer, or told us to wait.
    #[error("the provider did not answer {operation}: {detail}")]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// What was seen.
        detail: String,
    },
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Conflict { .. })
    }
}
