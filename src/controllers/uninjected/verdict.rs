//! What is done about a pod that lacks its secrets, and what people are told of it; pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kustody_api::names::{INJECT_LABEL, INJECTED_ANNOTATION};

use super::find::{Asks, Found};
use super::history::{History, Sequel};
use crate::config::PodsWithoutSecrets;
use crate::controllers::secret_binding::pods::is_live;

/// How many pods are evicted in one pass, in the whole cluster.
pub const EVICTIONS_A_PASS: usize = 10;
/// How a container ends that was told to, or made to.
const ENDED: [i32; 2] = [143, 137];

/// What would make another pod in place of one that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nothing.
    Nobody,
    /// A controller that replaces whatever pod goes.
    Replaces,
    /// A Job.
    Job {
        /// Its name.
        name: String,
        /// [`ignores_disruptions`]; `None` where that was not or cannot be looked at.
        ignores: Option<bool>,
    },
    /// Another controller, to which an eviction may be a failure of the whole workload.
    Other {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// What is done about a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is evicted when its turn comes.
    Evict,
    /// It is only reported; why.
    Report(Because),
}

/// Why a pod is only reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// Nothing would make another.
    NoController,
    /// What its controller makes of an eviction is not known.
    UnknownController,
    /// The installation only reports.
    Policy,
    /// Its Job would count an eviction as a failure.
    Job,
    /// Admission would refuse a pod in its place.
    Refused,
    /// A pod in the place of an evicted one lacks its secrets as well.
    Again,
}

impl Verdict {
    /// Every verdict, for a metric that says zero as well.
    pub const ALL: [Self; 7] = [
        Self::Evict,
        Self::Report(Because::NoController),
        Self::Report(Because::UnknownController),
        Self::Report(Because::Policy),
        Self::Report(Because::Job),
        Self::Report(Because::Refused),
        Self::Report(Because::Again),
    ];

    /// The value of a metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Evict => "evict",
            Self::Report(Because::NoController) => "no-controller",
            Self::Report(Because::UnknownController) => "unknown-controller",
            Self::Report(Because::Policy) => "policy",
            Self::Report(Because::Job) => "job",
            Self::Report(Because::Refused) => "refused",
            Self::Report(Because::Again) => "again",
        }
    }

    /// The same, knowing what came of the last eviction of its controller's pod.
    #[must_use]
    pub fn after(self, sequel: Option<Sequel>) -> Self {
        if self == Self::Evict && sequel == Some(Sequel::Again) { Self::Report(Because::Again) } else { self }
    }
}

/// The pod's controller.
pub fn controller(pod: &Pod) -> Option<&OwnerReference> {
    pod.owner_references().iter().find(|owner| owner.controller == Some(true))
}

/// What its controller is; `ignores` answers for a Job.
pub fn owner(pod: &Pod, ignores: Option<bool>) -> Owner {
    let Some(owner) = controller(pod) else { return Owner::Nobody };
    match (owner.api_version.as_str(), owner.kind.as_str()) {
        ("apps/v1", "ReplicaSet" | "StatefulSet" | "DaemonSet") | ("v1", "ReplicationController") => Owner::Replaces,
        ("batch/v1", "Job") => Owner::Job { name: owner.name.clone(), ignores },
        _ => Owner::Other { kind: owner.kind.clone(), name: owner.name.clone() },
    }
}

/// Whether an eviction never counts as a failure of the Job: the first rule of its `podFailurePolicy` that can match an evicted
/// pod has the action `Ignore`.
pub fn ignores_disruptions(job: &Job) -> bool {
    let policy = job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref());
    let mut rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default().iter();
    let names_disruption = |rule: &PodFailurePolicyRule| {
        rule.on_pod_conditions.iter().flatten().any(|pattern| pattern.type_ == "DisruptionTarget" && pattern.status == "True")
    };
    // What ends by a signal has one of two codes; a program that answers the signal with a code of its own chose that itself.
    let by_code = |rule: &PodFailurePolicyRule| {
        rule.on_exit_codes.as_ref().is_some_and(|codes| match codes.operator.as_str() {
            "In" => ENDED.iter().any(|code| codes.values.contains(code)),
            _ => !ENDED.iter().all(|code| codes.values.contains(code)),
        })
    };
    let first = rules.find(|rule| names_disruption(rule) || (rule.action != "Ignore" && by_code(rule)));
    first.is_some_and(|rule| rule.action == "Ignore")
}

