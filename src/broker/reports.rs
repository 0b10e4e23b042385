//! What agents say that their pods hold: how many are behind, and why.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kustody_core::wire::watch::{HeldAnswer, HeldOf};
use moka::future::Cache;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::runtime::metrics::Metrics;

/// A pod that has not reported for so long has ended, or reports to another replica.
const KEPT: Duration = Duration::from_mins(2);
/// Bindings of pods that are remembered at the same time.
const REPORTS: u64 = 50_000;

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

/// What a pod holds of one binding.
pub struct Held {
    /// UID of the binding; of no other than one that exists.
    pub uid: String,
    /// The revision of its files, if it says one.
    pub revision: Option<String>,
    /// Why that is not the newest one.
    pub cause: Option<Cause>,
}

/// What one pod says.
pub struct Report {
    /// The worst of why it is behind, over all that it asks for.
    pub cause: Option<Cause>,
    /// What it holds.
    pub held: Vec<Held>,
}

/// The newest report of each pod.
pub struct Reports {
    pods: Cache<String, Arc<Report>>,
    behind: Family<Label, Gauge>,
    watching: Gauge,
}

impl Reports {
    /// Without any; registered with the process.
    pub fn new(metrics: &Metrics) -> Self {
        let behind = "Pods with live bindings that reported to this replica and do not hold the newest revision, by cause";
        let watching = "Pods with live bindings that reported to this replica within two minutes";
        let weight = |_: &String, report: &Arc<Report>| u32::try_from(report.held.len()).unwrap_or(u32::MAX).max(1);
        let reports = Self {
            pods: Cache::builder().max_capacity(REPORTS).weigher(weight).time_to_live(KEPT).build(),
            behind: metrics.register("broker_pods_behind", behind, Family::default()),
            watching: metrics.register("broker_pods_watching", watching, Gauge::default()),
        };
        for cause in [Cause::Pending, Cause::Withdrawn] {
            reports.behind.get_or_create(&Label { cause }).set(0);
        }
        reports
    }

    /// What the pod of this UID says.
    pub async fn tell(&self, pod_uid: &str, report: Report) {
        self.pods.insert(pod_uid.to_owned(), Arc::new(report)).await;
    }

    /// What pods hold, by binding.
    pub fn held(&self) -> HeldAnswer {
        let mut bindings = BTreeMap::<String, HeldOf>::new();
        for (_, report) in &self.pods {
            for Held { uid, revision, cause } in &report.held {
                let of = bindings.entry(uid.clone()).or_insert_with(|| HeldOf { uid: uid.clone(), ..HeldOf::default() });
                of.pods += 1;
                of.behind += i32::from(cause.is_some());
                of.withdrawn += i32::from(*cause == Some(Cause::Withdrawn));
                if let Some(revision) = revision {
                    of.count(revision, 1, cause.is_none());
                }
            }
        }
        bindings.values_mut().for_each(HeldOf::bound);
        HeldAnswer { bindings: bindings.into_values().collect() }
    }

    /// Brings the metrics up to date.
    pub async fn sweep(&self) {
        self.pods.run_pending_tasks().await;
        let (mut watching, mut pending, mut withdrawn) = (0, 0, 0);
        for (_, report) in &self.pods {
            watching += 1;
            match report.cause {
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
