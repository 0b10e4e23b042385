//! Publishes sealing keys: made, wrapped and published before anybody can seal for them.

use std::collections::BTreeMap;

use kustody_api::encryption_key::{SealingKey, SealingKeyRecord};
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
    if pass.status.sealing_key.is_none() {
        let version = pass.status.sealing_keys.iter().map(|record| record.version).max().unwrap_or_default() + 1;
        let published = make(pass, key, version).await?;
        pass.status.sealing_keys.push(SealingKeyRecord { version, public_key_sha256: published.public_key_sha256.clone() });
        pass.status.sealing_key = Some(published);
        pass.write().await?;
    }
    let missing: BTreeMap<String, String> = pass
        .status
        .sealing_keys
        .iter()
        .map(|record| (format!("{SEALING_KEY_TAG}{}", record.version), record.public_key_sha256.clone()))
        .filter(|(tag, _)| !key.tags.contains_key(tag))
        .collect();
    if missing.is_empty() { Ok(()) } else { pass.tag(&key.id, &missing).await }
}

/// A new sealing key; its seed leaves this function wrapped or not at all.
async fn make(pass: &Pass<'_>, key: &Key, version: i32) -> Result<SealingKey, Failure> {
    let (seed, public_key) = sealing::generate()?;
    let hash = public_key.sha256();
    let number = version.unsigned_abs();
    let claim = &pass.facts.claim;
    let context = sealing::wrap_context(&claim.namespace, &claim.name, number, &hash);
    let wrapped = pass.provider.wrap(&key.id, &seed, &context).await?;
    let header = Header { provider_key_id: key.id.clone(), version: number, public_key_sha256: hash, wrapped_seed: wrapped.ciphertext };
    let document = KeyDocument { header, namespace: claim.namespace.clone(), key: claim.name.clone(), public_key };
    Ok(SealingKey { version, public_key_sha256: hex(&hash), document: document.to_string() })
}

/// What status, tags and documents know together, oldest first, each public key once.
fn records(status: &[SealingKeyRecord], key: &Key, documents: &[KeyDocument]) -> Vec<SealingKeyRecord> {
    let tagged = key.tags.iter().filter_map(|(tag, hash)| {
        let version = tag.strip_prefix(SEALING_KEY_TAG)?.parse().ok()?;
        Some(SealingKeyRecord { version, public_key_sha256: hash.clone() })
    });
    let adopted = documents.iter().filter_map(|document| {
        let version = i32::try_from(document.header.version).ok()?;
        Some(SealingKeyRecord { version, public_key_sha256: hex(&document.header.public_key_sha256) })
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
