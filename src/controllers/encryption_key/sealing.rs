//! Publishes sealing keys: made, wrapped and published before anybody can seal for them.

use std::collections::BTreeMap;

use kustody_api::encryption_key::{SealedValues, SealingKey, SealingKeyRecord};
use kustody_core::sealing::format::hex;
use kustody_core::sealing::{self, Header, KeyDocument};
use kustody_providers::{Key, SEALING_KEY_TAG};

use super::pass::Pass;
use super::plan;
use super::verdict::Failure;

/// Makes the object list every sealing key of `key`, and publish one.
///
/// The order is seed, wrap, status, tag: a crash after the wrap forgets a seed that nobody has sealed for; one after the
/// status leaves a tag to be written by the next pass.
pub async fn publish(pass: &mut Pass<'_>, key: &Key) -> Result<(), Failure> {
    let documents = plan::documents(pass.key.spec.adopt.as_ref(), &key.id, pass.facts)?;
    let known = records(&pass.status.sealing_keys, key, &documents);
    pass.status.sealing_keys = known;
    if !is_current(pass, key) {
        let version = pass.status.sealing_keys.iter().map(|record| record.version).max().unwrap_or_default() + 1;
        let (published, wrapped_by) = make(pass, key, version).await?;
        let hash = published.public_key_sha256.clone();
        pass.status.sealing_keys.push(SealingKeyRecord { version, public_key_sha256: hash, key_version: Some(wrapped_by) });
        pass.status.sealing_key = Some(published);
        pass.write().await?;
    }
    count(pass);
    let missing: BTreeMap<String, String> = pass
        .status
        .sealing_keys
        .iter()
        .map(|record| (format!("{SEALING_KEY_TAG}{}", record.version), record.public_key_sha256.clone()))
        .filter(|(tag, _)| !key.tags.contains_key(tag))
        .collect();
    if missing.is_empty() { Ok(()) } else { pass.tag(&key.id, &missing).await }
}

/// Whether a sealing key is published whose seed the key's primary version wraps.
fn is_current(pass: &Pass<'_>, key: &Key) -> bool {
    let Some(published) = &pass.status.sealing_key else { return false };
    let record = pass.status.sealing_keys.iter().find(|record| record.public_key_sha256 == published.public_key_sha256);
    match record.and_then(|record| record.key_version.as_ref()) {
        Some(version) => key.primary().is_some_and(|primary| primary.id == *version),
        // Published before versions were recorded: of a key that has but one, it can be no other.
        None => key.versions.len() == 1,
    }
}

/// Counts the values of the namespace that are sealed for the key, and those among them to be sealed anew.
fn count(pass: &mut Pass<'_>) {
    let published = pass.status.sealing_key.as_ref().map(|published| published.public_key_sha256.as_str());
    let sealed = &pass.facts.sealed;
    let total = sealed.values().sum();
    let current = published.and_then(|hash| sealed.get(hash)).copied().unwrap_or_default();
    pass.status.sealed_values = Some(SealedValues { total, outdated: total - current });
}

/// A new sealing key and the version that wraps it; its seed leaves this function wrapped or not at all.
async fn make(pass: &Pass<'_>, key: &Key, version: i32) -> Result<(SealingKey, String), Failure> {
    let (seed, public_key) = sealing::generate()?;
    let hash = public_key.sha256();
    let number = version.unsigned_abs();
    let claim = &pass.facts.claim;
    let context = sealing::wrap_context(&claim.namespace, &claim.name, number, &hash);
    let wrapped = pass.provider.wrap(&key.id, &seed, &context).await?;
    let header = Header { provider_key_id: key.id.clone(), version: number, public_key_sha256: hash, wrapped_seed: wrapped.ciphertext };
    let document = KeyDocument { header, namespace: claim.namespace.clone(), key: claim.name.clone(), public_key };
    Ok((SealingKey { version, public_key_sha256: hex(&hash), document: document.to_string() }, wrapped.version))
}

/// What status, tags and documents know together, oldest first, each public key once.
fn records(status: &[SealingKeyRecord], key: &Key, documents: &[KeyDocument]) -> Vec<SealingKeyRecord> {
    let tagged = key.tags.iter().filter_map(|(tag, hash)| {
        let version = tag.strip_prefix(SEALING_KEY_TAG)?.parse().ok()?;
        Some(SealingKeyRecord { version, public_key_sha256: hash.clone(), key_version: None })
    });
    let adopted = documents.iter().filter_map(|document| {
        let version = i32::try_from(document.header.version).ok()?;
        Some(SealingKeyRecord { version, public_key_sha256: hex(&document.header.public_key_sha256), key_version: None })
    });
    let mut all: Vec<SealingKeyRecord> = Vec::new();
    for record in status.iter().cloned().chain(tagged).chain(adopted) {
        if !all.iter().any(|known| known.public_key_sha256 == record.public_key_sha256) {
            all.push(record);
        }
    }
    all.sort_by_key(|record| record.version);
    all
}
