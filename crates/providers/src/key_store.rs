//! The port through which the local provider keeps its records; the operator implements it over Kubernetes Secrets.

use std::collections::BTreeMap;

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
    /// All records that carry these labels.
    async fn list(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Record>, Error>;
}
