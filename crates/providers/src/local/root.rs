//! The root key: generated into a record of its own, read from a mounted file, or derived from a mounted passphrase.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::{digest, hmac};
use kustody_core::secret::SecretBytes;

use super::derivation::{Derivation, Parameters};
use super::root_record::{RootRecord, Source};
use super::{crypto, private_file, record};
use crate::key_store::{KeyStore, Record};
use crate::{Context, Error};

#[cfg(test)]
mod tests;

/// Where the root key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootKeySource {
    /// Made once into a record beside the keys.
    Generated,
    /// Read from this file.
    File(PathBuf),
    /// Derived from the passphrase in a file.
    Passphrase {
        /// The file.
        path: PathBuf,
        /// How; absent: as the keys that there are were made, Argon2id for the first one.
        derivation: Option<Derivation>,
    },
}

/// A root key, loaded at its first use and made with the first key.
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
    in_cluster: bool,
    /// Tells whether another passphrase or other parameters are there now; a MAC under the root key, so it says nothing more.
    derived_from: Option<hmac::Tag>,
}

impl Root {
    pub(super) fn new(source: RootKeySource, provider: &str) -> Self {
        Self { source, provider: provider.to_owned(), loaded: RwLock::default() }
    }

    /// Whether the root key lies, or would lie, beside what it protects.
    pub(super) fn is_in_cluster(&self) -> bool {
        self.known().map_or(self.source == RootKeySource::Generated, |root| root.in_cluster)
    }

    /// The root key as this process knows it; loads it at the first call. For what is wrapped already.
    pub(super) async fn load(&self, store: &dyn KeyStore) -> Result<Arc<RootKey>, Error> {
        if let Some(root) = self.known() { Ok(root) } else { self.reload(store).await }
    }

    /// The root key as it is now, whatever this process knew; what it knew stays if it cannot be read.
    pub(super) async fn reload(&self, store: &dyn KeyStore) -> Result<Arc<RootKey>, Error> {
        self.current(store).await?.ok_or_else(|| self.lost())
    }

    /// The root key as it is now; `None` when there is none yet because nothing was ever wrapped. Writes nothing.
    pub(super) async fn current(&self, store: &dyn KeyStore) -> Result<Option<Arc<RootKey>>, Error> {
        Ok(self.look(store).await?.0)
    }

    /// The root key for a new key: it is recorded first, so that a wrong one is told before anything is wrapped by it.
    pub(super) async fn for_new_key(&self, store: &dyn KeyStore) -> Result<Arc<RootKey>, Error> {
        match self.look(store).await? {
            (Some(root), Some(record)) if record.check().is_some() => return Ok(root),
            (Some(root), Some(record)) => {
                for key in store.list(&record::of_provider(&self.provider)).await? {
                    root.must_have_wrapped(&key, record::id(&key).unwrap_or(&key.name), &self.provider)?;
                }
                store.replace(&record.with_check(root.check()).into_record()).await?;
            }
            (root, _) => {
                store.create(&self.make(root).await?.into_record()).await?;
            }
        }
        // Read back: another process may have been faster, and its root key is the one that counts.
        self.current(store).await?.ok_or_else(|| crypto::broken("the record of the root key vanished while it was being made"))
    }

