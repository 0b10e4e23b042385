//! The root key: generated into a record of its own, or read from a mounted file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kustody_core::secret::SecretBytes;

use super::{crypto, record};
use crate::key_store::{KeyStore, Record};
use crate::{Context, Error};

/// Name of the root key in its record.
const ENTRY: &str = "root";

/// Where the root key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootKeySource {
    /// Made once into a record beside the keys.
    Generated,
    /// Read from this file.
    File(PathBuf),
}

/// A root key, loaded at its first use.
pub(super) struct Root {
    source: RootKeySource,
    provider: String,
    loaded: RwLock<Option<Arc<RootKey>>>,
}

/// The root key itself.
pub(super) struct RootKey {
    key: SecretBytes,
    check: String,
    origin: String,
}

impl Root {
    pub(super) fn new(source: RootKeySource, provider: &str) -> Self {
        Self { source, provider: provider.to_owned(), loaded: RwLock::default() }
    }

    pub(super) fn is_in_cluster(&self) -> bool {
        self.source == RootKeySource::Generated
    }

    /// The root key as this process knows it; loads it at the first call.
    pub(super) async fn load(&self, store: &dyn KeyStore) -> Result<Arc<RootKey>, Error> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(root) = loaded { Ok(root) } else { self.reload(store).await }
    }

    /// The root key as it is now, whatever this process knew; what it knew stays if it cannot be read.
    pub(super) async fn reload(&self, store: &dyn KeyStore) -> Result<Arc<RootKey>, Error> {
        let root = Arc::new(match &self.source {
            RootKeySource::Generated => self.generated(store).await?,
            RootKeySource::File(path) => RootKey::from_file(path)?,
        });
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&root));
        Ok(root)
    }

    /// Reads the generated root key, making it if nothing was ever wrapped.
    async fn generated(&self, store: &dyn KeyStore) -> Result<RootKey, Error> {
        let name = record::root_name(&self.provider);
        if let Some(found) = store.read(&name).await? {
            return RootKey::from_record(found);
        }
        if !store.list(&record::of_provider(&self.provider)).await?.is_empty() {
            return Err(Error::Configuration {
                detail: format!(
                    "the generated root key (Secret {name} in the operator's namespace) is gone while keys under it exist; restore that Secret from a backup: without it these keys cannot be used, and a new one would not open them"
                ),
            });
        }
        let record = Record {
            name: name.clone(),
            revision: String::new(),
            labels: record::root_labels(&self.provider),
            annotations: BTreeMap::new(),
            data: BTreeMap::from([(ENTRY.to_owned(), crypto::random_key()?)]),
        };
        store.create(&record).await?;
        // Read back: another process may have been faster, and its key is the one that counts.
        let found = store.read(&name).await?.ok_or_else(|| crypto::broken("the generated root key vanished while it was being made"))?;
        RootKey::from_record(found)
    }
}

impl RootKey {
    fn new(key: SecretBytes, origin: String) -> Result<Self, Error> {
        if key.len() != crypto::KEY {
            return Err(Error::Configuration { detail: format!("{origin}: a root key has 32 bytes, raw or as base64, not {}", key.len()) });
        }
        let check = check_value(&key);
        Ok(Self { key, check, origin })
    }

    fn from_record(mut record: Record) -> Result<Self, Error> {
        let origin = format!("Secret {} in the operator's namespace", record.name);
        let key = record.data.remove(ENTRY).ok_or_else(|| Error::Configuration { detail: format!("{origin} has no entry {ENTRY:?}") })?;
        Self::new(key, origin)
    }

    fn from_file(path: &Path) -> Result<Self, Error> {
        let origin = format!("root key file {}", path.display());
        let refuse = |detail: String| Error::Configuration { detail: format!("{origin}: {detail}") };
        let mut file = File::open(path).map_err(|error| refuse(format!("cannot be opened: {error}; mount it into the operator")))?;
        let metadata = file.metadata().map_err(|error| refuse(format!("cannot be examined: {error}")))?;
        if !metadata.is_file() {
            return Err(refuse("is not a regular file".to_owned()));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(refuse(format!(
                "has mode {mode:04o}: its group or the world can use it; set it to 0400 and let the operator's user own it"
            )));
        }
        let mut bytes = Vec::with_capacity(256);
        let read = file.by_ref().take(256).read_to_end(&mut bytes).map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let raw = SecretBytes::new(bytes);
        let key = if read == crypto::KEY {
            raw
        } else {
            decode(&raw).ok_or_else(|| refuse(format!("holds {read} bytes; a root key has 32 bytes, raw or as base64")))?
        };
        Self::new(key, origin)
    }

    /// Tells a root key from another without saying anything of it.
    pub(super) fn check(&self) -> &str {
        &self.check
    }

    /// Whether the record was wrapped by this root key, as far as it says.
    pub(super) fn has_wrapped(&self, record: &Record) -> bool {
        record::root_check(record).is_none_or(|check| *check == self.check)
    }

    /// Refuses before anything is decrypted or written when the record was wrapped by another root key.
    pub(super) fn must_have_wrapped(&self, record: &Record, id: &str, provider: &str) -> Result<(), Error> {
        match record::root_check(record) {
            Some(check) if *check != self.check => Err(Error::Configuration {
                detail: format!(
                    "KeyProvider {provider}: {} (check value {}) is not the root key that key {id} was wrapped with (check value {check}); restore that one",
                    self.origin, self.check
                ),
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn wrap_material(&self, material: &SecretBytes, id: &str, version: &str) -> Result<SecretBytes, Error> {
        crypto::seal(&self.key, &crypto::associated_data("material", id, version, &Context::new()), material).map(SecretBytes::new)
    }

    #[expect(clippy::disallowed_methods, reason = "the wrapped material is ciphertext in a secret's clothes")]
    pub(super) fn unwrap_material(&self, wrapped: &SecretBytes, id: &str, version: &str) -> Result<SecretBytes, Error> {
        crypto::open(&self.key, &crypto::associated_data("material", id, version, &Context::new()), wrapped.expose()).ok_or_else(|| {
            Error::Configuration {
                detail: format!(
                    "version {version} of key {id} does not open under {}: the record was altered or moved from another key",
                    self.origin
                ),
            }
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "decoding the root key needs its text")]
fn decode(text: &SecretBytes) -> Option<SecretBytes> {
    STANDARD.decode(text.expose().trim_ascii()).ok().map(SecretBytes::new)
}

#[expect(clippy::disallowed_methods, reason = "the check value is a MAC under the root key")]
fn check_value(key: &SecretBytes) -> String {
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()), b"kustody.dev/root-check/v1");
    kustody_core::sealing::format::hex(&mac.as_ref()[..8])
}

/// First ten hex digits of a SHA-256: a name for something whose own name is too long or not label-safe.
pub(super) fn short(text: &str) -> String {
    kustody_core::sealing::format::hex(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..5])
}
