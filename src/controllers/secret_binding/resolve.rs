//! Whether a binding resolves: every reference, each missing one named; pure.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kustody_api::conditions::{self, ConditionType, Observation};
use kustody_api::policy::{self, Home};
use kustody_api::secret_binding::{Resealed, SecretSource, SecretStatus, VariableStatus};
use kustody_api::{EncryptionKey, KeyProvider, Reason, SecretBinding};
use kustody_core::sealing::SealedValue;
use kustody_core::sealing::format::hex;
use kustody_core::wire::{InspectAnswer, Inspected};

/// What caches say of the binding's namespace and its keys.
pub struct Facts<'a> {
    /// Labels of the namespace.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// The key of this name in the namespace.
    pub key: &'a dyn Fn(&str) -> Option<std::sync::Arc<EncryptionKey>>,
    /// The provider of this name.
    pub provider: &'a dyn Fn(&str) -> Option<std::sync::Arc<KeyProvider>>,
}

/// Each secret and each variable, in the order of the spec, and what the condition says.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    /// Each secret.
    pub secrets: Vec<SecretStatus>,
    /// Each variable.
    pub variables: Vec<VariableStatus>,
    /// The first thing that is wrong.
    pub failed: Option<(Reason, String)>,
    /// Values that were sealed anew, if that was asked for.
    pub resealed: Option<Resealed>,
}

impl Resolution {
    /// The condition `Ready`.
    pub fn ready(&self) -> Observation {
        let (status, reason, message) = match &self.failed {
            None => (true, Reason::Available, "every secret resolves; pods that ask are admitted".to_owned()),
            Some((reason, message)) => (false, *reason, message.clone()),
        };
        Observation { kind: ConditionType::Ready, status: Some(status), reason, message }
    }

    fn fail(&mut self, reason: Reason, message: &str) {
        if self.failed.is_none() {
            self.failed = Some((reason, message.to_owned()));
        }
    }

    fn secret_failed(&mut self, name: &str, reason: Reason, message: String) {
        self.fail(reason, &message);
        if let Some(secret) = self.secrets.iter_mut().find(|secret| secret.name == name) {
            *secret = unresolved(name, reason, message);
        }
    }
}

/// Everything that can be said without opening anything.
pub fn resolve(binding: &SecretBinding, facts: &Facts<'_>) -> Resolution {
    let mut resolution = Resolution { secrets: Vec::new(), variables: Vec::new(), failed: None, resealed: None };
    for source in &binding.spec.secrets {
        let status = match secret(binding, source, facts) {
            Ok(()) => SecretStatus {
                name: source.name.clone(),
                resolved: true,
                reason: <&str>::from(Reason::Available).to_owned(),
                message: None,
            },
            Err((reason, message)) => {
                resolution.fail(reason, &message);
                unresolved(&source.name, reason, message)
            }
        };
        resolution.secrets.push(status);
    }
    for variable in &binding.spec.deliver.env {
        let refusal = refused(binding, &variable.name, &variable.secret, facts);
        if let Some(message) = &refusal {
            resolution.fail(Reason::VariableRefused, message);
        }
        resolution.variables.push(VariableStatus { name: variable.name.clone(), env_file: refusal.is_none(), message: refusal });
    }
    resolution
}

/// What the broker, which can open values, says of a binding that resolves.
pub fn merge(mut resolution: Resolution, answer: &InspectAnswer) -> Resolution {
    let why = |item: &Inspected| item.message.clone().unwrap_or_else(|| "the broker gives no reason".to_owned());
    for item in answer.secrets.iter().filter(|item| !item.ok) {
        resolution.secret_failed(&item.name, Reason::SealedValueInvalid, format!("spec.secrets[{}]: {}", item.name, why(item)));
    }
    for item in answer.variables.iter().filter(|item| !item.ok) {
        let message = format!("spec.deliver.env[{}]: {}", item.name, why(item));
        resolution.fail(Reason::VariableNotRepresentable, &message);
        if let Some(variable) = resolution.variables.iter_mut().find(|variable| variable.name == item.name) {
            (variable.env_file, variable.message) = (false, Some(message));
        }
    }
    for item in answer.files.iter().filter(|item| !item.ok) {
        resolution.fail(Reason::SealedValueInvalid, &format!("spec.deliver.files[{}]: {}", item.name, why(item)));
    }
    resolution
}

fn unresolved(name: &str, reason: Reason, message: String) -> SecretStatus {
    SecretStatus { name: name.to_owned(), resolved: false, reason: <&str>::from(reason).to_owned(), message: Some(message) }
}

fn secret(binding: &SecretBinding, source: &SecretSource, facts: &Facts<'_>) -> Result<(), (Reason, String)> {
    let field = format!("spec.secrets[{}]", source.name);
    let namespace = binding.namespace().unwrap_or_default();
    let Some(sealed) = &source.sealed else {
        return Err((
            Reason::InvalidSpec,
            format!("{field}: only sealed values are available in this release; use sealed (kubectl kustody seal)"),
        ));
    };
    let name = &sealed.key;
    let Some(key) = (facts.key)(name) else {
        return Err((
            Reason::EncryptionKeyNotFound,
            format!("{field}.sealed.key: EncryptionKey {name} does not exist in namespace {namespace}; create it or correct the name"),
        ));
    };
    let status = key.status.clone().unwrap_or_default();
    if !conditions::is_true(&status.conditions, ConditionType::Ready, None) {
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        let why = ready.map_or_else(|| "it was not looked at yet".to_owned(), |ready| format!("{}: {}", ready.reason, ready.message));
        return Err((Reason::EncryptionKeyNotReady, format!("{field}.sealed.key: EncryptionKey {name} is not ready: {why}")));
    }
    for account in &binding.spec.workloads.service_accounts {
        if !policy::may_open(&key, account) {
            return Err((
                Reason::NotGranted,
                format!(
                    "{field}: EncryptionKey {name} has no grant with operation Open for service account {account}; add one to its spec.grants, or remove the account from spec.workloads.serviceAccounts"
                ),
            ));
        }
    }
    let invalid = |rule: String| Err((Reason::SealedValueInvalid, format!("{field}.sealed.value: {rule}")));
    let value = match SealedValue::parse(&sealed.value) {
        Ok(value) => value,
        Err(error) => return invalid(error.to_string()),
    };
    policy::sealed_for(&key, &value.header.provider_key_id, &hex(&value.header.public_key_sha256)).or_else(invalid)
}

/// Why the variable may not be filled from this secret, if it may not.
fn refused(binding: &SecretBinding, variable: &str, secret: &str, facts: &Facts<'_>) -> Option<String> {
    let source = binding.spec.secrets.iter().find(|source| source.name == secret);
    let key = source.and_then(|source| source.sealed.as_ref()).and_then(|sealed| (facts.key)(&sealed.key));
    let provider = key.as_ref().and_then(|key| (facts.provider)(&key.spec.provider_ref.name));
    let namespace = binding.namespace().unwrap_or_default();
    let home = Home { name: &namespace, labels: facts.namespace_labels };
    policy::may_fill(variable, provider.as_deref(), home).err()
}
