//! What is counted of pods without their secrets; no name of a pod or namespace is a label.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::find::Asks;
use super::verdict::Verdict;
use crate::runtime::metrics::Metrics;

/// The families.
pub(super) struct Counts {
    pods: Family<Pods, Gauge>,
    evictions: Family<Eviction, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pods {
    asks: &'static str,
    handling: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Eviction {
    outcome: &'static str,
}

const ASKS: [(Asks, &str); 3] = [(Asks::Label, "label"), (Asks::Required, "required"), (Asks::Enabled, "enabled")];

impl Counts {
    /// Registered with the process.
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            pods: metrics.register("pods_without_secrets", "Live pods that should have secrets and have no agent", Family::default()),
            evictions: metrics.register("pods_without_secrets_evictions", "Attempts to evict such pods", Family::default()),
        }
    }

    /// What one pass found; what it did not find is zero.
    pub(super) fn found(&self, all: &[(Asks, Verdict)]) {
        for (asks, label) in ASKS {
            for verdict in Verdict::ALL {
                let count = all.iter().filter(|found| **found == (asks, verdict)).count();
                let labels = Pods { asks: label, handling: verdict.label() };
                self.pods.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }

    /// One attempt.
    pub(super) fn eviction(&self, outcome: &'static str) {
        self.evictions.get_or_create(&Eviction { outcome }).inc();
    }
}
