//! Export and import of a provider's records: with the root key, an export opens every value that was sealed under them.
//!
//! Guarantees: material leaves no function here unwrapped; everything is checked before anything is written; nothing that
//! is there is overwritten; a second import of the same file changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use kustody_core::secret::SecretBytes;

use super::derivation::{Derivation, Parameters};
use super::export::{self, Header, Lock, RootFacts};
use super::root::{self, RootKey};
use super::root_record::{RootRecord, Source};
use super::{crypto, private_file, record};
use crate::key_store::{KeyStore, Record};
use crate::{Error, Key, State};

#[cfg(test)]
mod tests;

/// What an export is locked with and proven by; files that only their owner can read.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// The provider's root key, or the passphrase of a passphrase root: the file that the operator mounts.
    pub root: Option<PathBuf>,
    /// A passphrase of the export's own.
    pub passphrase: Option<PathBuf>,
}

/// An export that was made.
pub struct Exported {
    /// The file's content; ciphertext but for its first two lines.
    pub text: String,
    /// What is in it.
    pub contents: Contents,
}

/// An import that was made.
pub struct Imported {
    /// What was in the file.
    pub contents: Contents,
    /// How many keys were made; the others were there already, with the same material or destroyed.
    pub made: usize,
    /// Ids of the keys that were destroyed there and stay so.
    pub destroyed: Vec<String>,
}

/// What an export holds, without any secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Name of the `KeyProvider`.
    pub provider: String,
    /// Ids of the keys.
    pub keys: Vec<String>,
    /// Check value of the root key.
    pub root_check: String,
    /// Whether the generated root key is in it.
    pub holds_root_key: bool,
    /// Whether each version of each key was seen to open under the root key.
    pub proven: bool,
}

/// Exports all keys of the provider.
pub async fn export(store: &dyn KeyStore, provider: &str, secrets: &Secrets, now: Timestamp) -> Result<Exported, Error> {
    let refuse = |detail: String| Error::Configuration { detail };
    let recorded = RootRecord::read(store, provider).await?;
    let found = store.list(&record::of_provider(provider)).await?;
    let mut records: Vec<Record> = found.into_iter().filter(|found| record::is_key(found, provider)).collect();
    records.sort_by(|a, b| a.name.cmp(&b.name));
    let Some(first) = records.first() else {
        return Err(refuse(format!(
            "KeyProvider {provider} has no keys there: nothing to export; check the provider's name and the namespace"
        )));
    };
    let facts = facts(provider, recorded.as_ref(), first, secrets.root.as_deref())?;
    let root = open_root(provider, &facts, recorded.as_ref(), secrets.root.as_deref()).await?;
    let keys = prove(provider, &facts, root.as_deref(), &records)?;
    if let Some((key, version)) = without_material(&keys, &records) {
        return Err(refuse(format!("version {version} of key {key} has no material: its Secret was altered; restore it from a backup")));
    }
    let (lock, key) = lock(provider, &facts, root.as_deref(), secrets).await?;
    let holds_root_key = facts.source == Source::Generated;
    let proven = root.is_some();
    let root_check = facts.check.clone();
    let generated = recorded.as_ref().filter(|_| holds_root_key).and_then(RootRecord::key);
    let rooted = RootRecord::new(provider, &facts.check, generated, facts.derivation.as_ref())?.into_record();
    let all: Vec<Record> = std::iter::once(rooted).chain(records.into_iter().map(ours)).collect();
    let header = Header { provider: provider.to_owned(), made: now, keys: keys.len(), root: facts, lock };
    let text = export::write(&header, &key, &all)?;
    let keys = keys.into_iter().map(|key| key.id).collect();
    Ok(Exported { text, contents: Contents { provider: provider.to_owned(), keys, root_check, holds_root_key, proven } })
}

