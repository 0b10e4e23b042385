//! Who may have what: the decisions that controllers, admission and broker share, so that there is one of each.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};
use kustody_core::pattern::Pattern;
use kustody_core::variables;

use crate::encryption_key::{DesiredState, GrantOperation, KeyState};
use crate::key_provider::{Access, AdoptOperation};
use crate::{EncryptionKey, KeyProvider};

#[cfg(test)]
mod tests;

/// A namespace as `access` sees it.
#[derive(Clone, Copy, Debug)]
pub struct Home<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// Lines of `access` that select the namespace.
pub fn lines<'a>(provider: &'a KeyProvider, home: Home<'a>) -> impl Iterator<Item = &'a Access> {
    provider.spec.access.iter().filter(move |line| {
        // A selector that cannot be read selects nothing.
        Selector::try_from(line.namespaces.clone()).is_ok_and(|selector| selector.matches(home.labels))
    })
}

/// Whether the first segment of the id is the namespace's own; for a key that is not held yet, its claim then decides.
pub fn is_own(id: &str, home: Home<'_>) -> bool {
    id.split_once('/').is_some_and(|(first, _)| first == home.name)
}

/// Whether a line lets the namespace take over and use the key of this id.
pub fn may_adopt(provider: &KeyProvider, home: Home<'_>, id: &str) -> bool {
    may(provider, home, id, AdoptOperation::Use)
}

/// Whether a line lets the namespace do this with a key of this id that is not its own.
pub fn may(provider: &KeyProvider, home: Home<'_>, id: &str, operation: AdoptOperation) -> bool {
    lines(provider, home).flat_map(|line| &line.adopt).any(|adopt| {
        adopt.operations.contains(&operation)
            && adopt.ids.iter().any(|pattern| Pattern::parse(pattern).is_ok_and(|pattern| pattern.matches(home.name, id)))
    })
}

/// Whether the service account may have values opened under the key.
pub fn may_open(key: &EncryptionKey, service_account: &str) -> bool {
    key.spec.grants.iter().any(|grant| grant.service_account == service_account && grant.operations.contains(&GrantOperation::Open))
}

/// Why no value may be opened under this key of the namespace at this moment: its state, its provider, `access`.
///
/// `Ok` is the id of the key at the provider: the one that is held, never one that a value names.
pub fn usable<'a>(key: &'a EncryptionKey, provider: Option<&KeyProvider>, home: Home<'_>) -> Result<&'a str, String> {
    let name = key.name_any();
    let Some((status, id)) = key.status.as_ref().and_then(|status| Some((status, status.key_id.as_deref()?))) else {
        return Err(format!("EncryptionKey {name} holds no key yet; its condition Ready says why"));
    };
    if key.spec.desired_state == Some(DesiredState::Disabled) {
        // The spec counts before the controller has acted on it, or while it cannot.
        return Err(format!("EncryptionKey {name}: spec.desiredState is Disabled; set it to Enabled to have values opened again"));
    }
    if status.state != Some(KeyState::Enabled) {
        let state = status.state.map_or_else(|| "unknown".to_owned(), |state| format!("{state:?}"));
        return Err(format!(
            "EncryptionKey {name}: its key is {state}, and only an enabled key opens values; its condition Ready says why"
        ));
    }
    let provider_name = &key.spec.provider_ref.name;
    let Some(provider) = provider else {
        return Err(format!("EncryptionKey {name}: spec.providerRef: KeyProvider {provider_name} does not exist; restore it"));
    };
    if status.provider_uid.is_none() || status.provider_uid != provider.uid() {
        return Err(format!(
            "EncryptionKey {name}: its key was made with another KeyProvider of the name {provider_name}; status.providerUid is not this one's UID"
        ));
    }
    let mut selecting = lines(provider, home).peekable();
    if selecting.peek().is_none() {
        return Err(format!(
            "KeyProvider {provider_name}: no line of spec.access selects namespace {}; ask whoever keeps the provider for one",
            home.name
        ));
    }
    if !is_own(id, home) && !may_adopt(provider, home, id) {
        return Err(format!(
            "KeyProvider {provider_name}: no line of spec.access that selects namespace {} has an adopt entry with operation Use whose ids match {id}; ask whoever keeps the provider for one",
            home.name
        ));
    }
    Ok(id)
}

/// Why a value that was sealed under this key id and public key is not for `key`, if it is not.
pub fn sealed_for(key: &EncryptionKey, key_id: &str, public_key_sha256: &str) -> Result<(), String> {
    let name = key.name_any();
    let held = key.status.as_ref().and_then(|status| status.key_id.as_deref());
    if held != Some(key_id) {
        return Err(format!(
            "it was sealed under key {key_id}, and EncryptionKey {name} holds {}; seal it again with that EncryptionKey's document",
            held.unwrap_or("none")
        ));
    }
    let listed = key.status.iter().flat_map(|status| &status.sealing_keys).any(|record| record.public_key_sha256 == public_key_sha256);
    if !listed {
        return Err(format!(
            "EncryptionKey {name} does not list the sealing key that it was sealed for; seal it again, or add that key's document to spec.adopt.sealingKeys"
        ));
    }
    Ok(())
}

/// Why no secret under this provider may fill the variable, if none may.
pub fn may_fill(variable: &str, provider: Option<&KeyProvider>, home: Home<'_>) -> Result<(), String> {
    let Some(pattern) = variables::refused(variable) else { return Ok(()) };
    let allow: Vec<&str> = provider
        .into_iter()
        .flat_map(|provider| lines(provider, home))
        .flat_map(|line| &line.allow_variables)
        .map(String::as_str)
        .collect();
    if variables::allowed(variable, &allow) {
        return Ok(());
    }
    let provider = provider.map_or_else(|| "the KeyProvider".to_owned(), |provider| format!("KeyProvider {}", provider.name_any()));
    Err(format!(
        "spec.deliver.env[{variable}]: a variable that changes how programs load, trust or connect ({pattern}) is refused unless allowVariables of a line of {provider}'s spec.access for this namespace names it; use another name or a file"
    ))
}
