//! Which pods a binding selects, and whether they ask; pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodSpec, PodStatus};
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};
use kustody_api::conditions::{ConditionType, Observation};
use kustody_api::names::{AGENT_CONTAINER, EXCLUDED_NAMESPACES, INJECT_LABEL, INJECTED_ANNOTATION};
use kustody_api::{Reason, SecretBinding};

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Live pods that the binding selects.
    pub matching: usize,
    /// Those of them that ask.
    pub asking: usize,
}

/// On pods that a kubelet made by itself.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Drops what nobody reads here. What stays of the annotations is the kubelet's own, and ours if the agent is there as well.
pub fn trim(pod: &mut Pod) {
    let spec = pod.spec.take().unwrap_or_default();
    let has_agent = spec.init_containers.iter().flatten().any(|container| container.name == AGENT_CONTAINER);
    pod.metadata.annotations = pod.metadata.annotations.take().map(|all| {
        let kept = [MIRROR_ANNOTATION, INJECTED_ANNOTATION].into_iter();
        let kept = kept.filter(|name| all.contains_key(*name) && (has_agent || *name == MIRROR_ANNOTATION));
        kept.map(|name| (name.to_owned(), String::new())).collect()
    });
    if let Some(owners) = &mut pod.metadata.owner_references {
        owners.retain(|owner| owner.controller == Some(true));
    }
    pod.spec = Some(PodSpec { service_account_name: spec.service_account_name, ..PodSpec::default() });
    pod.status = pod.status.take().map(|status| {
        let ready = status.conditions.into_iter().flatten().filter(|condition| condition.type_ == "Ready");
        let ready = ready.map(|found| PodCondition { type_: found.type_, status: found.status, ..PodCondition::default() });
        PodStatus { phase: status.phase, conditions: Some(ready.collect()), ..PodStatus::default() }
    });
}

/// Whether the pod has not come to an end.
pub fn is_live(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The pod's service account.
pub fn account(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default")
}

/// Which pods a binding selects, read once for many pods.
pub struct Selects<'a> {
    accounts: &'a [String],
    selector: Option<Result<Selector, ()>>,
}

impl<'a> Selects<'a> {
    /// Of this binding; a selector that cannot be read selects none.
    pub fn new(binding: &'a SecretBinding) -> Self {
        let workloads = &binding.spec.workloads;
        Self {
            accounts: &workloads.service_accounts,
            selector: workloads.pod_selector.clone().map(|all| Selector::try_from(all).map_err(drop)),
        }
    }

    /// Whether it selects this pod of its own namespace.
    pub fn pod(&self, pod: &Pod) -> bool {
        let fits = |selector: &Result<Selector, ()>| selector.as_ref().is_ok_and(|selector| selector.matches(pod.labels()));
        self.accounts.iter().any(|name| name == account(pod)) && self.selector.as_ref().is_none_or(fits)
    }
}

/// Counts the binding's pods among those of its namespace.
pub fn count<'a>(binding: &SecretBinding, namespace_labels: &BTreeMap<String, String>, pods: impl Iterator<Item = &'a Pod>) -> Count {
    let selects = Selects::new(binding);
    let mut count = Count::default();
    for pod in pods {
        if is_live(pod) && selects.pod(pod) {
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
