//! One who waits for each pod: a newer request of a pod ends its older one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Whose turn it is, by UID of the pod; clones share it.
#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<HashMap<String, Arc<CancellationToken>>>>);

/// The turn of one request; given back when it goes.
pub struct Turn {
    turns: Turns,
    pod_uid: String,
    token: Arc<CancellationToken>,
}

impl Turns {
    /// The pod's turn, taken from whatever request of it has it.
    pub fn take(&self, pod_uid: &str) -> Turn {
        let token = Arc::new(CancellationToken::new());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = all.insert(pod_uid.to_owned(), Arc::clone(&token)) {
            older.cancel();
        }
        Turn { turns: self.clone(), pod_uid: pod_uid.to_owned(), token }
    }
}

impl Turn {
    /// Returns when a newer request of the pod has taken it.
    pub async fn over(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&self.pod_uid).is_some_and(|token| Arc::ptr_eq(token, &self.token)) {
            all.remove(&self.pod_uid);
        }
    }
}
