//! The embedded software KMS: per-version AES-256 keys, wrapped by a root key, in a [`KeyStore`].
//!
//! Records belong to the `KeyProvider`'s name, not its UID: deleting the object and applying it again, or restoring it
//! on another cluster beside its records, finds the same root key and the same keys. Material is authenticated (id,
//! namespace, version); states and tags are as trustworthy as write access to the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use kustody_core::secret::SecretBytes;

use crate::key_store::{KeyStore, Record};
use crate::{Capabilities, Claim, Context, CreateKey, Error, Key, Probe, Provider, State, Version, Wanted, Wrapped};

mod crypto;
mod derivation;
mod destruction;
mod export;
mod private_file;
mod record;
pub mod recovery;
mod retained;
mod root;
mod root_record;
pub mod secret;
#[cfg(test)]
mod tests;

pub use derivation::Derivation;
pub use root::RootKeySource;

/// What [`Provider::wrap`] takes at most, as AWS KMS does.
const MAX_PLAINTEXT: usize = 4096;

/// The embedded KMS of one `KeyProvider`.
pub struct Local {
    store: Arc<dyn KeyStore>,
    name: String,
    root: root::Root,
    retained: retained::Lookup,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Local {
    /// The KMS whose records lie in `store`, for the `KeyProvider` of this name.
    pub fn new(store: Arc<dyn KeyStore>, name: &str, source: RootKeySource, clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self { store, name: name.to_owned(), root: root::Root::new(source, name), retained: retained::Lookup::default(), clock }
    }

    async fn load(&self, id: &str) -> Result<Record, Error> {
        let not_found = || Error::NotFound { id: id.to_owned() };
        // Ids come from users' specs; what cannot be a nonce must not become part of a request's path.
        let nonce = id.rsplit('/').next().filter(|nonce| record::check_nonce(nonce).is_ok()).ok_or_else(not_found)?;
        let record = self.store.read(&record::name(nonce)).await?.ok_or_else(not_found)?;
        // The name is only where the record lies; what it is stands in it.
        if record::id(&record) == Some(id) && record::provider(&record) == Some(&self.name) { Ok(record) } else { Err(not_found()) }
    }

    async fn usable(&self, operation: &'static str, id: &str) -> Result<Record, Error> {
        let record = self.load(id).await?;
        let state = record::state(&record)?;
        if state == State::Enabled { Ok(record) } else { Err(Error::State { operation, id: id.to_owned(), state }) }
    }

    /// The record, if the key's claim is still `expected`.
    async fn claimed(&self, id: &str, expected: Option<&Claim>) -> Result<Record, Error> {
        let record = self.load(id).await?;
        let found = record::describe(&record)?.claim();
        if found.as_ref() == expected {
            return Ok(record);
        }
        let holder =
            found.map_or_else(|| "nobody".to_owned(), |c| format!("EncryptionKey {}/{} (UID {})", c.namespace, c.name, c.owner_uid));
        Err(Error::Conflict { id: id.to_owned(), detail: format!("it is claimed by {holder}") })
    }

    /// The root key that wrapped the record's material.
    async fn root_of(&self, record: &Record, id: &str) -> Result<Arc<root::RootKey>, Error> {
        let mut root = self.root.load(self.store.as_ref()).await?;
        if !root.has_wrapped(record) {
            // A root key that was put right since it was first read must not need a restart.
            root = self.root.reload(self.store.as_ref()).await?;
        }
        root.must_have_wrapped(record, id, &self.name)?;
        Ok(root)
    }

    async fn material(&self, record: &Record, id: &str, version: &str) -> Result<SecretBytes, Error> {
        let root = self.root_of(record, id).await?;
        let wrapped = record.data.get(&record::version_entry(version)).ok_or_else(|| Error::Ciphertext { id: id.to_owned() })?;
        root.unwrap_material(wrapped, id, version)
    }
}

#[async_trait]
impl Provider for Local {
    async fn probe(&self) -> Result<Probe, Error> {
        let root = self.root.current(self.store.as_ref()).await?;
        let identity = match &root {
            Some(root) => format!("embedded KMS, root key {}", root.check()),
            None => "embedded KMS, whose root key is made with the first key".to_owned(),
        };
        if let Some(root) = root {
            for record in self.store.list(&record::of_provider(&self.name)).await? {
                root.must_have_wrapped(&record, record::id(&record).unwrap_or(&record.name), &self.name)?;
                // What a cloud does by itself.
                destruction::when_due(self.store.as_ref(), record, (self.clock)()).await?;
            }
        }
        Ok(Probe {
            identity,
            capabilities: Capabilities(vec![
                "CreateKeys",
                "Adopt",
                "Rotate",
                "Disable",
                "ScheduleDeletion",
                "Wrap",
                "AssociatedData",
                "Tags",
            ]),
            root_key_in_cluster: Some(self.root.is_in_cluster()),
        })
    }

