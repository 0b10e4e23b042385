//! Opens sealed values: one provider call for each sealing key, shared by everybody who waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kube::ResourceExt;
use kustody_api::{EncryptionKey, KeyProvider, SecretBinding, policy};
use kustody_core::sealing::format::hex;
use kustody_core::sealing::{self, Header, KeyDocument, Place, PublicKey, SealedValue, wrap_context};
use kustody_core::secret::SecretBytes;
use kustody_providers::{Error as ProviderError, Provider};
use moka::future::Cache;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::metrics::Counts;
use super::opened::{Opened, Values};
use crate::k8s::providers::Providers;
use crate::runtime::unsaid::Unsaid;

/// How many seeds are kept.
const SEEDS: u64 = 1024;
/// How long one is kept. It is overwritten within five minutes: two [`SWEEP`]s later at most, where the API server hangs.
const KEPT: Duration = Duration::from_secs(250);
/// How often what is over is overwritten.
pub const SWEEP: Duration = Duration::from_secs(20);

/// Makes the connection that a `KeyProvider` describes.
#[async_trait]
pub trait Connect: Send + Sync {
    /// The connection.
    async fn connect(&self, object: &KeyProvider) -> Result<Arc<dyn Provider>, ProviderError>;
}

#[async_trait]
impl Connect for Providers {
    async fn connect(&self, object: &KeyProvider) -> Result<Arc<dyn Provider>, ProviderError> {
        self.get(object).await
    }
}

/// Why a value did not open.
#[derive(Clone, Debug)]
pub enum Failure {
    /// It may open later.
    Later(String),
    /// The provider refuses; repaired there, the same value opens.
    Refused(String),
    /// It does not, until something changes here.
    Never(String),
}

/// The authority under which a seed was read: none of it may differ for a seed to be used again.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Authority {
    provider: (Option<String>, Option<i64>),
    namespace: String,
    key: String,
    key_uid: Option<String>,
    key_id: String,
    version: u32,
    public_key: [u8; 32],
    /// A header made up by somebody must not share the fate of the true one's call.
    wrapped_seed: [u8; 32],
}

/// A seed that a provider unwrapped.
pub struct Seed {
    /// Zeroised when it goes.
    pub bytes: SecretBytes,
    /// No other one in this process has it.
    pub id: u64,
    /// When it is over, and with it what it opened.
    pub until: Instant,
}

/// Opens values; keeps seeds and what they opened, zeroised when they leave.
///
/// Callers authorize before each use: a seed that is here says nothing of who may have what it opens.
pub struct Opener {
    connect: Arc<dyn Connect>,
    seeds: Cache<Authority, Arc<Seed>>,
    values: Values,
    unwrapped: AtomicU64,
    counts: Counts,
    unsaid: Unsaid,
}

impl Opener {
    /// Without any seed; what is opened is told to `unsaid`.
    pub fn new(connect: Arc<dyn Connect>, counts: Counts, unsaid: Unsaid) -> Self {
        let seeds = Cache::builder().max_capacity(SEEDS).time_to_live(KEPT).build();
        Self { connect, seeds, values: Values::default(), unwrapped: AtomicU64::new(0), counts, unsaid }
    }

    /// From now on the log does not say this.
    #[expect(clippy::disallowed_methods, reason = "a fingerprint is made of the value, so that no log line says it")]
    pub fn hide(&self, value: &SecretBytes) {
        self.unsaid.add(value.expose());
    }

    /// Overwrites the seeds and values whose time is over.
    pub async fn sweep(&self) {
        self.seeds.run_pending_tasks().await;
        self.values.sweep().await;
    }

