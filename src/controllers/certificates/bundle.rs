//! The bundle in the chart's webhook configurations, and which pods were given what.

use std::future::Future;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use kustody_api::names;
use kustody_core::wire;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Error;

/// Pods in one answer of the API server.
const PAGE: u32 = 500;

/// A kind of webhook configuration.
pub trait Configuration: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned {
    /// Its webhooks: name, and how it is called.
    fn webhooks(&self) -> Vec<(&str, &WebhookClientConfig)>;
}

impl Configuration for MutatingWebhookConfiguration {
    fn webhooks(&self) -> Vec<(&str, &WebhookClientConfig)> {
        self.webhooks.iter().flatten().map(|webhook| (webhook.name.as_str(), &webhook.client_config)).collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    fn webhooks(&self) -> Vec<(&str, &WebhookClientConfig)> {
        self.webhooks.iter().flatten().map(|webhook| (webhook.name.as_str(), &webhook.client_config)).collect()
    }
}

/// Puts the bundle into every webhook of the configuration and touches nothing else; answers whether anything had to be written.
/// Nothing is, unless the bundle `stands` after the configuration was read.
///
/// Requires, by name: `get, patch`.
pub async fn publish<K: Configuration>(
    configurations: &Api<K>,
    name: &str,
    bundle: &str,
    stands: impl Future<Output = Result<(), Error>> + Send,
) -> Result<bool, Error> {
    let failed = |action| move |source| Error::Kubernetes { action, object: format!("{} {name}", K::kind(&())), source };
    let Some(found) = configurations.get_opt(name).await.map_err(failed("read"))? else { return Ok(false) };
    let Some(patch) = patch(&found, bundle) else { return Ok(false) };
    stands.await?;
    configurations.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await.map_err(failed("patch"))?;
    tracing::info!(configuration = name, "put the authorities into the webhook configuration");
    Ok(true)
}

/// Lists of webhooks merge by name; the resource version refuses the patch when the list itself was changed meanwhile.
fn patch<K: Configuration>(found: &K, bundle: &str) -> Option<Value> {
    let stale: Vec<&str> = found
        .webhooks()
        .into_iter()
        .filter(|(_, config)| config.ca_bundle.as_ref().is_none_or(|found| found.0 != bundle.as_bytes()))
        .map(|(name, _)| name)
        .collect();
    let encoded = serde_json::to_value(ByteString(bundle.as_bytes().to_vec())).unwrap_or_default();
    (!stale.is_empty()).then(|| {
        json!({
            "metadata": {"resourceVersion": found.resource_version()},
            "webhooks": stale.iter().map(|name| json!({"name": name, "clientConfig": {"caBundle": encoded}})).collect::<Vec<_>>(),
        })
    })
}

/// How many live pods were given authorities, but not this one. Requires: `pods: list`.
pub async fn lagging(client: &Client, root: &str) -> Result<usize, Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let (mut count, mut page) = (0, ListParams::default().limit(PAGE));
    loop {
        let found = pods.list(&page).await;
        let found = found.map_err(|source| Error::Kubernetes { action: "list", object: "pods".to_owned(), source })?;
        count += found.items.iter().filter(|pod| lags(pod, root)).count();
        match found.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(count),
        }
    }
}

/// A pod that is being deleted starts no container any more.
fn lags(pod: &Pod, root: &str) -> bool {
    let ended = pod.status.as_ref().and_then(|status| status.phase.as_deref()).is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
    let Some(spec) = pod.spec.as_ref().filter(|_| !ended && pod.metadata.deletion_timestamp.is_none()) else { return false };
    spec.init_containers.iter().flatten().chain(&spec.containers).filter_map(given).any(|bundle| !bundle.contains(root.trim()))
}

/// What a container of ours was given; whatever others call by the same name says nothing, and would hold a roll back.
fn given(container: &Container) -> Option<&str> {
    if ![names::AGENT_CONTAINER, names::WATCH_CONTAINER].contains(&container.name.as_str()) {
        return None;
    }
    let ours = container.env.iter().flatten().find(|variable| variable.name == wire::env::CA);
    ours.and_then(|variable| variable.value.as_deref())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::{lags, patch};

    fn pod(containers: &Value, status: &Value) -> Pod {
        let spec = json!({"containers": [{"name": "main"}], "initContainers": containers});
        serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn only_a_live_pod_that_was_given_the_old_root_alone_is_waited_for() {
        let agent = |bundle: &str| json!([{"name": "kustody-agent", "env": [{"name": "KUSTODY_CA", "value": bundle}]}]);
        let running = json!({"phase": "Running"});
        assert!(lags(&pod(&agent("OLD\n"), &running), "NEW\n"));
        assert!(lags(&pod(&agent("OLD\n"), &json!({})), "NEW\n"));
        assert!(!lags(&pod(&agent("OLD\nNEW"), &running), "NEW\n"));
        assert!(!lags(&pod(&agent("OLD\n"), &json!({"phase": "Succeeded"})), "NEW\n"));
        assert!(!lags(&pod(&json!([]), &running), "NEW\n"), "a pod that asks for nothing");
        let of_another = json!([{"name": "other", "env": [{"name": "KUSTODY_CA", "value": "OLD\n"}]}]);
        assert!(!lags(&pod(&of_another, &running), "NEW\n"), "a container of somebody else's");
        let sidecar = json!([{"name": "kustody-watch", "env": [{"name": "KUSTODY_CA", "value": "OLD\n"}]}]);
        assert!(lags(&pod(&sidecar, &running), "NEW\n"));
        let mut leaving = pod(&agent("OLD\n"), &running);
        leaving.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert!(!lags(&leaving, "NEW\n"));
    }

    #[test]
    fn a_configuration_is_patched_where_its_bundle_is_another_and_nowhere_else() {
        let webhook = |name: &str, bundle: &str| {
            let client = json!({"caBundle": bundle, "service": {"name": "a", "namespace": "b"}});
            json!({"name": name, "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"]})
        };
        let found: ValidatingWebhookConfiguration = serde_json::from_value(
            json!({"metadata": {"name": "a", "resourceVersion": "7"}, "webhooks": [webhook("good", "bmV3"), webhook("stale", "b2xk")]}),
        )
        .unwrap();
        let expected = json!({"metadata": {"resourceVersion": "7"}, "webhooks": [{"name": "stale", "clientConfig": {"caBundle": "bmV3"}}]});
        assert_eq!(patch(&found, "new"), Some(expected));
        let found: ValidatingWebhookConfiguration =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "webhooks": [webhook("good", "bmV3")]})).unwrap();
        assert_eq!(patch(&found, "new"), None);
    }
}
