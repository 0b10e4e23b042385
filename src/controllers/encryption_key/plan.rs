//! What may be done with a key: pure decisions over facts that were read live.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kustody_api::Reason;
use kustody_api::encryption_key::{Adopt, EncryptionKeySpec};
use kustody_api::key_provider::{AdoptOperation, KeyProvider};
use kustody_api::policy::{self, Home};
use kustody_core::sealing::KeyDocument;
use kustody_providers::{Claim, Key, State};

use super::verdict::Verdict;

/// What the API server said, live, before anything is decided.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Labels of the key's namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// What the key's claim is, or will be.
    pub claim: Claim,
    /// The provider that the spec names.
    pub provider: Option<KeyProvider>,
    /// Names of the namespace's SecretBindings that use the key; read when it is to be scheduled for deletion.
    pub users: Vec<String>,
    /// How many values are sealed for the key, and for which of its sealing keys (SHA-256 of the public key, hex).
    pub sealed: BTreeMap<String, i32>,
}

/// What is to be done first; nothing here needed a call to the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The object holds this key: see whether it is still what it should be.
    Hold(String),
    /// Take this key over.
    Adopt(String),
    /// Make a key, unless an earlier one was retained.
    Create,
}

/// Decides what a pass begins with, from the spec, the key id that the object holds, and the access lines.
pub fn start(spec: &EncryptionKeySpec, held: Option<&str>, facts: &Facts) -> Result<Start, Verdict> {
    let name = &spec.provider_ref.name;
    let Some(provider) = &facts.provider else {
        return Err(Verdict::new(
            Reason::ProviderNotFound,
            format!("spec.providerRef: KeyProvider {name} does not exist; create it or correct the name"),
        ));
    };
    if let (Some(held), Some(Adopt { key_id, .. })) = (held, &spec.adopt)
        && held != key_id
    {
        return Err(Verdict::new(
            Reason::KeyIdMismatch,
            format!(
                "spec.adopt.keyId is {key_id}, but this EncryptionKey holds key {held} and never changes its key; set spec.adopt.keyId to {held} or remove spec.adopt"
            ),
        ));
    }
    match (held, &spec.adopt) {
        (Some(held), _) => may_use(held, provider, facts).map(|()| Start::Hold(held.to_owned())),
        (None, Some(adopt)) => may_use(&adopt.key_id, provider, facts).map(|()| Start::Adopt(adopt.key_id.clone())),
        (None, None) if policy::lines(provider, home(facts)).any(|line| line.create_keys == Some(true)) => Ok(Start::Create),
        (None, None) => Err(Verdict::new(
            Reason::AccessDenied,
            format!(
                "KeyProvider {name}: no line of spec.access that selects namespace {} has createKeys: true; ask whoever keeps the provider for one",
                facts.claim.namespace
            ),
        )),
    }
}

/// The namespace as `access` sees it.
fn home(facts: &Facts) -> Home<'_> {
    Home { name: &facts.claim.namespace, labels: &facts.namespace_labels }
}

/// Why the namespace may not do this with the key, if it may not: its own keys are its own.
pub fn may(id: &str, operation: AdoptOperation, facts: &Facts) -> Result<(), Verdict> {
    let Some(provider) = &facts.provider else { return Err(Verdict::new(Reason::ProviderNotFound, "the KeyProvider does not exist")) };
    if policy::is_own(id, home(facts)) || policy::may(provider, home(facts), id, operation) {
        return Ok(());
    }
    Err(Verdict::new(
        Reason::AccessDenied,
        format!(
            "KeyProvider {}: no line of spec.access that selects namespace {} has an adopt entry with operation {operation:?} whose ids match {id}; ask whoever keeps the provider for one",
            provider.name_any(),
            facts.claim.namespace
        ),
    ))
}

fn may_use(id: &str, provider: &KeyProvider, facts: &Facts) -> Result<(), Verdict> {
    if policy::is_own(id, home(facts)) || policy::may_adopt(provider, home(facts), id) {
        Ok(())
    } else {
        Err(denied(id, provider, facts, ""))
    }
}

fn denied(id: &str, provider: &KeyProvider, facts: &Facts, why: &str) -> Verdict {
    Verdict::new(
        Reason::AccessDenied,
        format!(
            "KeyProvider {}: no line of spec.access that selects namespace {} has an adopt entry with operation Use whose ids match {id}{why}; ask whoever keeps the provider for one",
            provider.name_any(),
            facts.claim.namespace
        ),
    )
}