    /// The seed that opens what `key` allows to be opened. `header` was compared with it before.
    async fn seed(&self, key: &EncryptionKey, object: &KeyProvider, header: &Header) -> Result<Arc<Seed>, Arc<ProviderError>> {
        let namespace = key.namespace().unwrap_or_default();
        // What was authorized is the key that the EncryptionKey holds; `policy::sealed_for` found it equal to the header's.
        let key_id = key.status.as_ref().and_then(|status| status.key_id.clone()).unwrap_or_default();
        let authority = Authority {
            provider: (object.uid(), object.metadata.generation),
            namespace: namespace.clone(),
            key: key.name_any(),
            key_uid: key.uid(),
            key_id: key_id.clone(),
            version: header.version,
            public_key: header.public_key_sha256,
            wrapped_seed: Sha256::digest(&header.wrapped_seed).into(),
        };
        self.counts.seeds.inc();
        let unwrap = async {
            self.counts.provider_calls.inc();
            let context = wrap_context(&namespace, &key.name_any(), header.version, &header.public_key_sha256);
            let provider = self.connect.connect(object).await?;
            // From before the call: the cache counts from after it.
            let until = Instant::now() + KEPT;
            let bytes = provider.unwrap(&key_id, &header.wrapped_seed, &context).await?;
            self.hide(&bytes);
            Ok(Arc::new(Seed { bytes, id: self.unwrapped.fetch_add(1, Ordering::Relaxed), until }))
        };
        self.seeds.try_get_with(authority, unwrap).await
    }

    /// The document of the key's newest sealing key, once the provider has said that the key itself vouches for it: status
    /// can be written by others than us, and whoever could plant a public key there would read what is sealed for it.
    pub async fn document(&self, key: &EncryptionKey, provider: &KeyProvider) -> Result<KeyDocument, Failure> {
        let field = format!("EncryptionKey {}: status.sealingKey.document", key.name_any());
        let never = |rule: String| Failure::Never(format!("{field}: {rule}"));
        let published = key.status.as_ref().and_then(|status| status.sealing_key.as_ref());
        let published = published.ok_or_else(|| never("it has none yet".to_owned()))?;
        let document = KeyDocument::parse(&published.document).map_err(|error| never(error.to_string()))?;
        if Some(&document.namespace) != key.namespace().as_ref() || document.key != key.name_any() {
            return Err(never("it is another key's document".to_owned()));
        }
        let header = &document.header;
        policy::sealed_for(key, &header.provider_key_id, &hex(&header.public_key_sha256)).map_err(never)?;
        let seed = self.seed(key, provider, header).await.map_err(|error| failure(&field, provider, &error))?;
        match PublicKey::from_seed(&seed.bytes) {
            Ok(public) if public == document.public_key => Ok(document),
            _ => Err(never("its public key is not the one that the key wraps".to_owned())),
        }
    }

    /// The value of one secret of a binding.
    pub async fn open(
        &self,
        binding: &SecretBinding,
        secret: &str,
        (key, provider, sealed): (&EncryptionKey, &KeyProvider, &SealedValue),
    ) -> Result<Arc<SecretBytes>, Failure> {
        let field = format!("spec.secrets[{secret}].sealed.value");
        let seed = self.seed(key, provider, &sealed.header).await.map_err(|error| failure(&field, provider, &error))?;
        let (namespace, binding) = (binding.namespace().unwrap_or_default(), binding.name_any());
        let place = Place { namespace: &namespace, binding: &binding, secret };
        let open = async {
            self.counts.openings.inc();
            let (namespace, binding, secret) = (namespace.clone(), binding.clone(), secret.to_owned());
            let (seed, sealed, until) = (Arc::clone(&seed), sealed.clone(), seed.until);
            // Half a millisecond of arithmetic for each value: not on the threads that answer everybody else.
            let opened = tokio::task::spawn_blocking(move || {
                sealing::open(&seed.bytes, &sealed, &Place { namespace: &namespace, binding: &binding, secret: &secret })
            });
            match opened.await {
                Ok(Ok(value)) => Ok(Opened { value: Arc::new(value), until }),
                Ok(Err(error)) => Err(Failure::Never(format!("{field}: {error}"))),
                Err(_) => Err(Failure::Later(format!("{field}: the broker is stopping"))),
            }
        };
        let value = self.values.get((&seed, &place, sealed), open).await?;
        self.hide(&value);
        Ok(value)
    }
}

fn failure(field: &str, provider: &KeyProvider, error: &ProviderError) -> Failure {
    let message = format!("{field}: KeyProvider {}: {error}", provider.name_any());
    match error {
        _ if error.is_transient() => Failure::Later(message),
        ProviderError::Ciphertext { .. } => Failure::Never(message),
        _ => Failure::Refused(message),
    }
}
