//! What the broker counts; no name of a secret, pod or namespace is a label.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::runtime::metrics::Metrics;

/// Counters of the broker; clones share them.
#[derive(Clone)]
pub struct Counts {
    requests: Family<Outcome, Counter>,
    seconds: Family<Route, Histogram>,
    /// Calls to providers that unwrap a seed.
    pub provider_calls: Counter,
    /// Seeds that were needed, from the cache or not.
    pub seeds: Counter,
    /// Values that were opened, and not taken from memory.
    pub openings: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    route: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

impl Counts {
    /// Registered with the process.
    pub fn new(metrics: &Metrics) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]);
        Self {
            requests: metrics.register("release_requests", "Answers, by what they say", Family::default()),
            seconds: metrics.register("release_seconds", "Duration from request to answer", Family::new_with_constructor(histogram)),
            provider_calls: metrics.register("release_provider_calls", "Calls to providers that unwrap a seed", Counter::default()),
            openings: metrics.register("release_openings", "Values that were opened, and not taken from memory", Counter::default()),
            seeds: metrics.register("release_seeds", "Seeds that were needed, from the cache or not", Counter::default()),
        }
    }

    /// One answer.
    pub fn answered(&self, route: &'static str, outcome: &'static str, seconds: f64) {
        self.requests.get_or_create(&Outcome { route, outcome }).inc();
        self.seconds.get_or_create(&Route { route }).observe(seconds);
    }
}