    fn known(&self) -> Option<Arc<RootKey>> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, root: Arc<RootKey>) -> Arc<RootKey> {
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&root));
        root
    }

    async fn look(&self, store: &dyn KeyStore) -> Result<(Option<Arc<RootKey>>, Option<RootRecord>), Error> {
        let Some(record) = RootRecord::read(store, &self.provider).await? else {
            let keys = store.list(&record::of_provider(&self.provider)).await?;
            let missing = match self.unrecorded(&keys) {
                Ok(root) => return Ok((root.map(|root| self.keep(root)), None)),
                Err(missing) => missing,
            };
            // Another process may have made it, and keys under it, between the two looks.
            let Some(record) = RootRecord::read(store, &self.provider).await? else { return Err(missing) };
            return self.known_by(record).await;
        };
        self.known_by(record).await
    }

    async fn known_by(&self, record: RootRecord) -> Result<(Option<Arc<RootKey>>, Option<RootRecord>), Error> {
        let root = self.recorded(&record).await?;
        record.must_name(&root, &self.provider)?;
        Ok((Some(self.keep(root)), Some(record)))
    }

    /// The root key where a record says what it must be.
    async fn recorded(&self, record: &RootRecord) -> Result<Arc<RootKey>, Error> {
        let recorded = record.source()?;
        let other = |wanted: &str| self.other_source(record, recorded, wanted);
        match (&self.source, recorded) {
            (RootKeySource::Generated, Source::Generated) => Ok(Arc::new(RootKey::generated(record)?)),
            (RootKeySource::Generated, _) => Err(other("generated")),
            // Also a generated root key that was saved to a file: its check value decides.
            (RootKeySource::File(path), Source::Generated | Source::File) => {
                Ok(Arc::new(RootKey { in_cluster: record.holds_key(), ..RootKey::from_file(path)? }))
            }
            (RootKeySource::File(_), Source::Passphrase) => Err(other("file")),
            (RootKeySource::Passphrase { path, derivation }, Source::Passphrase) => {
                let parameters = record.parameters()?;
                if derivation.is_some_and(|derivation| derivation != parameters.derivation()) {
                    return Err(Error::Configuration {
                        detail: format!(
                            "spec.local.rootKey.passphrase.derivation of KeyProvider {} is {:?}, but its root key was derived with {:?} (Secret {} in the operator's namespace), and another derivation gives another key; set it to that one",
                            self.provider,
                            derivation.unwrap_or(parameters.derivation()),
                            parameters.derivation(),
                            record.name(),
                        ),
                    });
                }
                let origin = format!("the passphrase in {} with the salt in Secret {}", path.display(), record.name());
                RootKey::from_passphrase(private_file::passphrase(path)?, &parameters, origin, self.known()).await
            }
            (RootKeySource::Passphrase { .. }, _) => Err(other("passphrase")),
        }
    }

    /// The root key where nothing is recorded: by an earlier release, or because nothing was ever wrapped.
    fn unrecorded(&self, keys: &[Record]) -> Result<Option<Arc<RootKey>>, Error> {
        match &self.source {
            RootKeySource::File(path) => {
                let root = RootKey::from_file(path)?;
                for key in keys {
                    root.must_have_wrapped(key, record::id(key).unwrap_or(&key.name), &self.provider)?;
                }
                Ok(Some(Arc::new(root)))
            }
            RootKeySource::Generated | RootKeySource::Passphrase { .. } if !keys.is_empty() => Err(self.lost()),
            RootKeySource::Generated => Ok(None),
            // A file that cannot be used is told before the first key.
            RootKeySource::Passphrase { path, .. } => private_file::passphrase(path).map(|_| None),
        }
    }

    /// A new record: of the root key that there is, or of a new one.
    async fn make(&self, root: Option<Arc<RootKey>>) -> Result<RootRecord, Error> {
        match (&self.source, root) {
            (RootKeySource::Passphrase { path, derivation }, _) => {
                let parameters = Parameters::new(derivation.unwrap_or(Derivation::Argon2id))?;
                let origin = format!("the passphrase in {}", path.display());
                let root = RootKey::from_passphrase(private_file::passphrase(path)?, &parameters, origin, None).await?;
                let root = self.keep(root);
                RootRecord::new(&self.provider, root.check(), None, Some(&parameters))
            }
            (RootKeySource::File(_), Some(root)) => RootRecord::new(&self.provider, root.check(), None, None),
            (RootKeySource::File(path), None) => RootRecord::new(&self.provider, RootKey::from_file(path)?.check(), None, None),
            (RootKeySource::Generated, _) => {
                let key = crypto::random_key()?;
                RootRecord::new(&self.provider, &check_value(&key), Some(key), None)
            }
        }
    }

    fn lost(&self) -> Error {
        let name = record::root_name(&self.provider);
        let what = match self.source {
            RootKeySource::Generated => "the generated root key",
            RootKeySource::Passphrase { .. } => "the salt of the passphrase's root key",
            RootKeySource::File(_) => "the record of the root key",
        };
        Error::RootKey {
            detail: format!(
                "{what} of KeyProvider {} (Secret {name} in the operator's namespace) is gone while keys under it exist; restore that Secret from a backup or by kubectl kustody import-keys: without it these keys cannot be used, and a new one would not open them",
                self.provider
            ),
        }
    }

    fn other_source(&self, record: &RootRecord, recorded: Source, wanted: &str) -> Error {
        let was = match recorded {
            Source::Generated => "generated",
            Source::File => "file",
            Source::Passphrase => "passphrase",
        };
        Error::RootKey {
            detail: format!(
                "spec.local.rootKey of KeyProvider {} is {wanted}, but its keys are under a root key of the kind {was} (Secret {} in the operator's namespace says so); delete the KeyProvider and apply it with rootKey.{was}, which keeps all keys; only if no key was ever made under it, delete that Secret",
                self.provider,
                record.name(),
            ),
        }
    }
}

