//! What one broker takes on at once, and what one pod may ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use moka::future::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal::Refused;

/// Requests at the same time, each with at most a body and a release in memory; below what the audit queue takes.
const CONCURRENT: usize = 256;
/// Requests of one pod in [`WINDOW`]: each may write an audit record, and the disk is everybody's.
const PER_POD: u32 = 60;
const WINDOW: Duration = Duration::from_mins(1);
/// Pods that are counted at the same time.
const PODS: u64 = 20_000;

/// Bounds of one broker.
pub struct Limits {
    all: Arc<Semaphore>,
    pods: Cache<String, Arc<AtomicU32>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(CONCURRENT)), pods: Cache::builder().max_capacity(PODS).time_to_live(WINDOW).build() }
    }
}

impl Limits {
    /// A place among those who are served now, or a refusal at once: waiting agents would only pile up.
    pub fn enter(&self) -> Result<OwnedSemaphorePermit, Refused> {
        Arc::clone(&self.all)
            .try_acquire_owned()
            .map_err(|_| Refused::later("Busy", "the broker serves as many requests as it can; try again"))
    }

    /// Counts a request of the pod of this UID, whose token was verified.
    pub async fn count(&self, pod_uid: &str) -> Result<(), Refused> {
        let count = self.pods.get_with_by_ref(pod_uid, async { Arc::default() }).await;
        if count.fetch_add(1, Ordering::Relaxed) < PER_POD {
            return Ok(());
        }
        Err(Refused {
            status: StatusCode::TOO_MANY_REQUESTS,
            reason: "TooManyRequests",
            message: format!("this pod asked more than {PER_POD} times within {} s; wait a minute", WINDOW.as_secs()),
            retry: true,
        })
    }
}
