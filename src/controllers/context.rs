//! What every controller is handed, and the loop that each runs in.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource, ResourceExt};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use crate::config::Config;
use crate::k8s::backoff::{Backoff, jittered};
use crate::k8s::providers::Providers;
use crate::runtime::metrics::Metrics;
use crate::runtime::process::Process;

/// How many objects of one kind are looked at at the same time.
const CONCURRENCY: u16 = 16;
/// When an object is looked at again though nothing seems to have changed.
const AGAIN: Duration = Duration::from_mins(5);

/// What every controller is handed.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Settings.
    pub config: Arc<Config>,
    /// Connections to key services.
    pub providers: Providers,
    /// Metrics of all reconcilers.
    pub metrics: Reconciles,
    /// Readiness, tasks, stop and clock.
    pub process: Process,
    /// PEM of every authority of ours that is trusted, once `certificates` has one.
    pub authority: ArcSwapOption<String>,
    cluster: OnceCell<String>,
}

impl Context {
    /// Of this process.
    pub fn new(client: Client, config: Arc<Config>, process: &Process) -> Self {
        Self {
            providers: Providers::new(client.clone(), &config.namespace, Arc::clone(&process.clock)),
            metrics: Reconciles::new(&process.metrics),
            process: process.clone(),
            authority: ArcSwapOption::empty(),
            cluster: OnceCell::new(),
            client,
            config,
        }
    }

    /// The customary id of the cluster: the UID of `kube-system`. Requires: `namespaces: get`.
    pub async fn cluster(&self) -> Result<String, kube::Error> {
        let read = async || {
            let namespace = Api::<Namespace>::all(self.client.clone()).get("kube-system").await?;
            Ok(namespace.uid().unwrap_or_default())
        };
        self.cluster.get_or_try_init(read).await.cloned()
    }

    /// Now, as conditions hold it.
    pub fn now(&self) -> Time {
        Time(self.timestamp())
    }

    /// Now.
    pub fn timestamp(&self) -> Timestamp {
        self.process.clock.now()
    }
}

/// Outcomes and durations, by kind.
#[derive(Clone)]
pub struct Reconciles {
    total: Family<Outcome, Counter>,
    seconds: Family<Kind, Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

impl Reconciles {
    fn new(metrics: &Metrics) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]);
        let seconds = Family::new_with_constructor(histogram);
        Self {
            total: metrics.register("reconcile", "Passes over one object", Family::default()),
            seconds: metrics.register("reconcile_seconds", "Duration of passes over one object", seconds),
        }
    }

    fn begin(&self, kind: &'static str) -> Pass {
        Pass { metrics: self.clone(), kind, outcome: "abandoned", started: tokio::time::Instant::now() }
    }
}

/// No wait between errors of watches, each of which has had its own.
struct AtOnce;

impl Iterator for AtOnce {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

impl kube::runtime::utils::Backoff for AtOnce {
    fn reset(&mut self) {}
}

/// One pass; dropped without an outcome it counts as abandoned.
struct Pass {
    metrics: Reconciles,
    kind: &'static str,
    outcome: &'static str,
    started: tokio::time::Instant,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.metrics.total.get_or_create(&Outcome { kind: self.kind, outcome: self.outcome }).inc();
        self.metrics.seconds.get_or_create(&Kind { kind: self.kind }).observe(self.started.elapsed().as_secs_f64());
    }
}

/// What a reconciler wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: look again in a few minutes, or when something changes.
    Settled,
    /// Nothing before this long; look again sooner when something changes.
    Within(Duration),
    /// Look again soon, waiting longer each time: what was asked for is not there yet.
    Retry,
}

/// Runs `controller` until the process stops, with metrics, per-object backoff and a periodic look at everything.
///
/// An error is a pass that could not be recorded in the object's status; it is logged and retried.
pub async fn drive<K, F, Fut, E>(kind: &'static str, controller: Controller<K>, context: Arc<Context>, reconcile: F)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    F: Fn(Arc<K>, Arc<Context>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Next, E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let backoff: Arc<Backoff<ObjectRef<K>>> = Arc::default();
    let stop = context.process.stop.clone();
    let observed = move |object: Arc<K>, context: Arc<Context>| {
        let (reconcile, backoff) = (reconcile.clone(), Arc::clone(&backoff));
        async move {
            let reference = ObjectRef::from_obj(object.as_ref());
            let mut pass = context.metrics.begin(kind);
            let action = match reconcile(object, context).await {
                Ok(Next::Settled) => {
                    pass.outcome = "settled";
                    backoff.forget(&reference);
                    Action::requeue(jittered(AGAIN))
                }
                Ok(Next::Within(wait)) => {
                    pass.outcome = "settled";
                    backoff.forget(&reference);
                    Action::requeue(wait.min(jittered(AGAIN)))
                }
                Ok(Next::Retry) => {
                    pass.outcome = "retry";
                    Action::requeue(backoff.next(reference))
                }
                Err(error) => {
                    pass.outcome = "error";
                    tracing::warn!(kind, object = %reference, error = %error, cause = error.source().map(tracing::field::display), "a pass failed, retrying");
                    Action::requeue(backoff.next(reference))
                }
            };
            drop(pass);
            Ok::<_, Infallible>(action)
        }
    };
    controller
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        // Each watch waits for itself; by default one that fails makes all of them wait, and each error longer.
        .trigger_backoff(AtOnce)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(observed, |_, never, _| match *never {}, context)
        .for_each(|result| async {
            if let Err(error) = result {
                // Objects that vanished between trigger and pass, and watches that are retried.
                tracing::debug!(kind, %error, "controller");
            }
        })
        .await;
}
