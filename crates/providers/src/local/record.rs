//! How a key lies in the store: names, labels, annotations.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kustody_core::secret::SecretBytes;

use super::root::short;
use crate::key_store::{Record, Selector};
use crate::{Claim, Error, Key, State, Version};

const PROVIDER_LABEL: &str = "kustody.dev/local-provider";
const ROOT_LABEL: &str = "kustody.dev/local-root";
const OWNER_LABEL: &str = "kustody.dev/local-owner";
pub(super) const PROVIDER: &str = "kustody.dev/provider";
const ID: &str = "kustody.dev/key-id";
const DELETION: &str = "kustody.dev/key-deletion";
const NOTED: &str = "kustody.dev/key-due";
const STATE: &str = "kustody.dev/key-state";
const TAGS: &str = "kustody.dev/key-tags";
const VERSIONS: &str = "kustody.dev/key-versions";
pub(super) const ROOT_CHECK: &str = "kustody.dev/root-check";

/// A nonce becomes part of a record's name and of an id.
pub(super) fn check_nonce(nonce: &str) -> Result<(), Error> {
    let fits = (8..=64).contains(&nonce.len()) && nonce.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if fits { Ok(()) } else { Err(Error::Configuration { detail: "a nonce has 8 to 64 lower-case letters and digits".to_owned() }) }
}

pub(super) fn name(nonce: &str) -> String {
    format!("kustody-key-{nonce}")
}

pub(super) fn root_name(provider: &str) -> String {
    format!("kustody-root-{}", short(provider))
}

pub(super) fn id_of(claim: &Claim, nonce: &str) -> String {
    format!("{}/{}/{nonce}", claim.namespace, claim.name)
}

pub(super) fn version_entry(version: &str) -> String {
    format!("version-{version}")
}

pub(super) fn of_provider(provider: &str) -> Selector {
    Selector::default().and(PROVIDER_LABEL, [short(provider)])
}

/// Of these owners, as [`owner`] and [`place`] name them.
pub(super) fn of_owners(provider: &str, owners: impl IntoIterator<Item = String>) -> Selector {
    of_provider(provider).and(OWNER_LABEL, owners)
}

pub(super) fn root_labels(provider: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(ROOT_LABEL.to_owned(), short(provider))])
}

/// Whose key it is, whatever UID its object has.
pub(super) fn owner(claim: &Claim) -> String {
    short(&format!("{}/{}/{}", claim.cluster, claim.namespace_uid, claim.name))
}

/// Whose key it will be that was imported: namespace and object of these names, in whatever cluster.
pub(super) fn place(claim: &Claim) -> String {
    short(&format!("{}/{}", claim.namespace, claim.name))
}

fn labels(provider: &str, owner: String) -> BTreeMap<String, String> {
    BTreeMap::from([(PROVIDER_LABEL.to_owned(), short(provider)), (OWNER_LABEL.to_owned(), owner)])
}

/// It was brought here, and no object has taken it yet.
pub(super) fn import(record: &mut Record, provider: &str, claim: &Claim) {
    record.labels.extend(labels(provider, place(claim)));
}

/// Whose it is, as [`owner`] or [`place`] names it.
pub(super) fn owner_of(record: &Record) -> String {
    record.labels.get(OWNER_LABEL).cloned().unwrap_or_default()
}

pub(super) fn new(
    provider: &str,
    id: &str,
    nonce: &str,
    claim: &Claim,
    version: &Version,
    wrapped: SecretBytes,
    root_check: &str,
) -> Result<Record, Error> {
    let annotations = [
        (PROVIDER, provider.to_owned()),
        (ID, id.to_owned()),
        (STATE, json(&State::Enabled)?),
        (TAGS, json(&claim.to_tags())?),
        (VERSIONS, json(&[version])?),
        (ROOT_CHECK, root_check.to_owned()),
    ];
    Ok(Record {
        name: name(nonce),
        revision: String::new(),
        labels: labels(provider, owner(claim)),
        annotations: annotations.map(|(name, value)| (name.to_owned(), value)).into(),
        data: BTreeMap::from([(version_entry(&version.id), wrapped)]),
    })
}

pub(super) fn id(record: &Record) -> Option<&str> {
    record.annotations.get(ID).map(String::as_str)
}

pub(super) fn provider(record: &Record) -> Option<&String> {
    record.annotations.get(PROVIDER)
}