/// Imports an export; writes nothing unless all of it can be written.
pub async fn import(store: &dyn KeyStore, text: &str, secrets: &Secrets) -> Result<Imported, Error> {
    let sealed = export::read(text)?;
    let Header { provider, root: facts, .. } = &sealed.header;
    let refuse = |detail: String| Error::Configuration { detail };
    // A wrong root key is told by its check value, before anything is decrypted.
    let given = if facts.source == Source::Generated { None } else { open_root(provider, facts, None, secrets.root.as_deref()).await? };
    let (key, with) = unlock(&sealed.header, given.as_deref(), secrets).await?;
    let mut records = sealed
        .open(&key)
        .ok_or_else(|| refuse(format!("the export does not open with {with}: it is another one, or the file was altered")))?;
    let at = records.iter().position(|found| found.name == record::root_name(provider));
    let rooted = RootRecord::from_record(at.map(|at| records.remove(at)).ok_or_else(|| refuse("the export names no root key".to_owned()))?);
    let root = if facts.source == Source::Generated { open_root(provider, facts, Some(&rooted), None).await? } else { given };
    let keys = prove(provider, facts, root.as_deref(), &records)?;
    let proven = root.is_some() && without_material(&keys, &records).is_none();
    let wanted: Vec<Record> =
        records.into_iter().zip(&keys).map(|(found, key)| imported(provider, found, key)).collect::<Result<_, _>>()?;

    let root_is_there = compare_root(store, provider, facts).await?;
    let (mut missing, mut destroyed) = (Vec::new(), Vec::new());
    for (record, key) in wanted.iter().zip(&keys) {
        match store.read(&record.name).await? {
            Some(found) => {
                must_be_same(&found, record)?;
                if key.state != State::Destroyed && record::state(&found)? == State::Destroyed {
                    destroyed.push(key.id.clone());
                }
            }
            None => missing.push(record),
        }
    }
    let contents = Contents {
        provider: provider.clone(),
        keys: keys.into_iter().map(|key| key.id).collect(),
        root_check: facts.check.clone(),
        holds_root_key: facts.source == Source::Generated,
        proven,
    };
    if !root_is_there && !store.create(&rooted.into_record()).await? && !compare_root(store, provider, facts).await? {
        return Err(refuse(format!("Secret {} vanished while it was being made; import again", record::root_name(provider))));
    }
    let mut made = 0;
    for record in missing {
        if store.create(record).await? {
            made += 1;
        } else if let Some(found) = store.read(&record.name).await? {
            // Somebody was faster.
            must_be_same(&found, record)?;
        }
    }
    Ok(Imported { contents, made, destroyed })
}

/// What a new export is encrypted with.
async fn lock(provider: &str, facts: &RootFacts, root: Option<&RootKey>, secrets: &Secrets) -> Result<(Lock, SecretBytes), Error> {
    let detail = match (&secrets.passphrase, root, facts.source) {
        (Some(path), ..) => {
            let parameters = Parameters::new(Derivation::Argon2id)?;
            let (_, key) = parameters.derive(private_file::passphrase(path)?).await?;
            return Ok((Lock::Passphrase(parameters), key));
        }
        (None, _, Source::Generated) => format!(
            "the root key of KeyProvider {provider} was generated and is a part of the export; name a file with a passphrase for it"
        ),
        (None, Some(root), _) => {
            let salt = kustody_core::hex::hex(&random::<32>()?);
            let key = root.export_key(&salt);
            return Ok((Lock::RootKey { salt }, key));
        }
        (None, None, _) => "name the file with the root key, or a file with a passphrase for the export: it is always encrypted".to_owned(),
    };
    Err(Error::Configuration { detail })
}

/// What opens an export, and its name for people.
async fn unlock(header: &Header, root: Option<&RootKey>, secrets: &Secrets) -> Result<(SecretBytes, &'static str), Error> {
    let Header { provider, root: facts, .. } = header;
    let detail = match (&header.lock, root, &secrets.passphrase) {
        (Lock::RootKey { salt }, Some(root), _) => return Ok((root.export_key(salt), "this root key")),
        (Lock::Passphrase(parameters), _, Some(path)) => {
            return Ok((parameters.derive(private_file::passphrase(path)?).await?.1, "this passphrase"));
        }
        (Lock::RootKey { .. }, None, _) => format!(
            "this export of KeyProvider {provider} is encrypted under its root key (check value {}); name the file that holds {}",
            facts.check,
            if facts.source == Source::Passphrase { "the passphrase of that root key" } else { "that root key" }
        ),
        (Lock::Passphrase(_), _, None) => {
            format!("this export of KeyProvider {provider} is encrypted under a passphrase of its own; name the file that holds it")
        }
    };
    Err(Error::Configuration { detail })
}

