//! What agents say that their pods hold: how many are behind, and why.

use std::time::Duration;

use moka::future::Cache;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::runtime::metrics::Metrics;

/// A pod that has not reported for so long has ended, or reports to another replica.
const KEPT: Duration = Duration::from_mins(2);
/// Pods that are remembered at the same time.
const PODS: u64 = 50_000;

/// Why a pod holds another revision than the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelValue)]
pub enum Cause {
    /// It was not given the newest one yet, or could not write it.
    Pending,
    /// Something that it holds was withdrawn.
    Withdrawn,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    cause: Cause,
}

/// The newest report of each pod.
pub struct Reports {
    pods: Cache<String, Option<Cause>>,
    behind: Family<Label, Gauge>,
    watching: Gauge,
}

impl Reports {
    /// Without any; registered with the process.
    pub fn new(metrics: &Metrics) -> Self {
        let behind = "Pods with live bindings that reported to this replica and do not hold the newest revision, by cause";
        let watching = "Pods with live bindings that reported to this replica within two minutes";
        let reports = Self {
            pods: Cache::builder().max_capacity(PODS).time_to_live(KEPT).build(),
            behind: metrics.register("broker_pods_behind", behind, Family::default()),
            watching: metrics.register("broker_pods_watching", watching, Gauge::default()),
        };
        for cause in [Cause::Pending, Cause::Withdrawn] {
            reports.behind.get_or_create(&Label { cause }).set(0);
        }
        reports
    }

    /// The pod of this UID is behind because of this, or is not.
    pub async fn tell(&self, pod_uid: &str, cause: Option<Cause>) {
        self.pods.insert(pod_uid.to_owned(), cause).await;
    }

    /// Brings the metrics up to date.
    pub async fn sweep(&self) {
        self.pods.run_pending_tasks().await;
        let (mut watching, mut pending, mut withdrawn) = (0, 0, 0);
        for (_, cause) in &self.pods {
            watching += 1;
            match cause {
                None => {}
                Some(Cause::Pending) => pending += 1,
                Some(Cause::Withdrawn) => withdrawn += 1,
            }
        }
        self.watching.set(watching);
        self.behind.get_or_create(&Label { cause: Cause::Pending }).set(pending);
        self.behind.get_or_create(&Label { cause: Cause::Withdrawn }).set(withdrawn);
    }
}