/// What is done about the pod.
pub fn judge(policy: PodsWithoutSecrets, found: &Found, owner: &Owner) -> Verdict {
    match owner {
        Owner::Nobody => Verdict::Report(Because::NoController),
        Owner::Other { .. } => Verdict::Report(Because::UnknownController),
        _ if policy == PodsWithoutSecrets::Report => Verdict::Report(Because::Policy),
        Owner::Job { ignores: None | Some(false), .. } => Verdict::Report(Because::Job),
        _ if found.refused.is_some() => Verdict::Report(Because::Refused),
        Owner::Job { .. } | Owner::Replaces => Verdict::Evict,
    }
}

/// What people are told: the object is the pod, then field, rule and remedy.
pub fn note(found: &Found, owner: &Owner, verdict: Verdict) -> String {
    let names = found.bindings.join(", ");
    let why = match found.asks {
        Asks::Label => format!("its label {INJECT_LABEL} asks for secrets"),
        Asks::Required => format!("label {INJECT_LABEL} of its namespace requires secrets"),
        Asks::Enabled => format!("its namespace has the label {INJECT_LABEL}: enabled, and SecretBinding {names} selects it"),
    };
    let then = |remedy: &str| match &found.refused {
        None => format!("{remedy}; SecretBinding {names} serves the pod in its place"),
        Some(refused) => format!("{refused}: mend that, since a pod in its place would be refused, then {remedy}"),
    };
    let what = match (verdict, owner) {
        (Verdict::Evict, _) => {
            format!(
                "it is evicted once admission, disruption budgets and its controller's other pods allow; SecretBinding {names} serves the pod in its place"
            )
        }
        (Verdict::Report(Because::Job), Owner::Job { name, ignores: Some(_) }) => then(&format!(
            "delete Job {name} and create it again (it is not evicted: the Job's spec.podFailurePolicy has no rule with action Ignore for condition DisruptionTarget that comes first, so that it would count as a failure)"
        )),
        (Verdict::Report(Because::Job), Owner::Job { name, .. }) => {
            then(&format!("delete Job {name} and create it again (it is not evicted: its Job cannot be read at the moment)"))
        }
        (Verdict::Report(Because::UnknownController), Owner::Other { kind, name }) => {
            then(&format!("restart its controller {kind} {name} (which may take the eviction of one pod for a failure)"))
        }
        (Verdict::Report(Because::NoController), _) => then("delete it and create it again, since no controller does"),
        (Verdict::Report(Because::Again), _) => then(
            "find out what keeps admission from its controller's pods and restart the workload (it is not evicted, since the pod in the place of the last one that was has no agent either)",
        ),
        (Verdict::Report(_), _) => then("restart the workload"),
    };
    format!("{why}, and it has no agent (annotation {INJECTED_ANNOTATION}), since it was created while admission did not serve it: {what}")
}

/// Which of the pods that are to be evicted go now: no more than [`EVICTIONS_A_PASS`], one of a controller, and none of a
/// controller that is still bringing up the pod that took the place of the last one. Who waited longest for a turn is first.
pub fn chosen<'a>(
    evictable: impl Iterator<Item = &'a Found>,
    pods: &[Arc<Pod>],
    history: &History,
    sequels: &BTreeMap<String, Sequel>,
) -> Vec<&'a Found> {
    let rising = |pod: &&Arc<Pod>| {
        let served = pod.annotations().contains_key(INJECTED_ANNOTATION);
        pod.metadata.deletion_timestamp.is_some() || (served && is_live(pod) && !is_ready(pod))
    };
    let uid = |pod: &Pod| controller(pod).map(|owner| owner.uid.clone());
    let mut busy: HashSet<String> = pods.iter().filter(rising).filter_map(|pod| uid(pod)).collect();
    busy.extend(sequels.iter().filter(|(_, sequel)| **sequel != Sequel::Served).map(|(owner, _)| owner.clone()));
    let mut turns: Vec<&Found> = evictable.collect();
    turns.sort_by_key(|found| history.last_turn(&found.pod));
    turns.into_iter().filter(|found| uid(&found.pod).is_some_and(|owner| busy.insert(owner))).take(EVICTIONS_A_PASS).collect()
}

/// Whether its condition says so.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