/// What there is to know of the root key without having it.
fn facts(provider: &str, recorded: Option<&RootRecord>, key: &Record, file: Option<&Path>) -> Result<RootFacts, Error> {
    let Some(recorded) = recorded else {
        // An earlier release did not record mounted root keys; each key names its own. A lost record looks the same, and
        // an export without a generated root key or a salt opens nothing: only the root key itself tells them apart.
        if file.is_none() {
            return Err(Error::RootKey {
                detail: format!(
                    "Secret {} is not there, so nothing says which root key the keys of KeyProvider {provider} are under: name the mounted root key file with --root; if the root key was generated or derived from a passphrase, restore that Secret first, without it the keys cannot be used",
                    record::root_name(provider)
                ),
            });
        }
        let check = record::root_check(key).cloned().unwrap_or_default();
        return Ok(RootFacts { source: Source::File, check, derivation: None });
    };
    let source = recorded.source()?;
    let derivation = if source == Source::Passphrase { Some(recorded.parameters()?) } else { None };
    let check = match recorded.check() {
        Some(check) => check.to_owned(),
        None => RootKey::generated(recorded)?.check().to_owned(),
    };
    Ok(RootFacts { source, check, derivation })
}

/// The root key, from its record or from a file, if it is at hand; refused when it is not the one of these keys.
async fn open_root(
    provider: &str,
    facts: &RootFacts,
    recorded: Option<&RootRecord>,
    file: Option<&Path>,
) -> Result<Option<Arc<RootKey>>, Error> {
    let root = match (facts.source, &facts.derivation, file) {
        (Source::Generated, ..) => recorded.map(RootKey::generated).transpose()?.map(Arc::new),
        (_, _, None) => None,
        (Source::Passphrase, Some(parameters), Some(path)) => {
            let origin = format!("the passphrase in {}", path.display());
            Some(RootKey::from_passphrase(private_file::passphrase(path)?, parameters, origin, None).await?)
        }
        (_, _, Some(path)) => Some(Arc::new(RootKey::from_file(path)?)),
    };
    match &root {
        Some(root) if root.check() != facts.check => {
            let expected = format!("the exported keys of KeyProvider {provider} are under (check value {})", facts.check);
            Err(root::wrong(root, &expected, "name the file that holds that one"))
        }
        _ => Ok(root),
    }
}

/// The keys in the records, each of this provider and under this root key; with the root key at hand, each version opens.
fn prove(provider: &str, facts: &RootFacts, root: Option<&RootKey>, records: &[Record]) -> Result<Vec<Key>, Error> {
    let mut keys = Vec::with_capacity(records.len());
    for found in records {
        let key = record::describe(found)?;
        let nonce = key.id.rsplit('/').next().unwrap_or_default();
        let refuse = |detail: &str| Error::Configuration { detail: format!("Secret {} (key {}): {detail}", found.name, key.id) };
        if record::check_nonce(nonce).is_err()
            || found.name != record::name(nonce)
            || record::provider(found).is_none_or(|of| of != provider)
        {
            return Err(refuse("its name does not belong to its key id or provider; restore it from a backup"));
        }
        if record::root_check(found).is_some_and(|check| *check != facts.check) {
            return Err(Error::RootKey {
                detail: format!(
                    "key {} of KeyProvider {provider} is under another root key (check value {}) than the provider (check value {}): the Secrets come from two installations; restore those of one",
                    key.id,
                    record::root_check(found).map_or("", String::as_str),
                    facts.check
                ),
            });
        }
        let versions = key.versions.iter().map(|version| (version, record::version_entry(&version.id)));
        for (version, wrapped) in versions.filter_map(|(version, entry)| Some((version, found.data.get(&entry)?))) {
            if let Some(root) = root {
                root.unwrap_material(wrapped, &key.id, &version.id)?;
            }
        }
        keys.push(key);
    }
    Ok(keys)
}

