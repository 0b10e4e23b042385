//! Which live pods should have secrets and lack them; pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kustody_api::conditions::{self, ConditionType, Observation};
use kustody_api::names::{EXCLUDED_NAMESPACES, INJECT_LABEL, INJECTED_ANNOTATION};
use kustody_api::{Reason, SecretBinding};

use crate::controllers::secret_binding::pods::{MIRROR_ANNOTATION, Selects, is_live};

/// How many pods a condition names.
const MENTIONED: usize = 3;

/// Why a pod should have secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Its own label says so.
    Label,
    /// Its namespace is `required`.
    Required,
    /// Its namespace is `enabled`, and a ready binding that is older than the pod selects it.
    Enabled,
}

/// A pod that should have secrets and lacks them.
#[derive(Clone, Debug)]
pub struct Found {
    /// The pod, as the cache has it.
    pub pod: Arc<Pod>,
    /// Why it should have secrets.
    pub asks: Asks,
    /// Names of the bindings that fit it, in order.
    pub bindings: Vec<String>,
    /// Why admission would refuse a pod in its place; `None` when it would be served.
    pub refused: Option<String>,
}

/// A binding, and whether it is ready for its newest generation.
type Candidate<'a> = (&'a SecretBinding, bool);

/// Every such pod of the cluster. Pods are those that [`trim`](crate::controllers::secret_binding::pods::trim) left.
///
/// The cost is that of looking at each pod once; bindings are looked at only for pods that have no agent and ask.
pub fn all(pods: &[Arc<Pod>], namespaces: &[Arc<Namespace>], bindings: &[Arc<SecretBinding>], installation: &str) -> Vec<Found> {
    let labels: HashMap<String, &BTreeMap<String, String>> = namespaces
        .iter()
        .filter(|namespace| namespace.metadata.deletion_timestamp.is_none())
        .map(|namespace| (namespace.name_any(), namespace.labels()))
        .collect();
    let suspects: Vec<(&Arc<Pod>, Asks)> =
        pods.iter().filter_map(|pod| Some((pod, asks(pod, labels.get(pod.metadata.namespace.as_deref()?)?, installation)?))).collect();
    if suspects.is_empty() {
        return Vec::new();
    }
    let mut by_account: HashMap<(String, &str), Vec<Candidate<'_>>> = HashMap::new();
    for binding in bindings {
        for account in &binding.spec.workloads.service_accounts {
            let place = (binding.namespace().unwrap_or_default(), account.as_str());
            by_account.entry(place).or_default().push((binding, is_ready(binding)));
        }
    }
    let of = |(pod, asks): (&Arc<Pod>, Asks)| {
        let place = (pod.namespace().unwrap_or_default(), crate::controllers::secret_binding::pods::account(pod));
        found(pod, asks, by_account.get(&place).map(Vec::as_slice).unwrap_or_default())
    };
    suspects.into_iter().filter_map(of).collect()
}

/// Names of the pods of `binding`'s namespace that should have what this one binding gives, and have no agent; in order.
pub fn lacking(
    binding: &SecretBinding,
    ready: bool,
    pods: &[Arc<Pod>],
    namespace_labels: &BTreeMap<String, String>,
    installation: &str,
) -> Vec<String> {
    let here = pods.iter().filter(|pod| pod.metadata.namespace == binding.metadata.namespace);
    let of = |pod: &Arc<Pod>| found(pod, asks(pod, namespace_labels, installation)?, &[(binding, ready)]);
    let mut names: Vec<String> = here.filter_map(of).filter(|found| !found.bindings.is_empty()).map(|found| found.pod.name_any()).collect();
    names.sort();
    names
}

/// The condition `PodsWithoutSecrets`.
pub fn pods_without_secrets(lacking: &[String]) -> Observation {
    let (status, reason, message) = if lacking.is_empty() {
        (false, Reason::NoSecretsMissing, "every live pod that should have what the binding gives has an agent".to_owned())
    } else {
        let named = lacking.iter().take(MENTIONED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = lacking.len().saturating_sub(MENTIONED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message = format!(
            "{} live pods should have what the binding gives and have no agent, since they were created while admission did not serve them: {named}{more}; restart them (their events say what is done about each)",
            lacking.len()
        );
        (true, Reason::SecretsMissing, message)
    };
    Observation { kind: ConditionType::PodsWithoutSecrets, status: Some(status), reason, message }
}

/// Whether the pod has no agent and asks or is offered; the same rule as admission's.
fn asks(pod: &Pod, namespace_labels: &BTreeMap<String, String>, installation: &str) -> Option<Asks> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let annotations = pod.annotations();
    let never = EXCLUDED_NAMESPACES.contains(&namespace) || namespace == installation || annotations.contains_key(MIRROR_ANNOTATION);
    if never || annotations.contains_key(INJECTED_ANNOTATION) || !is_live(pod) || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    match (pod.labels().get(INJECT_LABEL).map(String::as_str), namespace_labels.get(INJECT_LABEL).map(String::as_str)) {
        (Some("false"), _) => None,
        (Some(_), _) => Some(Asks::Label),
        (None, Some("required")) => Some(Asks::Required),
        (None, Some("enabled")) => Some(Asks::Enabled),
        (None, _) => None,
    }
}

fn found(pod: &Arc<Pod>, asks: Asks, candidates: &[Candidate<'_>]) -> Option<Found> {
    let named = pod.labels().get(INJECT_LABEL).filter(|label| *label != "true");
    let fits = |(binding, _): &&Candidate<'_>| named.is_none_or(|name| *name == binding.name_any()) && Selects::new(binding).pod(pod);
    let mut fitting: Vec<&Candidate<'_>> = candidates.iter().filter(fits).collect();
    // A cache has no order, and each other message would be another event.
    fitting.sort_by_key(|(binding, _)| binding.name_any());
    // A pod that is older than its bindings was rightly left alone, and so was one whose second it shares.
    let promised = |(binding, ready): &Candidate<'_>| *ready && binding.creation_timestamp() < pod.creation_timestamp();
    if asks == Asks::Enabled && !fitting.iter().any(|candidate| promised(candidate)) {
        return None;
    }
    let bindings: Vec<String> = fitting.iter().map(|(binding, _)| binding.name_any()).collect();
    let unready = fitting.iter().find(|(_, ready)| !ready).map(|(binding, _)| format!("SecretBinding {} is not ready", binding.name_any()));
    let none = || match named {
        Some(name) => format!("no SecretBinding {name} of its namespace fits it"),
        None => "no SecretBinding of its namespace fits it".to_owned(),
    };
    let refused = if fitting.is_empty() { Some(none()) } else { unready };
    Some(Found { pod: Arc::clone(pod), asks, bindings, refused })
}

fn is_ready(binding: &SecretBinding) -> bool {
    let status = binding.status.as_ref();
    status.is_some_and(|status| conditions::is_true(&status.conditions, ConditionType::Ready, binding.metadata.generation))
}
