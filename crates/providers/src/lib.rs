//! Key and secret services behind one trait, shaped for AWS KMS, OpenBao Transit, Azure Key Vault and Google Cloud KMS.
//!
//! What differs between them is said by [`Capabilities`]; what must not differ is held by the conformance suite
//! in [`testing`] that each provider runs.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use kustody_core::secret::SecretBytes;

pub mod error;
pub mod key_store;
#[cfg(feature = "local")]
pub mod local;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::Error;

/// One connection to a key service.
///
/// Guarantees of every implementation: `create_key` is idempotent in its nonce, `rotate_key` in the version that it
/// begins with, `set_state` in the state; nothing else creates, replaces or destroys material, and material is
/// destroyed only after a deletion time has passed; errors tell absent, forbidden, throttled and unreachable apart; no
/// error or log holds a plaintext.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Asks the service whether it is there, who we are, and what it can do.
    async fn probe(&self) -> Result<Probe, Error>;

    /// Makes a key, once for each nonce: called again with the same nonce it answers with the same key, and with
    /// [`Error::Conflict`] when that key's claim is another.
    async fn create_key(&self, request: &CreateKey) -> Result<Key, Error>;

    /// The key that an earlier `create_key` with this nonce made, if it did; the caller compares its claim.
    async fn find_by_nonce(&self, nonce: &str) -> Result<Option<Key>, Error>;

    /// All keys that carry `claim`'s cluster, namespace UID and object name, whatever object UID they carry; and those that
    /// were imported for an object of its namespace and name and that none has taken back yet.
    async fn find_retained(&self, claim: &Claim) -> Result<Vec<Key>, Error>;

    /// The key as the service sees it now. [`Error::NotFound`] never means "make a new one".
    async fn describe_key(&self, id: &str) -> Result<Key, Error>;

    /// Writes `tags` on the key (others stay), if its claim is still `expected`; else [`Error::Conflict`].
    ///
    /// Taking over a key (the tags of the new claim) and recording its sealing keys are both this call.
    async fn tag_key(&self, id: &str, expected: Option<&Claim>, tags: &BTreeMap<String, String>) -> Result<Key, Error>;

    /// Makes a new version and makes it primary, if the key's claim is still `expected` and its primary version still
    /// `from`; when another version is primary already, answers with the key as it is.
    ///
    /// Older versions go on to open what they wrapped.
    async fn rotate_key(&self, id: &str, expected: &Claim, from: &str) -> Result<Key, Error>;

    /// Puts the key into a state, if its claim is still `expected`; a key that is in it already stays as it is.
    ///
    /// A deletion that is scheduled keeps its time when it is scheduled again. [`Error::State`] for a destroyed key.
    async fn set_state(&self, id: &str, expected: &Claim, wanted: &Wanted) -> Result<Key, Error>;

    /// Encrypts up to 4 KiB under the primary version, bound to `context`.
    async fn wrap(&self, id: &str, plaintext: &SecretBytes, context: &Context) -> Result<Wrapped, Error>;

    /// Opens what [`Provider::wrap`] made, for the same context only; the ciphertext says which version made it.
    async fn unwrap(&self, id: &str, ciphertext: &[u8], context: &Context) -> Result<SecretBytes, Error>;
}

/// What [`Provider::probe`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Who the service says we are, for people.
    pub identity: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Whether the root of the keys lies beside them in the cluster; only the local provider says so.
    pub root_key_in_cluster: Option<bool>,
}

/// What a provider can do; names as in `KeyProvider.status.capabilities`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub Vec<&'static str>);

/// Whose a key is: three tags, written in the same call that makes the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// UID of the `kube-system` namespace, the customary id of a cluster.
    pub cluster: String,
    /// Name of the namespace; part of the id of a local key.
    pub namespace: String,
    /// UID of the namespace.
    pub namespace_uid: String,
    /// Name of the `EncryptionKey`.
    pub name: String,
    /// UID of the `EncryptionKey`.
    pub owner_uid: String,
}

impl Claim {
    const CLUSTER: &'static str = "kustody.dev/cluster";
    const NAMESPACE: &'static str = "kustody.dev/namespace";
    const NAMESPACE_UID: &'static str = "kustody.dev/namespace-uid";
    const NAME: &'static str = "kustody.dev/name";
    const OWNER_UID: &'static str = "kustody.dev/owner-uid";

    /// The claim as tags.
    pub fn to_tags(&self) -> BTreeMap<String, String> {
        [
            (Self::CLUSTER, &self.cluster),
            (Self::NAMESPACE, &self.namespace),
            (Self::NAMESPACE_UID, &self.namespace_uid),
            (Self::NAME, &self.name),
            (Self::OWNER_UID, &self.owner_uid),
        ]
        .map(|(tag, value)| (tag.to_owned(), value.clone()))
        .into()
    }

    /// The claim that tags hold, if they hold a whole one.
    pub fn from_tags(tags: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            cluster: tags.get(Self::CLUSTER)?.clone(),
            namespace: tags.get(Self::NAMESPACE)?.clone(),
            namespace_uid: tags.get(Self::NAMESPACE_UID)?.clone(),
            name: tags.get(Self::NAME)?.clone(),
            owner_uid: tags.get(Self::OWNER_UID)?.clone(),
        })
    }
}

/// A request for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateKey {
    /// Written to the object's status before this call.
    pub nonce: String,
    /// Whose it will be.
    pub claim: Claim,
}

/// A state that a key can be put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Usable; takes a scheduled deletion back.
    Enabled,
    /// Not usable; takes a scheduled deletion back.
    Disabled,
    /// Not usable, and destroyed at a time.
    Deleted {
        /// When.
        at: Timestamp,
    },
}

/// A key as the service sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its id, stable for life.
    pub id: String,
    /// Its state.
    pub state: State,
    /// When it will be destroyed, while it is scheduled for deletion.
    pub deletion: Option<Timestamp>,
    /// Versions of its material, oldest first.
    pub versions: Vec<Version>,
    /// All its tags: its [`Claim`], [`SEALING_KEY_TAG`]s, and whatever people put there.
    pub tags: BTreeMap<String, String>,
}

impl Key {
    /// Whose it is; absent for a key that Kustody never claimed.
    pub fn claim(&self) -> Option<Claim> {
        Claim::from_tags(&self.tags)
    }

    /// The version that new values are wrapped with.
    pub fn primary(&self) -> Option<&Version> {
        self.versions.iter().rfind(|version| version.primary)
    }
}

/// Prefix of the tags that record published sealing keys: `kustody.dev/sealing-key-<version>` → SHA-256 of the public key, hex.
pub const SEALING_KEY_TAG: &str = "kustody.dev/sealing-key-";

/// States that all services have in common (providers know more; they map them here).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum State {
    /// Being made.
    Pending,
    /// Usable.
    Enabled,
    /// Not usable until enabled again.
    Disabled,
    /// To be destroyed when its window ends.
    PendingDeletion,
    /// Gone; the id is still known.
    Destroyed,
    /// There, but not usable now.
    Unavailable,
}

/// One version of a key's material.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Version {
    /// Number or name that the service gives it.
    pub id: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Whether new values are wrapped with it.
    pub primary: bool,
}

/// Associated data of a wrap, as names and values: AWS takes it as encryption context, others as its encoding.
pub type Context = BTreeMap<&'static str, String>;

/// A wrapped value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// Opaque; says itself which version made it.
    pub ciphertext: Vec<u8>,
    /// The version that made it, for people.
    pub version: String,
}
