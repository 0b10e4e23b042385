//! What is said about one pod: how it asks, what was decided, and the part of each binding. Names and reasons, never a value.

use std::fmt::{self, Display, Formatter};

use kube::ResourceExt as _;
use kustody_api::SecretBinding;
use kustody_core::wire::{FILES_ROOT, PlannedBinding};
use kustody_inject::{Considered, Decision, Explanation};
use serde::Serialize;

use crate::agent::Agent;

/// The pod that is spoken of.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// As people name it: `Pod vision/train`, `the pods of Job vision/train`.
    pub(crate) title: String,
    pub(crate) namespace: String,
    /// Whether it exists, rather than being what would be made.
    pub(crate) exists: bool,
    /// How its agent fares, when it has one.
    pub(crate) agent: Option<Agent>,
}

/// Everything about one pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pod: String,
    identity: String,
    asks: String,
    outcome: Outcome,
    because: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<Agent>,
    bindings: Vec<Part>,
    notes: Vec<String>,
}

/// What came, or would come, of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Outcome {
    /// The pod was given a plan at its admission.
    Injected,
    /// The pod does not ask, or nothing selects it.
    LeftAlone,
    /// The pod runs without what a pod made now would have, or be denied for.
    Missed,
    /// A pod made now would be given a plan.
    WouldBeInjected,
    /// A pod made now would be denied.
    WouldBeDenied,
}

/// The part of one binding.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    binding: String,
    serves: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<Delivery>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    variables: Vec<Delivery>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Secret>,
}

/// A file or a variable.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Delivery {
    name: String,
    secret: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    property: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
}

/// Where a secret comes from, and what became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    name: String,
    from: String,
    /// Whether this pod was given it.
    #[serde(skip_serializing_if = "Option::is_none")]
    given: Option<bool>,
    /// What the controller says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Report {
    /// Of an explanation and the bindings that it speaks of.
    pub(crate) fn new(subject: &Subject, explanation: &Explanation, bindings: &[&SecretBinding], notes: Vec<String>) -> Self {
        let (outcome, because) = outcome(subject, explanation);
        let planned = || explanation.plan.iter().flat_map(|plan| &plan.bindings);
        let agent = subject.agent.clone();
        let given = agent.as_ref().filter(|_| explanation.admitted).map(Agent::has_delivered);
        let mut parts: Vec<Part> = explanation
            .bindings
            .iter()
            .map(|considered| {
                let promised = planned().find(|planned| planned.name == considered.binding.name && planned.uid == considered.binding.uid);
                let object = bindings.iter().find(|binding| binding.name_any() == considered.binding.name);
                part(considered, promised, object.copied(), given)
            })
            .collect();
        let is_known = |planned: &&PlannedBinding| explanation.bindings.iter().any(|known| known.binding.name == planned.name);
        parts.extend(planned().filter(|planned| !is_known(planned)).map(|gone| Part {
            binding: gone.name.clone(),
            serves: false,
            because: Some("it does not exist any more, and the pod was admitted with it; restore it, or create the pod anew".to_owned()),
            containers: Vec::new(),
            files: files(gone),
            variables: variables(gone),
            secrets: Vec::new(),
        }));
        Self {
            pod: subject.title.clone(),
            identity: format!("system:serviceaccount:{}:{}", subject.namespace, explanation.account),
            asks: explanation.asking.clone(),
            outcome,
            because,
            agent,
            bindings: parts,
            notes,
        }
    }
}

fn outcome(subject: &Subject, explanation: &Explanation) -> (Outcome, String) {
    let names = |bindings: &[String]| format!("SecretBinding {}", bindings.join(", "));
    if subject.exists && explanation.admitted {
        let plan: Vec<String> = explanation.plan.iter().flat_map(|plan| &plan.bindings).map(|planned| planned.name.clone()).collect();
        return (Outcome::Injected, format!("it was admitted with a plan of {}", names(&plan)));
    }
    let anew = "delete it, so that its controller makes it anew";
    match (&explanation.decision, subject.exists) {
        (Decision::Skip(why), _) => (Outcome::LeftAlone, (*why).to_owned()),
        (Decision::Inject { bindings, .. }, false) => (Outcome::WouldBeInjected, format!("{} would serve it", names(bindings))),
        (Decision::Deny(why), false) => (Outcome::WouldBeDenied, why.clone()),
        (Decision::Inject { bindings, .. }, true) => (
            Outcome::Missed,
            format!(
                "it was admitted when nothing was to be given to it, or while no webhook answered for a namespace that is only enabled; {} would serve it now: {anew}",
                names(bindings)
            ),
        ),
        (Decision::Deny(why), true) => (
            Outcome::Missed,
            format!("it was admitted when it did not ask, or while no webhook answered; made now it would be denied: {why}"),
        ),
    }
}

