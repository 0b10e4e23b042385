//! What every role of the process shares.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock::Clock;
use super::metrics::Metrics;
use super::readiness::Readiness;

/// Handed to each role when it starts.
#[derive(Clone)]
pub struct Process {
    /// What the process still waits for.
    pub readiness: Readiness,
    /// Where metric families are registered.
    pub metrics: Metrics,
    /// Runs everything in the background; shutdown waits for it.
    pub tasks: TaskTracker,
    /// Ends everything in the background.
    pub stop: CancellationToken,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}
