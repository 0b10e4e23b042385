//! One pass over one key: provider and status in steps of which each may be the last before a crash.

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kustody_api::conditions::{ConditionType, Observation};
use kustody_api::encryption_key::{KeyState, KeyVersion, Operation, PendingOperation};
use kustody_api::{EncryptionKey, EncryptionKeyStatus};
use kustody_core::sealing::format::hex;
use kustody_providers::{Claim, CreateKey, Error as ProviderError, Key, Provider, State};
use tokio::time::Instant;

use super::plan::{self, Earlier, Facts, Start};
use super::verdict::Failure;
use super::{rotation, sealing, state};
use crate::controllers::intent::{self, Effect};

/// The part of the API server that a pass needs; reads are live.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Replaces the key's status, refused when anybody wrote the object since `key` was read.
    async fn write(&self, key: &EncryptionKey, status: &EncryptionKeyStatus) -> Result<EncryptionKey, kube::Error>;
    /// Whether the object that a claim names still exists (same UID).
    async fn lives(&self, claim: &Claim) -> Result<bool, kube::Error>;
}

/// One pass.
pub struct Pass<'a> {
    /// The object as it was read or last written.
    pub key: EncryptionKey,
    /// Its status as this pass wants it; written in part on the way, and at the end by the caller.
    pub status: EncryptionKeyStatus,
    /// What was read beside it.
    pub facts: &'a Facts,
    /// The key service.
    pub provider: &'a dyn Provider,
    /// The API server.
    pub cluster: &'a dyn Cluster,
    /// Now.
    pub now: Time,
    /// When the last read or write of the object was begun: since then, at some time, it was as `key` is.
    pub confirmed: Instant,
    /// What this pass says beside `Ready`.
    pub said: Vec<Observation>,
}

impl<'a> Pass<'a> {
    /// Over `key`, which was read after `confirmed`.
    pub fn new(
        key: EncryptionKey,
        facts: &'a Facts,
        provider: &'a dyn Provider,
        cluster: &'a dyn Cluster,
        now: Time,
        confirmed: Instant,
    ) -> Self {
        let status = key.status.clone().unwrap_or_default();
        Self { key, status, facts, provider, cluster, now, confirmed, said: Vec::new() }
    }

    /// Goes on from `start` until the key is held, usable, and has a sealing key.
    pub async fn run(&mut self, start: Start) -> Result<(), Failure> {
        let key = match start {
            Start::Hold(id) => self.provider.describe_key(&id).await.inspect_err(|error| {
                // Vanished: what was seen before is true no more, and nobody may go by it.
                if matches!(error, ProviderError::NotFound { .. }) {
                    self.status.state = Some(KeyState::Unavailable);
                }
            })?,
            Start::Adopt(id) => self.adopt(&id).await?,
            Start::Create => self.create().await?,
        };
        self.observe(&key);
        plan::hold(&key, self.facts)?;
        if self.status.provider_uid != self.provider_uid() {
            // The KeyProvider was applied again; the claim on the key has just said that it is the same key.
            self.status.provider_uid = self.provider_uid();
        }
        rotation::resume(self, &key).await?;
        let key = state::settle(self, key).await?;
        let key = rotation::rotate(self, key).await?;
        sealing::publish(self, &key).await
    }

    /// Says one more thing in the status.
    pub fn say(&mut self, observation: Observation) {
        self.said.push(observation);
    }

    /// Takes a condition away whose question the spec does not ask any more.
    pub fn forget(&mut self, kind: ConditionType) {
        let name: &'static str = kind.into();
        self.status.conditions.retain(|condition| condition.type_ != name);
    }

    /// The nonce of an `operation` that was begun and whose result is not recorded.
    pub fn pending(&self, operation: Operation) -> Option<String> {
        self.status.pending_operation.as_ref().filter(|pending| pending.operation == operation).map(|pending| pending.nonce.clone())
    }

    /// Takes back an intent that was not carried out and that nothing asks for any more: later it would be acted upon.
    pub fn drop_intent(&mut self, operations: &[Operation]) {
        self.status.pending_operation.take_if(|pending| operations.contains(&pending.operation));
    }

    /// An intent of `operation`, now.
    pub fn begun(&self, operation: Operation, nonce: &str) -> PendingOperation {
        let (nonce, started) = (nonce.to_owned(), self.now.clone());
        PendingOperation { operation, nonce, started, from_version: None, request: None }
    }

    /// Writes an intent down.
    pub async fn intend(&mut self, begun: PendingOperation) -> Result<(), Failure> {
        self.status.pending_operation = Some(begun);
        Ok(self.write().await?)
    }

