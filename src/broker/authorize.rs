//! What of a plan may be given at this moment; pure.
//!
//! The plan is untrusted: it narrows what the live objects allow and never widens it. `podSelector` is not looked at:
//! labels are no boundary, admission decided by them, and a pod that lost a label still holds what it was promised.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use kustody_api::policy::{self, Home};
use kustody_api::secret_binding::SecretSource;
use kustody_api::{EncryptionKey, KeyProvider, SecretBinding};
use kustody_core::sealing::SealedValue;
use kustody_core::sealing::format::hex;
use kustody_core::wire::{Plan, PlannedBinding, Withdrawn};

#[cfg(test)]
mod tests;

/// What caches say of one namespace.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The namespace.
    pub home: Home<'a>,
    /// Its binding of this name.
    pub binding: &'a dyn Fn(&str) -> Option<Arc<SecretBinding>>,
    /// Its key of this name.
    pub key: &'a dyn Fn(&str) -> Option<Arc<EncryptionKey>>,
    /// The provider of this name.
    pub provider: &'a dyn Fn(&str) -> Option<Arc<KeyProvider>>,
}

/// One secret that may be opened, and what of it is asked for.
pub struct Allowed {
    /// Where it opens.
    pub binding: Arc<SecretBinding>,
    /// Name of the secret.
    pub secret: String,
    /// Members that are asked for, each once; `None` is the whole value.
    pub properties: Vec<Option<String>>,
    /// The key of the binding's own namespace.
    pub key: Arc<EncryptionKey>,
    /// The provider that the key was made with.
    pub provider: Arc<KeyProvider>,
    /// What is sealed, under that key and a public key that it lists.
    pub sealed: SealedValue,
}

impl Allowed {
    /// Whether it is sealed for the sealing key that its key publishes.
    pub fn is_current(&self) -> bool {
        let published = self.key.status.as_ref().and_then(|status| status.sealing_key.as_ref());
        published.is_none_or(|published| published.public_key_sha256 == hex(&self.sealed.header.public_key_sha256))
    }
}

/// What is given and what is not.
#[derive(Default)]
pub struct Decision {
    /// To be opened.
    pub allowed: Vec<Allowed>,
    /// Not given, with the reason.
    pub withdrawn: Vec<Withdrawn>,
}

/// Decides over every binding of the plan for a pod with this service account.
pub fn decide(plan: &Plan, account: &str, facts: Facts<'_>) -> Decision {
    let mut decision = Decision::default();
    for planned in &plan.bindings {
        if let Err(reason) = decide_binding(planned, account, facts, &mut decision) {
            decision.withdraw(&planned.name, "", reason);
        }
    }
    decision
}

impl Decision {
    fn withdraw(&mut self, binding: &str, item: &str, reason: String) {
        let withdrawn = Withdrawn { binding: binding.to_owned(), item: item.to_owned(), reason };
        if !self.withdrawn.contains(&withdrawn) {
            self.withdrawn.push(withdrawn);
        }
    }
}

fn decide_binding(planned: &PlannedBinding, account: &str, facts: Facts<'_>, decision: &mut Decision) -> Result<(), String> {
    let (name, namespace) = (&planned.name, facts.home.name);
    let Some(binding) = (facts.binding)(name) else {
        return Err(format!("SecretBinding {namespace}/{name} does not exist any more; restore it, or recreate the pod"));
    };
    if binding.uid().as_deref() != Some(&planned.uid) {
        return Err(format!(
            "SecretBinding {namespace}/{name} was deleted and made anew since the pod was admitted (UID {} now); recreate the pod",
            binding.uid().unwrap_or_default()
        ));
    }
    if !binding.spec.workloads.service_accounts.iter().any(|served| served == account) {
        return Err(format!(
            "SecretBinding {namespace}/{name}: spec.workloads.serviceAccounts does not name {account}; add it, or use another service account"
        ));
    }
    for (secret, properties) in asked(planned, &binding, facts, decision) {
        match secret_of(&binding, &secret, Some(account), facts) {
            Ok((key, provider, sealed)) => {
                let binding = Arc::clone(&binding);
                decision.allowed.push(Allowed { binding, secret, properties, key, provider, sealed });
            }
            Err(reason) => decision.withdraw(name, &secret, format!("SecretBinding {namespace}/{name}: {reason}")),
        }
    }
    Ok(())
}

