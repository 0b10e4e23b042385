//! Durable, hash-chained records: an answer waits until its record is on disk.

use std::path::Path;

use kustody_core::audit::{Chain, Draft, Event};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::runtime::metrics::Metrics;
use crate::runtime::process::Process;

pub mod segments;
#[cfg(test)]
mod tests;
pub mod writer;

pub use segments::OpenError;
use writer::Writer;

/// How many records may wait for the disk; more are refused.
const QUEUE: usize = 1024;
/// How many records are written by one fdatasync at most.
const BATCH: usize = 256;

/// The record is not on disk, so what it speaks of must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unrecorded {
    /// The disk is full or broken; the log says which.
    #[error("the audit record could not be written to disk")]
    Disk,
    /// More is asked than the disk can take.
    #[error("too many audit records wait for the disk")]
    Busy,
}

/// A record on its way to disk, and who waits for it.
struct Entry {
    draft: Draft,
    done: oneshot::Sender<Result<(), Unrecorded>>,
}

/// The log; clones share it. It ends when the last of them is dropped.
#[derive(Clone)]
pub struct Log(mpsc::Sender<Entry>);

impl Log {
    /// Opens the log in `directory` and verifies all of it that is there; blocks.
    ///
    /// Guarantees: one process at a time; the first new record says that the log was opened and what a crash left behind.
    pub fn open(directory: &Path, process: &Process) -> Result<Self, OpenError> {
        let found = segments::open(directory)?;
        let mut writer = Writer::new(found, writer::SEGMENT_LIMIT);
        let opened = writer.opened(process.clock.now());
        writer.write(vec![opened]).map_err(|source| OpenError::Io { path: directory.to_owned(), source })?;
        Ok(Self::start(writer, process))
    }

    /// Runs `writer` until every clone of the log is dropped.
    pub(crate) fn start(mut writer: Writer, process: &Process) -> Self {
        let (queue, mut entries) = mpsc::channel(QUEUE);
        let counts = Counts::new(&process.metrics);
        process.tasks.spawn_blocking(move || {
            let mut batch: Vec<Entry> = Vec::with_capacity(BATCH);
            while entries.blocking_recv_many(&mut batch, BATCH) > 0 {
                write(&mut writer, &mut batch, &counts);
            }
        });
        Self(queue)
    }

    /// Returns when the record is on disk; an error means that it is not.
    pub async fn record(&self, draft: Draft) -> Result<(), Unrecorded> {
        let (done, answer) = oneshot::channel();
        self.0.try_send(Entry { draft, done }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Unrecorded::Busy,
            mpsc::error::TrySendError::Closed(_) => Unrecorded::Disk,
        })?;
        answer.await.unwrap_or(Err(Unrecorded::Disk))
    }
}

/// One fdatasync for everybody who waits.
fn write(writer: &mut Writer, batch: &mut Vec<Entry>, counts: &Counts) {
    let (drafts, waiting): (Vec<Draft>, Vec<_>) = batch.drain(..).map(|entry| (entry.draft, entry.done)).unzip();
    let started = std::time::Instant::now();
    let size = u32::try_from(drafts.len()).unwrap_or(u32::MAX);
    let result = writer.write(drafts).map_err(|error| {
        tracing::error!(%error, records = size, "the audit log cannot be written: nothing is released until it can");
        Unrecorded::Disk
    });
    counts.seconds.observe(started.elapsed().as_secs_f64());
    counts.batch.observe(f64::from(size));
    let count = if result.is_ok() { &counts.records } else { &counts.failures };
    count.inc_by(u64::from(size));
    for done in waiting {
        // Whoever waited may be gone; the record stays.
        let _ = done.send(result);
    }
}

struct Counts {
    records: Counter,
    failures: Counter,
    batch: Histogram,
    seconds: Histogram,
}

impl Counts {
    fn new(metrics: &Metrics) -> Self {
        Self {
            records: metrics.register("audit_records", "Audit records on disk", Counter::default()),
            failures: metrics.register(
                "audit_failures",
                "Audit records that could not be written; each refused a request",
                Counter::default(),
            ),
            batch: metrics.register("audit_batch_records", "Audit records for each sync", Histogram::new([1.0, 4.0, 16.0, 64.0, 256.0])),
            seconds: metrics.register(
                "audit_write_seconds",
                "Duration of writing and syncing a batch",
                Histogram::new([0.0005, 0.002, 0.01, 0.05, 0.25, 1.0, 5.0]),
            ),
        }
    }
}