    /// A nonce that nobody used before.
    pub fn nonce(&self) -> Result<String, Failure> {
        let mut bytes = [0; 10];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::Random)?;
        Ok(hex(&bytes))
    }

    /// Writes the status as it stands, if nobody wrote since.
    pub async fn write(&mut self) -> Result<(), kube::Error> {
        let begun = Instant::now();
        self.key = self.cluster.write(&self.key, &self.status).await?;
        self.confirmed = begun;
        Ok(())
    }

    /// Takes over an existing key: its claim is exchanged in one conditional call, which can be repeated.
    async fn adopt(&mut self, id: &str) -> Result<Key, Failure> {
        let found = self.provider.describe_key(id).await?;
        let claim = found.claim();
        let key = if claim.as_ref() == Some(&self.facts.claim) {
            found
        } else {
            let lives = match &claim {
                Some(claim) if claim.cluster == self.facts.claim.cluster => self.cluster.lives(claim).await?,
                _ => false,
            };
            plan::adopt(&found, lives, self.facts)?;
            plan::documents(self.key.spec.adopt.as_ref(), &found.id, self.facts)?;
            self.provider.tag_key(id, claim.as_ref(), &self.facts.claim.to_tags()).await?
        };
        self.pin(&key).await?;
        Ok(key)
    }

    /// Makes a key, unless an earlier life of the object left one.
    async fn create(&mut self) -> Result<Key, Failure> {
        let pending = self.pending(Operation::Create);
        if pending.is_none()
            && let Earlier::Own(key) = plan::retained(self.provider.find_retained(&self.facts.claim).await?, self.facts)?
        {
            self.pin(&key).await?;
            return Ok(key);
        }
        intent::carry_out(&mut Creation(self), pending.as_deref()).await
    }

    /// Records which key the object holds, and that nothing is pending.
    async fn pin(&mut self, key: &Key) -> Result<(), Failure> {
        self.status.key_id = Some(key.id.clone());
        self.status.provider_uid = self.provider_uid();
        self.status.pending_operation = None;
        // Whoever takes a key knowingly answers for the state that it is in.
        self.status.applied_state = state::as_desired(key.state);
        let request = self.key.spec.rotation.as_ref().and_then(|rotation| rotation.request.clone());
        if let Some(request) = request {
            self.status.rotation.get_or_insert_default().serve(request);
        }
        self.observe(key);
        Ok(self.write().await?)
    }

    fn provider_uid(&self) -> Option<String> {
        self.facts.provider.as_ref().and_then(|provider| provider.metadata.uid.clone())
    }

    /// What the provider says of the key.
    pub fn observe(&mut self, key: &Key) {
        self.status.state = Some(match key.state {
            State::Pending => KeyState::Pending,
            State::Enabled => KeyState::Enabled,
            State::Disabled => KeyState::Disabled,
            State::PendingDeletion => KeyState::PendingDeletion,
            State::Destroyed => KeyState::Destroyed,
            State::Unavailable => KeyState::Unavailable,
        });
        self.status.deletion_time = key.deletion.map(Time);
        self.status.versions = key
            .versions
            .iter()
            .map(|version| KeyVersion { version: version.id.clone(), created: version.created.map(Time), primary: version.primary })
            .collect();
    }

    /// Tags on the key, only while it is still ours.
    pub async fn tag(&self, id: &str, tags: &BTreeMap<String, String>) -> Result<(), Failure> {
        self.provider.tag_key(id, Some(&self.facts.claim), tags).await?;
        Ok(())
    }
}

/// A new key as an [`Effect`].
struct Creation<'p, 'a>(&'p mut Pass<'a>);

#[async_trait]
impl Effect for Creation<'_, '_> {
    type Result = Key;
    type Error = Failure;

    fn nonce(&mut self) -> Result<String, Failure> {
        self.0.nonce()
    }

    async fn intend(&mut self, nonce: &str) -> Result<(), Failure> {
        let begun = self.0.begun(Operation::Create, nonce);
        self.0.intend(begun).await
    }

    async fn find(&mut self, nonce: &str) -> Result<Option<Key>, Failure> {
        let found = self.0.provider.find_by_nonce(nonce).await?;
        Ok(found.filter(|key| key.claim().as_ref() == Some(&self.0.facts.claim)))
    }

    fn confirmed(&self) -> Instant {
        self.0.confirmed
    }

    async fn act(&mut self, nonce: &str) -> Result<Key, Failure> {
        let request = CreateKey { nonce: nonce.to_owned(), claim: self.0.facts.claim.clone() };
        Ok(self.0.provider.create_key(&request).await?)
    }

    async fn record(&mut self, key: &Key) -> Result<(), Failure> {
        self.0.pin(key).await
    }
}