/// What of the plan the binding still delivers, by secret; the rest is withdrawn.
fn asked(
    planned: &PlannedBinding,
    binding: &SecretBinding,
    facts: Facts<'_>,
    decision: &mut Decision,
) -> BTreeMap<String, Vec<Option<String>>> {
    let deliver = &binding.spec.deliver;
    let (name, namespace) = (&planned.name, facts.home.name);
    let delivered: Vec<(&str, Option<&str>)> = (deliver.files.iter().map(|file| (file.secret.as_str(), file.property.as_deref())))
        .chain(deliver.env.iter().map(|variable| (variable.secret.as_str(), variable.property.as_deref())))
        .collect();
    let mut wanted = BTreeMap::<String, Vec<Option<String>>>::new();
    let mut want = |secret: &str, property: &Option<String>| {
        let properties = wanted.entry(secret.to_owned()).or_default();
        if !properties.contains(property) {
            properties.push(property.clone());
        }
    };
    let mut refused = Vec::new();
    let no_more = |secret: &str, property: &Option<String>| {
        let property = property.as_ref().map_or_else(String::new, |property| format!(" (property {property})"));
        format!(
            "SecretBinding {namespace}/{name}: spec.deliver does not deliver {secret}{property} any more; restore it, or recreate the pod"
        )
    };
    for file in &planned.files {
        if delivered.contains(&(&file.secret, file.property.as_deref())) {
            want(&file.secret, &file.property);
        } else {
            refused.push((&file.secret, no_more(&file.secret, &file.property)));
        }
    }
    for variable in &planned.env {
        if !delivered.contains(&(&variable.secret, variable.property.as_deref())) {
            refused.push((&variable.secret, no_more(&variable.secret, &variable.property)));
        } else if let Err(reason) = policy::may_fill(&variable.name, provider_of(binding, &variable.secret, facts).as_deref(), facts.home) {
            refused.push((&variable.secret, format!("SecretBinding {namespace}/{name}: {reason}")));
        } else {
            want(&variable.secret, &variable.property);
        }
    }
    for (secret, reason) in refused {
        decision.withdraw(name, secret, reason);
    }
    wanted
}

fn source<'a>(binding: &'a SecretBinding, secret: &str) -> Option<&'a SecretSource> {
    binding.spec.secrets.iter().find(|source| source.name == secret)
}

fn provider_of(binding: &SecretBinding, secret: &str, facts: Facts<'_>) -> Option<Arc<KeyProvider>> {
    let key = (facts.key)(&source(binding, secret)?.sealed.as_ref()?.key)?;
    (facts.provider)(&key.spec.provider_ref.name)
}

/// Under what a secret of the binding may be opened: for a service account, or (`None`) to see whether it opens at all.
///
/// `Err` names field, rule and remedy. No provider is asked for anything that is refused here.
pub fn secret_of(
    binding: &SecretBinding,
    secret: &str,
    account: Option<&str>,
    facts: Facts<'_>,
) -> Result<(Arc<EncryptionKey>, Arc<KeyProvider>, SealedValue), String> {
    let field = format!("spec.secrets[{secret}]");
    let Some(source) = source(binding, secret) else { return Err(format!("{field} does not exist any more; restore it")) };
    let Some(sealed) = &source.sealed else {
        return Err(format!("{field}: only sealed values are available in this release; use sealed (kubectl kustody seal)"));
    };
    let name = &sealed.key;
    let Some(key) = (facts.key)(name) else {
        return Err(format!("{field}.sealed.key: EncryptionKey {name} does not exist in namespace {}; restore it", facts.home.name));
    };
    if let Some(account) = account.filter(|account| !policy::may_open(&key, account)) {
        return Err(format!(
            "{field}: EncryptionKey {name} has no grant with operation Open for service account {account}; add one to its spec.grants"
        ));
    }
    let provider = (facts.provider)(&key.spec.provider_ref.name);
    policy::usable(&key, provider.as_deref(), facts.home).map_err(|reason| format!("{field}: {reason}"))?;
    let invalid = |rule: String| format!("{field}.sealed.value: {rule}");
    let value = SealedValue::parse(&sealed.value).map_err(|error| invalid(error.to_string()))?;
    policy::sealed_for(&key, &value.header.provider_key_id, &hex(&value.header.public_key_sha256)).map_err(invalid)?;
    let provider = provider.ok_or_else(|| format!("{field}: its KeyProvider does not exist"))?;
    Ok((key, provider, value))
}