fn part(considered: &Considered, promised: Option<&PlannedBinding>, object: Option<&SecretBinding>, given: Option<bool>) -> Part {
    let (containers, because) = match &considered.verdict {
        Ok(containers) => (containers.clone(), None),
        Err(why) => (Vec::new(), Some(why.clone())),
    };
    Part {
        binding: considered.binding.name.clone(),
        serves: because.is_none(),
        because,
        containers,
        files: promised.map(files).unwrap_or_default(),
        variables: promised.map(variables).unwrap_or_default(),
        secrets: object.zip(promised).map(|(object, promised)| secrets(object, promised, given)).unwrap_or_default(),
    }
}

fn files(planned: &PlannedBinding) -> Vec<Delivery> {
    let file = |file: &kustody_core::wire::PlannedFile| Delivery {
        name: format!("{FILES_ROOT}/{}/{}", planned.name, file.path),
        secret: file.secret.clone(),
        property: file.property.clone(),
        mode: Some(format!("{:04o}", file.mode)),
    };
    planned.files.iter().map(file).collect()
}

fn variables(planned: &PlannedBinding) -> Vec<Delivery> {
    let variable = |variable: &kustody_core::wire::PlannedVariable| Delivery {
        name: variable.name.clone(),
        secret: variable.secret.clone(),
        property: variable.property.clone(),
        mode: None,
    };
    planned.env.iter().map(variable).collect()
}

/// Of the secrets that the plan names.
fn secrets(object: &SecretBinding, planned: &PlannedBinding, given: Option<bool>) -> Vec<Secret> {
    let files = planned.files.iter().map(|file| &file.secret);
    let wanted: Vec<&String> = files.chain(planned.env.iter().map(|variable| &variable.secret)).collect();
    let statuses = object.status.iter().flat_map(|status| &status.secrets);
    let secret = |source: &kustody_api::secret_binding::SecretSource| {
        let status = statuses.clone().find(|status| status.name == source.name);
        let from = match (&source.sealed, &source.store, &source.kubernetes_secret) {
            (Some(sealed), _, _) => format!("sealed for EncryptionKey {}", sealed.key),
            (_, Some(store), _) => format!("{} of KeyProvider {}", store.id, store.provider),
            (_, _, Some(secret)) => format!("Secret {}", secret.name),
            (None, None, None) => "nowhere".to_owned(),
        };
        let resolved = status.map(|status| status.resolved);
        Secret { name: source.name.clone(), from, given, resolved, message: status.and_then(|status| status.message.clone()) }
    };
    object.spec.secrets.iter().filter(|source| wanted.contains(&&source.name)).map(secret).collect()
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Injected => "injected",
            Self::LeftAlone => "left alone",
            Self::Missed => "NOT injected",
            Self::WouldBeInjected => "would be injected",
            Self::WouldBeDenied => "would be DENIED",
        })
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.pod)?;
        writeln!(f, "  identity  {}", self.identity)?;
        writeln!(f, "  asks      {}", self.asks)?;
        writeln!(f, "  outcome   {}: {}", self.outcome, self.because)?;
        if let Some(agent) = &self.agent {
            writeln!(f, "  agent     {agent}")?;
        }
        for part in &self.bindings {
            writeln!(f, "\n{part}")?;
        }
        if self.bindings.is_empty() {
            writeln!(f, "\nThe namespace has no SecretBinding.")?;
        }
        for (i, note) in self.notes.iter().enumerate() {
            writeln!(f, "{}note: {note}", if i == 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.because {
            None => write!(f, "SecretBinding {} serves {}", self.binding, self.containers.join(", "))?,
            Some(why) => write!(f, "SecretBinding {} does not serve it: {why}", self.binding)?,
        }
        for (kind, deliveries) in [("file    ", &self.files), ("variable", &self.variables)] {
            for Delivery { name, secret, property, mode } in deliveries {
                let property = property.as_ref().map_or_else(String::new, |property| format!(", property {property}"));
                let mode = mode.as_ref().map_or_else(String::new, |mode| format!(" ({mode})"));
                write!(f, "\n  {kind}  {name}{mode} from secret {secret}{property}")?;
            }
        }
        for Secret { name, from, given, resolved, message } in &self.secrets {
            let became = match (given, resolved) {
                (Some(true), _) => ": given",
                (Some(false), _) => ": not given",
                (None, Some(true)) => ": opens",
                (None, Some(false)) => ": does not open",
                (None, None) => "",
            };
            write!(f, "\n  secret    {name}, {from}{became}")?;
            if let Some(message) = message {
                write!(f, "; {message}")?;
            }
        }
        Ok(())
    }
}
