//! What one broker takes on at once, and what one pod may ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use moka::future::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal::Refused;

/// Requests at the same time; below what the audit queue takes.
const CONCURRENT: usize = 256;
/// What plans, sealed values and answers of all of them take together, in KiB: a quarter of what the chart gives a broker, with
/// [`RUNNING`]. A provider that is slow, and clients that do not read, would fill the memory otherwise.
pub(super) const STARTING: usize = 48 * 1024;
/// The same for pods that wait for changes: room of its own, so that a change for many keeps nobody from starting.
pub(super) const RUNNING: usize = 16 * 1024;
/// What one request counts as at most, in bytes: it must find room some day.
const ONE: usize = 8 << 20;
const KIB: usize = 1024;
/// Requests of one pod in [`WINDOW`]: each may write an audit record, and the disk is everybody's.
const PER_POD: u32 = 60;
const WINDOW: Duration = Duration::from_mins(1);
/// Pods that are counted at the same time.
const PODS: u64 = 20_000;

/// Memory that requests share; counted, not reserved.
pub struct Room(Arc<Semaphore>);

impl Room {
    /// Of this many KiB.
    pub fn new(kib: usize) -> Self {
        Self(Arc::new(Semaphore::new(kib)))
    }

    /// Room for `bytes`, or a refusal at once.
    pub fn enter(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refused> {
        Arc::clone(&self.0)
            .try_acquire_many_owned(kib(bytes))
            .map_err(|_| Refused::later("Busy", "the broker holds as much as it has room for; try again"))
    }

    /// Room for `bytes`, once it is there.
    pub async fn wait(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refused> {
        let room = Arc::clone(&self.0).acquire_many_owned(kib(bytes)).await;
        room.map_err(|_| Refused::later("Stopping", "this broker is stopping; ask again"))
    }

    /// Makes what is held enough for `bytes` and no more: whoever holds room does not wait for more.
    pub fn fit(&self, held: &mut OwnedSemaphorePermit, bytes: usize) -> Result<(), Refused> {
        let wanted = bytes.div_ceil(KIB);
        drop(held.split(held.num_permits().saturating_sub(wanted)));
        held.merge(self.enter((wanted - held.num_permits()) * KIB)?);
        Ok(())
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.min(ONE).div_ceil(KIB)).unwrap_or(u32::MAX)
}

/// An answer that holds its place and its room until its last byte is written, or given up: the server drops the body as soon
/// as it has taken the bytes, so it is the bytes that hold them.
pub(super) fn holding(bytes: impl AsRef<[u8]> + Send + 'static, held: OwnedSemaphorePermit) -> Bytes {
    struct Holding<B>(B, #[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);
    impl<B: AsRef<[u8]>> AsRef<[u8]> for Holding<B> {
        fn as_ref(&self) -> &[u8] {
            self.0.as_ref()
        }
    }
    Bytes::from_owner(Holding(bytes, held))
}

/// Bounds of one broker.
pub struct Limits {
    /// What requests of pods that start hold.
    pub starting: Room,
    all: Arc<Semaphore>,
    pods: Cache<String, Arc<AtomicU32>>,
}

impl Default for Limits {
    fn default() -> Self {
        let pods = Cache::builder().max_capacity(PODS).time_to_live(WINDOW).build();
        Self { starting: Room::new(STARTING), all: Arc::new(Semaphore::new(CONCURRENT)), pods }
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
