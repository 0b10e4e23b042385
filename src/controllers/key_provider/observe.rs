//! What a probe says about a `KeyProvider`: every condition, reason and message; pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kustody_api::conditions::{self, ConditionType, Observation, Reason};
use kustody_api::{KeyProvider, KeyProviderStatus};
use kustody_providers::{Error, Probe};

use crate::config::AuditVolume;

/// What there is to write, and what to tell people.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The status from now on.
    pub status: KeyProviderStatus,
    /// Conditions that changed.
    pub transitions: Vec<Transition>,
}

/// A condition that changed.
#[derive(Debug)]
pub(super) struct Transition {
    /// What it says now.
    pub observation: Observation,
    /// Whether people should look.
    pub warning: bool,
}

/// The status of `object` after `probe`. What an unanswered probe cannot know stays as it was.
pub(super) fn outcome(object: &KeyProvider, probe: &Result<Probe, Error>, audit: AuditVolume, now: &Time) -> Outcome {
    let generation = object.metadata.generation;
    let mut status = object.status.clone().unwrap_or_default();
    let mut seen = vec![ready(&object.name_any(), probe)];
    if let Ok(probe) = probe {
        status.identity = Some(probe.identity.clone());
        status.capabilities = probe.capabilities.0.iter().map(|&name| name.to_owned()).collect();
        match probe.root_key_in_cluster.map(root_key) {
            Some(observation) => seen.push(observation),
            None => status.conditions.retain(|condition| condition.type_ != <&str>::from(ConditionType::RootKeyInCluster)),
        }
    }
    seen.push(audit_durable(audit));
    let changed = |observation: &Observation| conditions::set(&mut status.conditions, observation, generation, now);
    let transitions = seen.into_iter().filter(changed).map(Transition::from).collect();
    status.observed_generation = generation;
    Outcome { status, transitions }
}

impl From<Observation> for Transition {
    fn from(observation: Observation) -> Self {
        let good = Some(observation.kind != ConditionType::RootKeyInCluster);
        Self { warning: observation.status != good, observation }
    }
}

fn ready(name: &str, probe: &Result<Probe, Error>) -> Observation {
    let (status, reason, message) = match probe {
        Ok(probe) => (Some(true), Reason::Available, format!("KeyProvider {name} answers as: {}", probe.identity)),
        Err(error) => (Some(false), reason(error), error.to_string()),
    };
    Observation { kind: ConditionType::Ready, status, reason, message }
}

fn reason(error: &Error) -> Reason {
    match error {
        Error::RootKey { .. } => Reason::RootKeyLost,
        Error::Configuration { .. } | Error::Ciphertext { .. } => Reason::InvalidSpec,
        Error::Denied { .. } => Reason::ProviderRefuses,
        Error::NotFound { .. } => Reason::KeyNotFound,
        Error::State { .. } => Reason::KeyNotUsable,
        Error::Conflict { .. } | Error::Unavailable { .. } => Reason::ProviderUnavailable,
    }
}

fn root_key(in_cluster: bool) -> Observation {
    let (reason, message) = if in_cluster {
        let message = "the root key lies in a Secret of the operator's namespace, beside the keys under it: whoever reads Secrets there, \
            etcd or a backup of either can open everything under this provider; where that is too many, make another KeyProvider \
            with spec.local.rootKey.file or .passphrase";
        (Reason::GeneratedRootKey, message)
    } else {
        let message = "the root key comes from a mounted file and is not stored by Kustody: keep a copy of that file outside this cluster, \
            without it nothing under this provider can be opened; where the file is mounted from a Secret of this cluster, whoever \
            reads that Secret has it";
        (Reason::MountedRootKey, message)
    };
    Observation { kind: ConditionType::RootKeyInCluster, status: Some(in_cluster), reason, message: message.to_owned() }
}

fn audit_durable(volume: AuditVolume) -> Observation {
    let (status, reason, message) = match volume {
        AuditVolume::PersistentVolumeClaim => {
            (true, Reason::PersistentVolume, "audit records lie on a PersistentVolumeClaim of each broker and survive its pod")
        }
        AuditVolume::EmptyDir => {
            let message = "audit records lie in an emptyDir of each broker: they survive a restart of its container, but not the end of \
                its pod (upgrade, eviction, drained or lost node); set broker.audit.volume of the chart to a claim to keep them";
            (false, Reason::EmptyDir, message)
        }
    };
    Observation { kind: ConditionType::AuditDurable, status: Some(status), reason, message: message.to_owned() }
}

#[cfg(test)]
mod tests;
