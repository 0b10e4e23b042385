//! Which pods a binding selects, and whether they ask; pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};
use kustody_api::conditions::{ConditionType, Observation};
use kustody_api::names::{EXCLUDED_NAMESPACES, INJECT_LABEL};
use kustody_api::{Reason, SecretBinding};

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Live pods that the binding selects.
    pub matching: usize,
    /// Those of them that ask.
    pub asking: usize,
}

/// Drops what nobody reads here.
pub fn trim(pod: &mut Pod) {
    pod.metadata.annotations = None;
    pod.metadata.owner_references = None;
    let account = pod.spec.take().and_then(|spec| spec.service_account_name);
    pod.spec = Some(k8s_openapi::api::core::v1::PodSpec { service_account_name: account, ..Default::default() });
    let phase = pod.status.take().and_then(|status| status.phase);
    pod.status = Some(k8s_openapi::api::core::v1::PodStatus { phase, ..Default::default() });
}

/// The pod's service account.
pub fn account(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default")
}

/// Counts the binding's pods among those of its namespace.
pub fn count<'a>(binding: &SecretBinding, namespace_labels: &BTreeMap<String, String>, pods: impl Iterator<Item = &'a Pod>) -> Count {
    let workloads = &binding.spec.workloads;
    let selector = workloads.pod_selector.clone().map(Selector::try_from);
    let mut count = Count::default();
    for pod in pods {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let live = !matches!(phase, Some("Succeeded" | "Failed"));
        let selected = match &selector {
            None => true,
            Some(Ok(selector)) => selector.matches(pod.labels()),
            Some(Err(_)) => false,
        };
        if live && selected && workloads.service_accounts.iter().any(|name| name == account(pod)) {
            count.matching += 1;
            count.asking += usize::from(asks(binding, namespace_labels, pod));
        }
    }
    count
}

fn asks(binding: &SecretBinding, namespace_labels: &BTreeMap<String, String>, pod: &Pod) -> bool {
    if EXCLUDED_NAMESPACES.contains(&binding.namespace().unwrap_or_default().as_str()) {
        return false;
    }
    match pod.labels().get(INJECT_LABEL).map(String::as_str) {
        Some("true") => true,
        Some("false") => false,
        Some(name) => name == binding.name_any(),
        None => matches!(namespace_labels.get(INJECT_LABEL).map(String::as_str), Some("enabled" | "required")),
    }
}

/// The condition `NotAskedFor`.
pub fn not_asked_for(count: Count) -> Observation {
    let (status, reason, message) = match count {
        Count { matching: 0, .. } => (false, Reason::NoMatchingPods, "the binding selects no pod at the moment".to_owned()),
        Count { matching, asking: 0 } => (
            true,
            Reason::NoPodAsks,
            format!(
                "{matching} pods are selected and none asks; label the pods {INJECT_LABEL}: \"true\", or the namespace {INJECT_LABEL}: enabled, and restart them"
            ),
        ),
        Count { .. } => (false, Reason::PodsAsk, "pods that the binding selects ask for it".to_owned()),
    };
    Observation { kind: ConditionType::NotAskedFor, status: Some(status), reason, message }
}
