//! The port through which the local provider keeps its records; the operator implements it over Kubernetes Secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use kustody_core::secret::SecretBytes;

use crate::Error;

/// A named record: secret data, public annotations, and a revision for optimistic concurrency.
pub struct Record {
    /// Name, unique in the store.
    pub name: String,
    /// Where the record came from; pass it back to [`KeyStore::replace`].
    pub revision: String,
    /// Labels by which records are listed.
    pub labels: BTreeMap<String, String>,
    /// Public attributes.
    pub annotations: BTreeMap<String, String>,
    /// Secret attributes (wrapped, except the generated root key).
    pub data: BTreeMap<String, SecretBytes>,
}

/// Which records: those that have each of these labels with one of its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(BTreeMap<String, BTreeSet<String>>);

impl Selector {
    /// And this label with one of these values.
    #[must_use]
    pub fn and(mut self, label: &str, values: impl IntoIterator<Item = String>) -> Self {
        self.0.entry(label.to_owned()).or_default().extend(values);
        self
    }

    /// Whether a record with these labels is one of them.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(label, values)| labels.get(label).is_some_and(|value| values.contains(value)))
    }
}

impl fmt::Display for Selector {
    /// As Kubernetes writes label selectors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (label, values)) in self.0.iter().enumerate() {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            f.write_str(if place == 0 { "" } else { "," })?;
            match values[..] {
                [value] => write!(f, "{label}={value}")?,
                _ => write!(f, "{label} in ({})", values.join(","))?,
            }
        }
        Ok(())
    }
}

/// What the store says of a write.
#[derive(Debug)]
pub struct Written {
    /// The revision that the record has now.
    pub revision: String,
    /// When it was written by the store's own clock, which is not ours; absent when the store does not say.
    pub at: Option<Timestamp>,
}

/// Where the local provider keeps its records. Reads are live, never from a cache.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// The record, if there is one.
    async fn read(&self, name: &str) -> Result<Option<Record>, Error>;
    /// Makes the record; `Ok(false)` when one of that name is already there, which then stays as it is.
    async fn create(&self, record: &Record) -> Result<bool, Error>;
    /// Replaces the record if its revision is still the one given; else [`Error::Conflict`].
    async fn replace(&self, record: &Record) -> Result<Written, Error>;
    /// All records that are selected.
    async fn list(&self, selector: &Selector) -> Result<Vec<Record>, Error>;
}