    async fn create_key(&self, request: &CreateKey) -> Result<Key, Error> {
        record::check_nonce(&request.nonce)?;
        let id = record::id_of(&request.claim, &request.nonce);
        if self.store.read(&record::name(&request.nonce)).await?.is_none() {
            // Read anew: a key under a root key that is only left in this process would be lost with it.
            let root = self.root.for_new_key(self.store.as_ref()).await?;
            let version = Version { id: "1".to_owned(), created: Some((self.clock)()), primary: true };
            let material = crypto::random_key()?;
            let wrapped = root.wrap_material(&material, &id, &version.id)?;
            let record = record::new(&self.name, &id, &request.nonce, &request.claim, &version, wrapped, root.check())?;
            if self.store.create(&record).await? {
                return record::describe(&record);
            }
            // A concurrent call with the same nonce was faster; its material is the key's.
        }
        let made = self.find_by_nonce(&request.nonce).await?.filter(|key| key.id == id && key.claim().as_ref() == Some(&request.claim));
        made.ok_or_else(|| Error::Conflict { id, detail: "its nonce was used for another key".to_owned() })
    }

    async fn find_by_nonce(&self, nonce: &str) -> Result<Option<Key>, Error> {
        record::check_nonce(nonce)?;
        let record = self.store.read(&record::name(nonce)).await?;
        record.filter(|record| record::provider(record) == Some(&self.name)).map(|record| record::describe(&record)).transpose()
    }

    async fn find_retained(&self, claim: &Claim) -> Result<Vec<Key>, Error> {
        self.retained.find(self.store.as_ref(), &self.name, claim).await
    }

    async fn describe_key(&self, id: &str) -> Result<Key, Error> {
        record::describe(&self.load(id).await?)
    }

    async fn tag_key(&self, id: &str, expected: Option<&Claim>, tags: &BTreeMap<String, String>) -> Result<Key, Error> {
        let mut record = self.claimed(id, expected).await?;
        if record::tag(&mut record, tags)? {
            self.store.replace(&record).await?;
        }
        record::describe(&record)
    }

    async fn rotate_key(&self, id: &str, expected: &Claim, from: &str) -> Result<Key, Error> {
        let mut record = self.claimed(id, Some(expected)).await?;
        let state = record::state(&record)?;
        if state != State::Enabled {
            return Err(Error::State { operation: "rotate", id: id.to_owned(), state });
        }
        if record::primary(&record)?.id == from {
            // Read anew: a version under a root key that is only left in this process would be lost with it.
            let root = self.root.reload(self.store.as_ref()).await?;
            root.must_have_wrapped(&record, id, &self.name)?;
            // The version that is there must open: a wrong root key must not wrap beside the right one.
            self.material(&record, id, from).await?;
            let version = record::next(&record, (self.clock)())?;
            let wrapped = root.wrap_material(&crypto::random_key()?, id, &version.id)?;
            record::add(&mut record, version, wrapped)?;
            self.store.replace(&record).await?;
        }
        record::describe(&record)
    }

    async fn set_state(&self, id: &str, expected: &Claim, wanted: &Wanted) -> Result<Key, Error> {
        let mut record = self.claimed(id, Some(expected)).await?;
        let found = record::describe(&record)?;
        if found.state == State::Destroyed {
            return Err(Error::State { operation: "a change of state", id: id.to_owned(), state: found.state });
        }
        if let Wanted::Deleted { at } = wanted
            && found.deletion.is_none()
        {
            let now = (self.clock)();
            if *at <= now {
                return Err(Error::Configuration {
                    detail: format!("key {id}: a deletion is scheduled for a time to come, and {at} is over"),
                });
            }
            destruction::by_the_store_s_clock(self.store.as_ref(), &mut record, id, now).await?;
        }
        let (state, deletion) = match wanted {
            Wanted::Enabled => (State::Enabled, None),
            Wanted::Disabled => (State::Disabled, None),
            Wanted::Deleted { at } => (State::PendingDeletion, Some(found.deletion.unwrap_or(*at))),
        };
        if (found.state, found.deletion) != (state, deletion) {
            record::set_state(&mut record, state, deletion)?;
            self.store.replace(&record).await?;
        }
        record::describe(&record)
    }

    async fn wrap(&self, id: &str, plaintext: &SecretBytes, context: &Context) -> Result<Wrapped, Error> {
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(Error::Configuration {
                detail: format!("key {id}: at most {MAX_PLAINTEXT} bytes can be wrapped, not {}", plaintext.len()),
            });
        }
        let record = self.usable("wrap", id).await?;
        let version = record::primary(&record)?.id;
        let material = self.material(&record, id, &version).await?;
        let ciphertext = crypto::wrap(&material, id, &version, plaintext, context)?;
        Ok(Wrapped { ciphertext, version })
    }

    async fn unwrap(&self, id: &str, ciphertext: &[u8], context: &Context) -> Result<SecretBytes, Error> {
        let record = self.usable("unwrap", id).await?;
        let version = crypto::version_of(ciphertext).ok_or_else(|| Error::Ciphertext { id: id.to_owned() })?;
        let material = self.material(&record, id, &version).await?;
        crypto::unwrap(&material, id, &version, ciphertext, context)
    }
}