/// A root key that is not `expected`.
pub(super) fn wrong(root: &RootKey, expected: &str, remedy: &str) -> Error {
    Error::RootKey {
        detail: format!(
            "{} (check value {}) is not the root key that {expected}; nothing was overwritten: {remedy}",
            root.origin, root.check
        ),
    }
}

impl RootKey {
    pub(super) fn new(key: SecretBytes, origin: String, in_cluster: bool) -> Result<Self, Error> {
        if key.len() != crypto::KEY {
            return Err(Error::Configuration { detail: format!("{origin}: a root key has 32 bytes, raw or as base64, not {}", key.len()) });
        }
        let check = check_value(&key);
        Ok(Self { key, check, origin, in_cluster, derived_from: None })
    }

    /// The one that a record holds.
    pub(super) fn generated(record: &RootRecord) -> Result<Self, Error> {
        let origin = format!("Secret {} in the operator's namespace", record.name());
        let key = record.key().ok_or_else(|| Error::RootKey {
            detail: format!("{origin} has lost its entry \"root\", the generated root key; restore that Secret from a backup"),
        })?;
        Self::new(key, origin, true)
    }

    /// The one in a file.
    pub(super) fn from_file(path: &Path) -> Result<Self, Error> {
        Self::new(private_file::root_key(path)?, format!("root key file {}", path.display()), false)
    }

    /// The one that a passphrase gives; `known` as it is when it is the same, since deriving is slow on purpose.
    pub(super) async fn from_passphrase(
        passphrase: SecretBytes,
        parameters: &Parameters,
        origin: String,
        known: Option<Arc<Self>>,
    ) -> Result<Arc<Self>, Error> {
        let context = record::json(parameters)?;
        if let Some(known) = known {
            let now = derived_from(&known.key, &context, &passphrase);
            if known.derived_from.is_some_and(|then| then.as_ref() == now.as_ref()) {
                return Ok(known);
            }
        }
        let (passphrase, key) = parameters.derive(passphrase).await?;
        let tag = derived_from(&key, &context, &passphrase);
        Ok(Arc::new(Self { derived_from: Some(tag), ..Self::new(key, origin, false)? }))
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
            Some(check) if *check != self.check => {
                let expected = format!("key {id} of KeyProvider {provider} was wrapped with (check value {check})");
                Err(wrong(self, &expected, "restore that one"))
            }
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

    /// The key of one export: a MAC of its salt under the root key.
    #[expect(clippy::disallowed_methods, reason = "deriving needs the root key")]
    pub(super) fn export_key(&self, salt: &str) -> SecretBytes {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.key.expose()));
        context.update(b"kustody.dev/export/v1");
        context.update(salt.as_bytes());
        SecretBytes::new(context.sign().as_ref().to_vec())
    }
}

#[expect(clippy::disallowed_methods, reason = "the check value is a MAC under the root key")]
fn check_value(key: &SecretBytes) -> String {
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()), b"kustody.dev/root-check/v1");
    kustody_core::sealing::format::hex(&mac.as_ref()[..8])
}

#[expect(clippy::disallowed_methods, reason = "a MAC of the passphrase under the root key that it gives")]
fn derived_from(key: &SecretBytes, parameters: &str, passphrase: &SecretBytes) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()));
    context.update(b"kustody.dev/derived-from/v1");
    context.update(parameters.as_bytes());
    context.update(passphrase.expose());
    context.sign()
}

/// First ten hex digits of a SHA-256: a name for something whose own name is too long or not label-safe.
pub(super) fn short(text: &str) -> String {
    kustody_core::sealing::format::hex(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..5])
}
