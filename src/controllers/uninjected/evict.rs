//! Evicts one pod, and tells whether it would do any good.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use kube::api::{ObjectMeta, PostParams};
use kube::core::Status;
use kube::{Api, Client, ResourceExt};

use crate::config::Config;

/// How long an answer is waited for: the client itself repeats what a disruption budget refuses, for minutes.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of an eviction.
#[derive(Debug)]
pub(super) enum Evicted {
    /// The pod goes.
    Done,
    /// A disruption budget refuses for now, or nobody answers in time.
    NotNow,
    /// The pod went by itself.
    Gone,
    /// It was not evicted.
    Failed(kube::Error),
}

impl Evicted {
    /// The value of a metric's label.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotNow => "not-now",
            Self::Gone => "gone",
            Self::Failed(_) => "failed",
        }
    }
}

/// Evicts the pod of this very UID through the Eviction API, which respects every PodDisruptionBudget.
///
/// Requires: `pods/eviction: create`.
pub(super) async fn evict(client: &Client, pod: &Pod) -> Evicted {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    // kube's own `evict` writes `delete_options`, which the API server does not know: the UID would not be looked at.
    let eviction = Eviction {
        metadata: ObjectMeta { name: pod.metadata.name.clone(), namespace: pod.metadata.namespace.clone(), ..ObjectMeta::default() },
        delete_options: Some(DeleteOptions {
            preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
            ..DeleteOptions::default()
        }),
    };
    let (name, parameters) = (pod.name_any(), PostParams::default());
    let sending = api.create_subresource::<_, Status>("eviction", &name, &parameters, &eviction);
    match tokio::time::timeout(PATIENCE, sending).await {
        Ok(Ok(_)) => Evicted::Done,
        Err(_) => Evicted::NotNow,
        Ok(Err(kube::Error::Api(status))) if status.code == 429 => Evicted::NotNow,
        // Another pod has its name.
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => Evicted::Gone,
        Ok(Err(error)) => Evicted::Failed(error),
    }
}

/// Whether a pod that is created now would reach the webhook: without it, whatever takes the place of an evicted pod is refused.
///
/// Requires: `mutatingwebhookconfigurations: get`, and in our namespace `deployments: get`, both by name.
pub(super) async fn admission_serves(client: &Client, config: &Config) -> Result<bool, kube::Error> {
    let configurations = Api::<MutatingWebhookConfiguration>::all(client.clone());
    let Some(found) = configurations.get_opt(&config.webhook_configuration()).await? else { return Ok(false) };
    let mut entries = found.webhooks.iter().flatten().peekable();
    if entries.peek().is_none() || entries.any(|entry| entry.client_config.ca_bundle.is_none()) {
        return Ok(false);
    }
    let deployments = Api::<Deployment>::namespaced(client.clone(), &config.namespace);
    let deployment = deployments.get_opt(&config.webhook_service()).await?;
    Ok(deployment.and_then(|found| found.status).and_then(|status| status.available_replicas).unwrap_or_default() > 0)
}
