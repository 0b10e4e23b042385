//! The record of a provider's root: which root key the keys are under, and what it takes to have that one again.
//!
//! It is written before the first key, and never changed after: a root key that is not the recorded one is told before
//! anything is wrapped by it.

use std::collections::BTreeMap;

use kustody_core::secret::SecretBytes;
use serde::{Deserialize, Serialize};

use super::derivation::Parameters;
use super::record;
use super::root::{self, RootKey};
use crate::Error;
use crate::key_store::{KeyStore, Record};

/// Name of a generated root key in the record's data.
const ENTRY: &str = "root";
const SOURCE: &str = "kustody.dev/root-source";
const DERIVATION: &str = "kustody.dev/root-derivation";

/// Where a root key comes from, as its record says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Source {
    /// Made once, kept in the record.
    Generated,
    /// A file outside the store.
    File,
    /// A passphrase outside the store; how it is derived is in the record.
    Passphrase,
}

/// The record.
pub(super) struct RootRecord(Record);

impl RootRecord {
    /// Reads it.
    pub(super) async fn read(store: &dyn KeyStore, provider: &str) -> Result<Option<Self>, Error> {
        Ok(store.read(&record::root_name(provider)).await?.map(Self))
    }

    /// A new one: `check` names the root key, `key` is there when it is a generated one, `parameters` when it is derived.
    pub(super) fn new(provider: &str, check: &str, key: Option<SecretBytes>, parameters: Option<&Parameters>) -> Result<Self, Error> {
        let source = match (&key, parameters) {
            (Some(_), _) => Source::Generated,
            (None, Some(_)) => Source::Passphrase,
            (None, None) => Source::File,
        };
        let mut annotations = BTreeMap::from([
            (record::PROVIDER.to_owned(), provider.to_owned()),
            (record::ROOT_CHECK.to_owned(), check.to_owned()),
            (SOURCE.to_owned(), record::json(&source)?),
        ]);
        if let Some(parameters) = parameters {
            annotations.insert(DERIVATION.to_owned(), record::json(parameters)?);
        }
        Ok(Self(Record {
            name: record::root_name(provider),
            revision: String::new(),
            labels: record::root_labels(provider),
            annotations,
            data: key.map(|key| (ENTRY.to_owned(), key)).into_iter().collect(),
        }))
    }

    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Where the root key comes from; an earlier release recorded generated ones only, without saying so.
    pub(super) fn source(&self) -> Result<Source, Error> {
        if self.0.annotations.contains_key(SOURCE) { record::read(&self.0, SOURCE) } else { Ok(Source::Generated) }
    }

    /// How the root key is derived from a passphrase.
    pub(super) fn parameters(&self) -> Result<Parameters, Error> {
        record::read(&self.0, DERIVATION)
    }

    /// Check value of the root key; absent only where an earlier release made the record.
    pub(super) fn check(&self) -> Option<&str> {
        record::root_check(&self.0).map(String::as_str)
    }

    /// Whether the root key itself lies in it.
    pub(super) fn holds_key(&self) -> bool {
        self.0.data.contains_key(ENTRY)
    }

    /// The generated root key.
    #[expect(clippy::disallowed_methods, reason = "the root key is used while its record stays whole")]
    pub(super) fn key(&self) -> Option<SecretBytes> {
        self.0.data.get(ENTRY).map(|key| SecretBytes::new(key.expose().to_vec()))
    }

    /// Refuses a root key that is not the recorded one.
    pub(super) fn must_name(&self, root: &RootKey, provider: &str) -> Result<(), Error> {
        match self.check() {
            Some(check) if check != root.check() => Err(root::wrong(
                root,
                &format!(
                    "the keys of KeyProvider {provider} are under (check value {check}, Secret {} in the operator's namespace)",
                    self.name()
                ),
                "restore that one; only if no key was ever made under it, delete that Secret",
            )),
            _ => Ok(()),
        }
    }

    /// Completes what an earlier release recorded.
    pub(super) fn with_check(mut self, check: &str) -> Self {
        self.0.annotations.insert(record::ROOT_CHECK.to_owned(), check.to_owned());
        self
    }

    /// The record as it is stored.
    pub(super) fn into_record(self) -> Record {
        self.0
    }

    /// A record that is one of these, by its name.
    pub(super) fn from_record(record: Record) -> Self {
        Self(record)
    }
}
