//! Readiness as a set of named reasons for not being ready.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Collects what the process still waits for.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeSet<String>>>);

/// A reason for not being ready, gone when dropped.
#[must_use = "dropping the token says that this part is ready"]
pub struct Token {
    readiness: Readiness,
    name: String,
}

impl Readiness {
    /// The process is not ready until the token is dropped.
    pub fn register(&self, name: impl Into<String>) -> Token {
        let name = name.into();
        self.names().insert(name.clone());
        Token { readiness: self.clone(), name }
    }

    /// What is still waited for; empty when ready.
    pub fn waiting(&self) -> Vec<String> {
        self.names().iter().cloned().collect()
    }

    fn names(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.readiness.names().remove(&self.name);
    }
}