/// The key and version that are listed and have no material; a destroyed key has none on purpose.
fn without_material<'a>(keys: &'a [Key], records: &[Record]) -> Option<(&'a str, &'a str)> {
    let living = keys.iter().zip(records).filter(|(key, _)| key.state != State::Destroyed);
    let mut versions = living.flat_map(|(key, found)| key.versions.iter().map(move |version| (key, found, &version.id)));
    let (key, _, version) = versions.find(|(_, found, version)| !found.data.contains_key(&record::version_entry(version)))?;
    Some((&key.id, version))
}

/// A record without what others put on its Secret.
fn ours(found: Record) -> Record {
    let keep = |name: &String| name.starts_with("kustody.dev/");
    Record {
        revision: String::new(),
        labels: found.labels.into_iter().filter(|(name, _)| keep(name)).collect(),
        annotations: found.annotations.into_iter().filter(|(name, _)| keep(name)).collect(),
        ..found
    }
}

/// A record to be made: it is found by the names of its namespace and object until one takes it back.
///
/// A deletion that was scheduled elsewhere is not taken along: its time may be over, and the next probe would destroy the key
/// that was just brought back.
fn imported(provider: &str, mut found: Record, key: &Key) -> Result<Record, Error> {
    if key.state == State::PendingDeletion {
        record::set_state(&mut found, State::Disabled, None)?;
    }
    if let Some(claim) = key.claim() {
        record::import(&mut found, provider, &claim);
    }
    Ok(found)
}

/// Whether the root record is there already; refused when it, or a key, is of another root key.
async fn compare_root(store: &dyn KeyStore, provider: &str, facts: &RootFacts) -> Result<bool, Error> {
    let keys = store.list(&record::of_provider(provider)).await?;
    let found = RootRecord::read(store, provider).await?;
    let there = found.as_ref().map(|found| {
        found.check().map_or_else(|| RootKey::generated(found).map(|root| root.check().to_owned()), |check| Ok(check.to_owned()))
    });
    let there = there.transpose()?;
    let other = there.as_ref().or_else(|| keys.iter().find_map(record::root_check)).filter(|check| **check != facts.check);
    let Some(other) = other else { return Ok(there.is_some()) };
    let remedy = if keys.is_empty() {
        format!("no key is under that one: delete Secret {} and import again", record::root_name(provider))
    } else {
        format!(
            "keys are under that one ({} of them): import where KeyProvider {provider} has no keys, or delete its Secrets first if nothing that was sealed under them is needed",
            keys.len()
        )
    };
    Err(Error::RootKey {
        detail: format!(
            "KeyProvider {provider} has a root key there (check value {other}) that is not the one of the export (check value {}); nothing was written; {remedy}",
            facts.check
        ),
    })
}

/// Refuses where a key is there with other material. Its state and tags may have gone on since the export; a key that was
/// destroyed since has no material, and stays destroyed.
#[expect(clippy::disallowed_methods, reason = "wrapped material is compared with wrapped material")]
fn must_be_same(found: &Record, wanted: &Record) -> Result<(), Error> {
    let refuse = |what: &str, remedy: &str| Error::Conflict {
        id: record::id(wanted).unwrap_or(&wanted.name).to_owned(),
        detail: format!("Secret {} is there with {what}; it was left as it is; {remedy}", wanted.name),
    };
    if (record::id(found), record::provider(found)) != (record::id(wanted), record::provider(wanted)) {
        return Err(refuse("another key id or provider", "import where no such Secret is"));
    }
    if record::state(found)? == State::Destroyed && found.data.is_empty() {
        return Ok(());
    }
    for (entry, value) in &wanted.data {
        match found.data.get(entry) {
            Some(there) if there.expose() == value.expose() => {}
            Some(_) => {
                return Err(refuse("other content", "import where no such Secret is, or delete it first if what is in it is not needed"));
            }
            None => {
                return Err(refuse(
                    &format!("fewer versions than the export ({entry} is missing)"),
                    "the export is newer: delete that Secret and import again",
                ));
            }
        }
    }
    Ok(())
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| crypto::broken("the system's random generator failed"))?;
    Ok(bytes)
}