/// Whether a key that was found may be taken over; `lives` tells whether the object that claims it still exists.
pub fn adopt(key: &Key, lives: bool, facts: &Facts) -> Result<(), Verdict> {
    let Some(provider) = &facts.provider else { return Err(Verdict::new(Reason::ProviderNotFound, "the KeyProvider does not exist")) };
    if key.state == State::Destroyed {
        return Err(Verdict::new(
            Reason::KeyNotFound,
            format!("spec.adopt.keyId: key {} was destroyed; nothing is left to take over", key.id),
        ));
    }
    let claim = key.claim();
    let ours = claim.as_ref().is_some_and(|claim| claim.cluster == facts.claim.cluster && claim.namespace_uid == facts.claim.namespace_uid);
    if !ours && !policy::may_adopt(provider, home(facts), &key.id) {
        let why = if policy::is_own(&key.id, home(facts)) { " (the key belongs to an earlier namespace of this name)" } else { "" };
        return Err(denied(&key.id, provider, facts, why));
    }
    if let Some(claim) = claim.filter(|claim| lives && claim.owner_uid != facts.claim.owner_uid) {
        return Err(Verdict::new(
            Reason::Conflict,
            format!(
                "spec.adopt.keyId: key {} belongs to EncryptionKey {}/{}, which still exists; one key has one EncryptionKey: delete that one first",
                key.id, claim.namespace, claim.name
            ),
        ));
    }
    Ok(())
}

/// Whether the key that the object holds is still its own.
pub fn hold(key: &Key, facts: &Facts) -> Result<(), Verdict> {
    match key.claim() {
        Some(claim) if claim == facts.claim => Ok(()),
        Some(claim) => Err(Verdict::new(
            Reason::Conflict,
            format!(
                "key {} is now claimed by EncryptionKey {}/{} (UID {}) of cluster {}; one key has one EncryptionKey",
                key.id, claim.namespace, claim.name, claim.owner_uid, claim.cluster
            ),
        )),
        None => {
            Err(Verdict::new(Reason::Conflict, format!("key {} lost the tags that say whose it is; restore them at the provider", key.id)))
        }
    }
}

/// What an earlier life of the object left at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// Nothing: a key may be made.
    None,
    /// This object's own key, whose id its status lost.
    Own(Key),
}

/// Decides over the keys that carry the object's cluster, namespace UID and name.
pub fn retained(mut found: Vec<Key>, facts: &Facts) -> Result<Earlier, Verdict> {
    found.retain(|key| key.state != State::Destroyed);
    found.sort_by(|a, b| a.id.cmp(&b.id));
    if let Some(own) = found.iter().position(|key| key.claim().as_ref() == Some(&facts.claim)) {
        return Ok(Earlier::Own(found.swap_remove(own)));
    }
    if found.is_empty() {
        return Ok(Earlier::None);
    }
    let ids: Vec<&str> = found.iter().map(|key| key.id.as_str()).collect();
    let choice = if let [id] = ids[..] {
        format!("add spec.adopt.keyId: {id}")
    } else {
        format!("add spec.adopt.keyId with one of {}", ids.join(", "))
    };
    Err(Verdict::new(
        Reason::RetainedKeyFound,
        format!(
            "an earlier EncryptionKey {}/{} left its key behind, and no new one is made in its place; to take it back, {choice}; to begin anew, use another name",
            facts.claim.namespace, facts.claim.name
        ),
    ))
}

/// Reads the key documents of `spec.adopt` and checks that their seeds can be unwrapped for this object.
pub fn documents(adopt: Option<&Adopt>, held: &str, facts: &Facts) -> Result<Vec<KeyDocument>, Verdict> {
    let lines = adopt.map(|adopt| adopt.sealing_keys.as_slice()).unwrap_or_default();
    lines.iter().enumerate().map(|(i, line)| document(i, line, held, facts)).collect()
}

fn document(i: usize, line: &str, held: &str, facts: &Facts) -> Result<KeyDocument, Verdict> {
    let refuse = |rule: String| Verdict::new(Reason::InvalidSpec, format!("spec.adopt.sealingKeys[{i}]: {rule}"));
    let document = KeyDocument::parse(line).map_err(|error| refuse(error.to_string()))?;
    if document.namespace != facts.claim.namespace || document.key != facts.claim.name {
        return Err(refuse(format!(
            "it is the document of EncryptionKey {}/{}; what was sealed with it opens only under an EncryptionKey of that namespace and name",
            document.namespace, document.key
        )));
    }
    if document.header.provider_key_id != held {
        return Err(refuse(format!("its seed is wrapped by key {}, not by {held}", document.header.provider_key_id)));
    }
    Ok(document)
}