/// Whether it is a key's, and not something else that carries the provider's label.
pub(super) fn is_key(found: &Record, of: &str) -> bool {
    provider(found).is_some_and(|provider| provider == of) && found.annotations.contains_key(ID)
}

pub(super) fn root_check(record: &Record) -> Option<&String> {
    record.annotations.get(ROOT_CHECK)
}

pub(super) fn state(record: &Record) -> Result<State, Error> {
    read(record, STATE)
}

pub(super) fn describe(record: &Record) -> Result<Key, Error> {
    Ok(Key {
        id: id(record).unwrap_or_default().to_owned(),
        state: state(record)?,
        deletion: deletion(record)?,
        versions: read(record, VERSIONS)?,
        tags: read(record, TAGS)?,
    })
}

pub(super) fn primary(record: &Record) -> Result<Version, Error> {
    let missing = || Error::Configuration { detail: format!("key {} has no primary version", id(record).unwrap_or_default()) };
    describe(record)?.primary().cloned().ok_or_else(missing)
}

/// The version that follows.
pub(super) fn next(record: &Record, now: Timestamp) -> Result<Version, Error> {
    let versions = describe(record)?.versions;
    let last = versions.iter().filter_map(|version| version.id.parse::<u32>().ok()).max().unwrap_or(0);
    Ok(Version { id: (last + 1).to_string(), created: Some(now), primary: true })
}

/// Adds a primary version.
pub(super) fn add(record: &mut Record, version: Version, wrapped: SecretBytes) -> Result<(), Error> {
    let mut versions = describe(record)?.versions;
    for version in &mut versions {
        version.primary = false;
    }
    record.data.insert(version_entry(&version.id), wrapped);
    versions.push(version);
    record.annotations.insert(VERSIONS.to_owned(), json(&versions)?);
    Ok(())
}

pub(super) fn set_state(record: &mut Record, state: State, deletion: Option<Timestamp>) -> Result<(), Error> {
    record.annotations.insert(STATE.to_owned(), json(&state)?);
    record.annotations.remove(DELETION);
    record.annotations.remove(NOTED);
    if let Some(at) = deletion {
        record.annotations.insert(DELETION.to_owned(), json(&at)?);
    }
    Ok(())
}

/// The time of a scheduled deletion, when it has passed.
pub(super) fn due(record: &Record, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    if state(record)? == State::PendingDeletion { Ok(deletion(record)?.filter(|at| *at <= now)) } else { Ok(None) }
}

/// Notes what our clock says: a write that changes nothing else, of which the store says when it was by its own.
pub(super) fn note_time(record: &mut Record, now: Timestamp) -> Result<(), Error> {
    record.annotations.insert(NOTED.to_owned(), json(&now)?);
    Ok(())
}

/// Forgets all material; what the key was stays known.
pub(super) fn destroy(record: &mut Record) -> Result<(), Error> {
    record.data.clear();
    set_state(record, State::Destroyed, None)
}

fn deletion(record: &Record) -> Result<Option<Timestamp>, Error> {
    if record.annotations.contains_key(DELETION) { read(record, DELETION).map(Some) } else { Ok(None) }
}

/// Adds `tags`; says whether anything changed.
pub(super) fn tag(record: &mut Record, tags: &BTreeMap<String, String>) -> Result<bool, Error> {
    let before: BTreeMap<String, String> = read(record, TAGS)?;
    let mut after = before.clone();
    after.extend(tags.iter().map(|(name, value)| (name.clone(), value.clone())));
    if after == before {
        return Ok(false);
    }
    if let (Some(claim), Some(provider)) = (Claim::from_tags(&after), provider(record).cloned()) {
        record.labels.extend(labels(&provider, owner(&claim)));
    }
    record.annotations.insert(TAGS.to_owned(), json(&after)?);
    Ok(true)
}

pub(super) fn read<T: serde::de::DeserializeOwned>(record: &Record, annotation: &str) -> Result<T, Error> {
    let text = record.annotations.get(annotation).map_or("", String::as_str);
    serde_json::from_str(text).map_err(|_| Error::Configuration {
        detail: format!(
            "Secret {} in the operator's namespace: annotation {annotation} is missing or unreadable; restore it from a backup",
            record.name
        ),
    })
}

pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Configuration { detail: format!("failed to write a record: {error}") })
}
