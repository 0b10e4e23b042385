//! The conformance suite that every provider runs, and a store in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use kustody_core::secret::SecretBytes;

use crate::key_store::{KeyStore, Record, Selector, Written};
use crate::{Claim, Context, CreateKey, Error, Provider, State};

/// Where the embedded KMS notes its own time in a write of which it wants to know the store's.
const NOTED: &str = "kustody.dev/key-due";

/// A [`KeyStore`] in memory, for tests: it remembers what was read and can lose an answer.
#[derive(Default)]
pub struct MemoryStore(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    revision: u64,
    records: BTreeMap<String, Record>,
    reads: Vec<String>,
    lose: Option<&'static str>,
    time: Option<Timestamp>,
    lists: usize,
}

fn copy(record: &Record, revision: &str) -> Record {
    Record {
        name: record.name.clone(),
        revision: revision.to_owned(),
        labels: record.labels.clone(),
        annotations: record.annotations.clone(),
        data: record.data.iter().map(|(name, value)| (name.clone(), duplicate(value))).collect(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a store keeps what it is given")]
fn duplicate(value: &SecretBytes) -> SecretBytes {
    SecretBytes::new(value.expose().to_vec())
}

impl MemoryStore {
    fn locked(&self) -> std::sync::MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a record there as it is, as somebody with access to the store could.
    pub fn tamper(&self, record: &Record) {
        let mut store = self.locked();
        store.revision += 1;
        let revision = store.revision.to_string();
        store.records.insert(record.name.clone(), copy(record, &revision));
    }

    /// Removes a record.
    pub fn remove(&self, name: &str) {
        self.locked().records.remove(name);
    }

    /// The next create of a record whose name begins so is done, and its answer is lost.
    pub fn lose_the_answer_of_the_next_create_of(&self, prefix: &'static str) {
        self.locked().lose = Some(prefix);
    }

    /// What the store's own clock says from now on; before, it agrees with whoever notes his time.
    pub fn tell(&self, time: Timestamp) {
        self.locked().time = Some(time);
    }

    /// Names that were read, in order.
    pub fn reads(&self) -> Vec<String> {
        self.locked().reads.clone()
    }

    /// How many lists there were.
    pub fn lists(&self) -> usize {
        self.locked().lists
    }

    /// Every record with its revision, in words: two that are equal mean that nothing was written between.
    pub fn dump(&self) -> Vec<String> {
        self.locked().records.values().map(|record| format!("{} {} {:?}", record.name, record.revision, record.annotations)).collect()
    }

    /// Names of all records.
    pub fn names(&self) -> Vec<String> {
        self.locked().records.keys().cloned().collect()
    }
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn read(&self, name: &str) -> Result<Option<Record>, Error> {
        let mut store = self.locked();
        store.reads.push(name.to_owned());
        Ok(store.records.get(name).map(|record| copy(record, &record.revision)))
    }

    async fn create(&self, record: &Record) -> Result<bool, Error> {
        if self.locked().records.contains_key(&record.name) {
            return Ok(false);
        }
        self.tamper(record);
        let mut store = self.locked();
        if store.lose.is_some_and(|prefix| record.name.starts_with(prefix)) {
            store.lose = None;
            return Err(Error::Unavailable { operation: "create", detail: "the answer was lost".to_owned() });
        }
        Ok(true)
    }

    async fn replace(&self, record: &Record) -> Result<Written, Error> {
        if self.locked().records.get(&record.name).is_none_or(|found| found.revision != record.revision) {
            return Err(Error::Conflict { id: record.name.clone(), detail: "it was written by another".to_owned() });
        }
        self.tamper(record);
        let store = self.locked();
        let noted = record.annotations.get(NOTED).and_then(|noted| serde_json::from_str(noted).ok());
        Ok(Written { revision: store.revision.to_string(), at: store.time.or(noted) })
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<Record>, Error> {
        // As a store behind a network: others go on meanwhile.
        tokio::task::yield_now().await;
        let mut store = self.locked();
        store.lists += 1;
        Ok(store.records.values().filter(|record| selector.selects(&record.labels)).map(|record| copy(record, &record.revision)).collect())
    }
}

/// A claim of an object of this name and UID.
pub fn claim(name: &str, owner_uid: &str) -> Claim {
    Claim {
        cluster: "cluster-uid".to_owned(),
        namespace: "vision".to_owned(),
        namespace_uid: "namespace-uid".to_owned(),
        name: name.to_owned(),
        owner_uid: owner_uid.to_owned(),
    }
}

/// A request with this nonce.
pub fn request(nonce: &str, name: &str) -> CreateKey {
    CreateKey { nonce: nonce.to_owned(), claim: claim(name, "owner-1") }
}

/// A context with one entry.
pub fn context(value: &str) -> Context {
    Context::from([("label", value.to_owned())])
}

/// The cases themselves; each takes a provider that no other case uses at the same time.
#[expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "test cases panic when a guarantee is broken"
)]
pub mod cases {
    use jiff::Timestamp;

    use super::{BTreeMap, Claim, Error, Provider, SecretBytes, State, claim, context, request};
    use crate::Wanted;

    /// A key that was asked for twice with one nonce is one key.
    pub async fn create_is_idempotent_in_its_nonce(provider: &dyn Provider) {
        let first = provider.create_key(&request("nonceaaa1", "a")).await.unwrap();
        let second = provider.create_key(&request("nonceaaa1", "a")).await.unwrap();
        assert_eq!(first, second);
        assert_eq!(first.state, State::Enabled);
        assert_eq!(first.claim(), Some(claim("a", "owner-1")));
        assert_eq!(provider.find_by_nonce("nonceaaa1").await.unwrap(), Some(first));
        assert_eq!(provider.find_by_nonce("nonceaaa2").await.unwrap(), None);
    }

    /// A nonce that made another object's key makes and hands out nothing.
    pub async fn a_nonce_of_another_claim_is_refused(provider: &dyn Provider) {
        provider.create_key(&request("nonceaab1", "a")).await.unwrap();
        let error = provider.create_key(&request("nonceaab1", "b")).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
        assert!(provider.find_retained(&claim("b", "owner-1")).await.unwrap().is_empty());
    }

    /// What is wrapped opens under the same key and context alone.
    pub async fn a_wrapped_value_opens_for_its_context_alone(provider: &dyn Provider) {
        let key = provider.create_key(&request("noncebbb1", "b")).await.unwrap();
        let other = provider.create_key(&request("noncebbb2", "b2")).await.unwrap();
        let wrapped = provider.wrap(&key.id, &SecretBytes::new(b"seed".to_vec()), &context("x")).await.unwrap();
        let opened = provider.unwrap(&key.id, &wrapped.ciphertext, &context("x")).await.unwrap();
        assert_eq!(opened.expose(), b"seed");
        for (id, ciphertext, with) in [
            (&key.id, wrapped.ciphertext.clone(), context("y")),
            (&key.id, wrapped.ciphertext.clone(), super::Context::new()),
            (&other.id, wrapped.ciphertext.clone(), context("x")),
            (&key.id, Vec::new(), context("x")),
        ] {
            assert!(provider.unwrap(id, &ciphertext, &with).await.is_err());
        }
        for at in 0..wrapped.ciphertext.len() {
            let mut altered = wrapped.ciphertext.clone();
            altered[at] ^= 1;
            assert!(provider.unwrap(&key.id, &altered, &context("x")).await.is_err(), "byte {at}");
        }
    }

    /// A key that does not exist is said to be absent, and is not made.
    pub async fn an_absent_key_is_told_apart(provider: &dyn Provider) {
        let error = provider.describe_key("vision/none/nonceccc1").await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        assert_eq!(provider.find_by_nonce("nonceccc1").await.unwrap(), None);
    }

    /// A retained key is found by cluster, namespace UID and name, whoever owned it.
    pub async fn a_retained_key_is_found_by_its_owner_s_name(provider: &dyn Provider) {
        let key = provider.create_key(&request("nonceddd1", "d")).await.unwrap();
        let found = provider.find_retained(&claim("d", "owner-2")).await.unwrap();
        assert_eq!(found, vec![key]);
        assert!(provider.find_retained(&claim("d2", "owner-2")).await.unwrap().is_empty());
        let elsewhere = Claim { namespace_uid: "other".to_owned(), ..claim("d", "owner-2") };
        assert!(provider.find_retained(&elsewhere).await.unwrap().is_empty());
    }

    /// A claim is taken over only from the one that was seen.
    pub async fn a_claim_is_taken_over_only_from_the_expected_one(provider: &dyn Provider) {
        let key = provider.create_key(&request("nonceeee1", "e")).await.unwrap();
        let (old, new) = (claim("e", "owner-1"), claim("e", "owner-2"));
        let taken = provider.tag_key(&key.id, Some(&old), &new.to_tags()).await.unwrap();
        assert_eq!(taken.claim(), Some(new.clone()));
        let late = provider.tag_key(&key.id, Some(&old), &claim("e", "owner-3").to_tags()).await.unwrap_err();
        assert!(matches!(late, Error::Conflict { .. }), "{late}");
        let tags = BTreeMap::from([("kustody.dev/sealing-key-1".to_owned(), "ab".to_owned())]);
        let tagged = provider.tag_key(&key.id, Some(&new), &tags).await.unwrap();
        assert_eq!(tagged.tags.get("kustody.dev/sealing-key-1").map(String::as_str), Some("ab"));
        assert_eq!(tagged.claim(), Some(new));
    }

    /// The service says who it thinks we are and what it can do.
    pub async fn a_probe_names_identity_and_capabilities(provider: &dyn Provider) {
        let probe = provider.probe().await.unwrap();
        assert!(!probe.identity.is_empty());
        assert!(probe.capabilities.0.contains(&"Wrap"));
    }

    /// A rotation makes one version, whoever asks for it again, and what was wrapped before still opens.
    pub async fn a_rotation_happens_once_and_old_values_open(provider: &dyn Provider) {
        let key = provider.create_key(&request("noncefff1", "f")).await.unwrap();
        let owner = claim("f", "owner-1");
        let from = key.primary().unwrap().id.clone();
        let old = provider.wrap(&key.id, &SecretBytes::new(b"old".to_vec()), &context("x")).await.unwrap();
        let rotated = provider.rotate_key(&key.id, &owner, &from).await.unwrap();
        assert_ne!(rotated.primary().unwrap().id, from);
        assert_eq!(rotated.versions.len(), 2);
        assert_eq!(provider.rotate_key(&key.id, &owner, &from).await.unwrap(), rotated);
        let new = provider.wrap(&key.id, &SecretBytes::new(b"new".to_vec()), &context("x")).await.unwrap();
        assert_eq!((old.version, new.version), (from, rotated.primary().unwrap().id.clone()));
        for (wrapped, plaintext) in [(old.ciphertext, b"old"), (new.ciphertext, b"new")] {
            assert_eq!(provider.unwrap(&key.id, &wrapped, &context("x")).await.unwrap().expose(), plaintext);
        }
    }

    /// Only the object that holds a key rotates it or changes its state.
    pub async fn another_s_key_is_neither_rotated_nor_retired(provider: &dyn Provider) {
        let key = provider.create_key(&request("nonceggg1", "g")).await.unwrap();
        let other = claim("g", "owner-2");
        let error = provider.rotate_key(&key.id, &other, &key.primary().unwrap().id).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
        let error = provider.set_state(&key.id, &other, &Wanted::Disabled).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
        assert_eq!(provider.describe_key(&key.id).await.unwrap(), key);
    }

    /// A key that is not enabled opens nothing, wraps nothing and does not rotate; enabled again it does.
    pub async fn a_key_that_is_not_enabled_does_nothing_until_it_is(provider: &dyn Provider) {
        let key = provider.create_key(&request("noncehhh1", "h")).await.unwrap();
        let owner = claim("h", "owner-1");
        let wrapped = provider.wrap(&key.id, &SecretBytes::new(b"seed".to_vec()), &context("x")).await.unwrap();
        let later = Timestamp::from_second(4_000_000_000).unwrap();
        for wanted in [Wanted::Disabled, Wanted::Deleted { at: later }] {
            let changed = provider.set_state(&key.id, &owner, &wanted).await.unwrap();
            assert_eq!(provider.set_state(&key.id, &owner, &wanted).await.unwrap(), changed);
            let opened = provider.unwrap(&key.id, &wrapped.ciphertext, &context("x")).await;
            assert!(matches!(opened, Err(Error::State { .. })));
            assert!(provider.wrap(&key.id, &SecretBytes::new(b"seed".to_vec()), &context("x")).await.is_err());
            assert!(provider.rotate_key(&key.id, &owner, &key.primary().unwrap().id).await.is_err());
        }
        assert_eq!(provider.describe_key(&key.id).await.unwrap().deletion, Some(later));
        let enabled = provider.set_state(&key.id, &owner, &Wanted::Enabled).await.unwrap();
        assert_eq!((enabled.state, enabled.deletion), (State::Enabled, None));
        assert_eq!(provider.unwrap(&key.id, &wrapped.ciphertext, &context("x")).await.unwrap().expose(), b"seed");
    }

    /// A deletion that is scheduled again keeps its time.
    pub async fn a_scheduled_deletion_keeps_its_time(provider: &dyn Provider) {
        let key = provider.create_key(&request("nonceiii1", "i")).await.unwrap();
        let owner = claim("i", "owner-1");
        let [first, second] = [4_000_000_000, 4_100_000_000].map(|second| Timestamp::from_second(second).unwrap());
        provider.set_state(&key.id, &owner, &Wanted::Deleted { at: first }).await.unwrap();
        let again = provider.set_state(&key.id, &owner, &Wanted::Deleted { at: second }).await.unwrap();
        assert_eq!((again.state, again.deletion), (State::PendingDeletion, Some(first)));
    }
}
