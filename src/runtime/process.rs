//! What every role of the process shares.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock::Clock;
use super::expiry::Expiries;
use super::metrics::Metrics;
use super::readiness::Readiness;
use super::server::Ending;
use super::unsaid::Unsaid;

/// Handed to each role when it starts.
#[derive(Clone)]
pub struct Process {
    /// What the process still waits for.
    pub readiness: Readiness,
    /// Where metric families are registered.
    pub metrics: Metrics,
    /// When certificates end.
    pub expiries: Expiries,
    /// Runs everything in the background; shutdown waits for it.
    pub tasks: TaskTracker,
    /// The end is announced: not ready any more, but everything still works.
    pub draining: CancellationToken,
    /// Ends everything in the background.
    pub stop: CancellationToken,
    /// What no log line may say.
    pub unsaid: Unsaid,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    failure: Arc<OnceLock<String>>,
}

impl Process {
    /// A process that has started nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let metrics = Metrics::default();
        Self {
            readiness: Readiness::default(),
            expiries: Expiries::new(&metrics),
            metrics,
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
            unsaid: Unsaid::default(),
            clock,
            failure: Arc::default(),
        }
    }

    /// The same, which tells to `unsaid` what must not be logged.
    #[must_use]
    pub fn telling(self, unsaid: Unsaid) -> Self {
        Self { unsaid, ..self }
    }

    /// Ends the process, after its drain, with a failure: for what cannot go on, such as a lost lease.
    pub fn fail(&self, why: impl Into<String>) {
        if let Err(later) = self.failure.set(why.into()) {
            tracing::debug!(why = later, "a further failure while ending");
        }
        self.stop.cancel();
    }

    /// How servers come to their end.
    pub fn ending(&self) -> Ending {
        Ending { draining: self.draining.clone(), stop: self.stop.clone() }
    }

    /// Why the process ends, if it was made to fail.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}
