//! One namespace with a key, a sealed value and a pod, without an API server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::Event;
use kustody_api::{EncryptionKey, KeyProvider, SecretBinding};
use kustody_core::audit::{Record, verify};
use kustody_core::sealing::format::hex;
use kustody_core::sealing::{Header, KeyDocument, Place, generate, seal, wrap_context};
use kustody_core::secret::SecretBytes;
use kustody_core::wire::{Plan, Refusal, Release};
use kustody_providers::local::{Local, RootKeySource};
use kustody_providers::testing::MemoryStore;
use kustody_providers::{Claim, CreateKey, Error as ProviderError, Provider};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::signer::{Signer, claims, keys, now};
use crate::audit::Log;
use crate::broker::authenticate::{Authenticator, STALE};
use crate::broker::caches::Caches;
use crate::broker::changes::Changes;
use crate::broker::cluster::Cluster;
use crate::broker::open::{Connect, Opener};
use crate::broker::token::Keys;
use crate::broker::watch::Watch;
use crate::broker::{Broker, limits, metrics, routes};
use crate::config::{AuditVolume, Config};
use crate::k8s::confirmed::Confirmed;
use crate::runtime::clock::Clock;
use crate::runtime::process::Process;

pub struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        now()
    }
}

/// The API server as the broker asks it.
#[derive(Default)]
pub struct Asked {
    pub keys: Mutex<Option<Keys>>,
    pub pods: Mutex<Vec<Pod>>,
    pub accounts: Mutex<Vec<ServiceAccount>>,
    pub reviews: AtomicU32,
    pub fetches: AtomicU32,
    /// Whether it takes no token any more.
    pub rejects: AtomicBool,
}

#[async_trait]
impl Cluster for Asked {
    async fn keys(&self) -> Result<Keys, kube::Error> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        Ok(self.keys.lock().expect("a lock").clone().expect("keys"))
    }

    async fn review(&self, _: &str) -> Result<bool, kube::Error> {
        self.reviews.fetch_add(1, Ordering::Relaxed);
        Ok(!self.rejects.load(Ordering::Relaxed))
    }

    async fn pod(&self, _: &str, name: &str) -> Result<Option<Pod>, kube::Error> {
        Ok(self.pods.lock().expect("a lock").iter().find(|pod| pod.metadata.name.as_deref() == Some(name)).cloned())
    }

    async fn account(&self, _: &str, name: &str) -> Result<Option<ServiceAccount>, kube::Error> {
        Ok(self.accounts.lock().expect("a lock").iter().find(|found| found.metadata.name.as_deref() == Some(name)).cloned())
    }
}

/// Hands out the one provider, or says that it does not answer.
pub struct One {
    pub local: Arc<Local>,
    pub silent: bool,
}

#[async_trait]
impl Connect for One {
    async fn connect(&self, _: &KeyProvider) -> Result<Arc<dyn Provider>, ProviderError> {
        if self.silent {
            return Err(ProviderError::Unavailable { operation: "unwrap", detail: "it is silent".to_owned() });
        }
        Ok(Arc::clone(&self.local) as Arc<dyn Provider>)
    }
}

/// A cache and what fills it.
pub struct Filled<K: kube::Resource + Clone + 'static>
where
    K::DynamicType: std::hash::Hash + Eq + Clone + Default,
{
    pub reader: Store<K>,
    writer: Writer<K>,
}

impl<K> Filled<K>
where
    K: kube::Resource + Clone + 'static,
    K::DynamicType: std::hash::Hash + Eq + Clone + Default,
{
    fn new(objects: Vec<K>) -> Self {
        let (reader, mut writer) = store();
        writer.apply_watcher_event(&Event::Init);
        for object in objects {
            writer.apply_watcher_event(&Event::InitApply(object));
        }
        writer.apply_watcher_event(&Event::InitDone);
        Self { reader, writer }
    }

    pub fn put(&mut self, object: K) {
        self.writer.apply_watcher_event(&Event::Apply(object));
    }

    pub fn delete(&mut self, object: K) {
        self.writer.apply_watcher_event(&Event::Delete(object));
    }
}

pub fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

pub fn pod(namespace: &str, name: &str, account: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "uid": format!("{name}-uid")},
        "spec": {"serviceAccountName": account, "containers": []},
        "status": {"phase": "Pending"},
    })
}

fn account(namespace: &str, name: &str) -> ServiceAccount {
    object(json!({"metadata": {"namespace": namespace, "name": name, "uid": format!("{name}-uid")}}))
}

pub struct World {
    pub asked: Arc<Asked>,
    pub bindings: Filled<SecretBinding>,
    pub keys: Filled<EncryptionKey>,
    pub pods: Filled<Pod>,
    pub accounts: Filled<ServiceAccount>,
    pub providers: Filled<KeyProvider>,
    pub namespaces: Filled<Namespace>,
    pub store: Arc<MemoryStore>,
    pub local: Arc<Local>,
    pub document: KeyDocument,
    pub signer: Signer,
    pub audit: tempfile::TempDir,
    pub process: Process,
    pub authority: Arc<ArcSwapOption<String>>,
    pub stale: Duration,
    /// Of no watch, unless a test begins one.
    pub confirmed: Confirmed,
    pub changes: Changes,
    /// How long one who watches waits.
    pub hold: Duration,
}

/// A key of `vision`, made as the controller makes it.
pub async fn make_key(local: &Local, name: &str) -> KeyDocument {
    let claim = Claim {
        cluster: "cluster-uid".to_owned(),
        namespace: "vision".to_owned(),
        namespace_uid: "vision-uid".to_owned(),
        name: name.to_owned(),
        owner_uid: format!("{name}-uid"),
    };
    let made = local.create_key(&CreateKey { nonce: format!("nonce{}1", name.replace('-', "")), claim }).await.unwrap();
    let (seed, public_key) = generate().unwrap();
    let hash = public_key.sha256();
    let wrapped = local.wrap(&made.id, &seed, &wrap_context("vision", name, 1, &hash)).await.unwrap();
    let header = Header { provider_key_id: made.id, version: 1, public_key_sha256: hash, wrapped_seed: wrapped.ciphertext };
    KeyDocument { header, namespace: "vision".to_owned(), key: name.to_owned(), public_key }
}

pub fn sealed(document: &KeyDocument, namespace: &str, binding: &str, secret: &str, value: &str) -> String {
    let place = Place { namespace, binding, secret };
    seal(document, &place, &SecretBytes::new(value.as_bytes().to_vec())).unwrap().to_string()
}

pub fn encryption_key(document: &KeyDocument) -> Value {
    json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "EncryptionKey",
        "metadata": {"namespace": "vision", "name": document.key, "uid": format!("{}-uid", document.key)},
        "spec": {"providerRef": {"name": "main"}, "grants": [{"serviceAccount": "trainer", "operations": ["Open"]}]},
        "status": {
            "keyId": document.header.provider_key_id, "providerUid": "main-uid", "state": "Enabled",
            "sealingKeys": [{"version": 1, "publicKeySha256": hex(&document.header.public_key_sha256)}],
        },
    })
}

/// Binding `train` with secrets `db` (an object) and `token`, given as files and a variable.
pub fn binding(document: &KeyDocument) -> Value {
    let seal = |secret: &str, value: &str| json!({"key": document.key, "value": sealed(document, "vision", "train", secret, value)});
    json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding",
        "metadata": {"namespace": "vision", "name": "train", "uid": "train-uid", "generation": 1},
        "spec": {
            "workloads": {"serviceAccounts": ["trainer"]},
            "secrets": [
                {"name": "db", "sealed": seal("db", r#"{"user": "u", "password": "canary-p"}"#)},
                {"name": "token", "sealed": seal("token", "canary-t")},
            ],
            "deliver": {
                "files": [{"secret": "db", "property": "password", "path": "password"}, {"secret": "token", "path": "token"}],
                "env": [{"name": "HF_TOKEN", "secret": "token"}],
            },
        },
    })
}

pub fn plan() -> Value {
    json!({"version": 1, "bindings": [{
        "name": "train", "uid": "train-uid",
        "files": [
            {"path": "password", "secret": "db", "property": "password", "mode": 256},
            {"path": "token", "secret": "token", "mode": 256},
        ],
        "env": [{"name": "HF_TOKEN", "secret": "token"}],
    }]})
}

/// What came back.
pub struct Answered {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

impl Answered {
    pub fn release(&self) -> Release {
        assert_eq!(self.status, StatusCode::OK, "{}", String::from_utf8_lossy(&self.body));
        Release::decode(&self.body).unwrap()
    }

    pub fn refusal(&self) -> Refusal {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl World {
    pub async fn new() -> Self {
        let memory = Arc::new(MemoryStore::default());
        let local = Arc::new(Local::new(Arc::clone(&memory) as _, "main", RootKeySource::Generated, Arc::new(now)));
        let document = make_key(&local, "team-key").await;
        let signer = Signer::es256("key-1");
        let asked = Arc::new(Asked::default());
        *asked.keys.lock().unwrap() = Some(keys(&[&signer]));
        let provider = json!({
            "apiVersion": "kustody.dev/v1alpha1", "kind": "KeyProvider", "metadata": {"name": "main", "uid": "main-uid", "generation": 1},
            "spec": {"local": {}, "access": [{"namespaces": {"matchLabels": {"team": "vision"}}, "createKeys": true}]},
        });
        let namespace = |name: &str, labels: Value| object(json!({"metadata": {"name": name, "labels": labels}}));
        Self {
            bindings: Filled::new(vec![object(binding(&document))]),
            keys: Filled::new(vec![object(encryption_key(&document))]),
            pods: Filled::new(vec![
                object(pod("vision", "pod-1", "trainer")),
                object(pod("kustody-system", "controller-1", "kustody-controller")),
            ]),
            accounts: Filled::new(vec![account("vision", "trainer"), account("kustody-system", "kustody-controller")]),
            providers: Filled::new(vec![object(provider)]),
            namespaces: Filled::new(vec![namespace("vision", json!({"team": "vision"})), namespace("other", json!({}))]),
            asked,
            store: memory,
            local,
            document,
            signer,
            audit: tempfile::tempdir().unwrap(),
            process: Process::new(Arc::new(Fixed)),
            authority: Arc::new(ArcSwapOption::from_pointee("PEM\n".to_owned())),
            stale: STALE,
            confirmed: Confirmed::default(),
            changes: Changes::default(),
            hold: Duration::from_millis(100),
        }
    }

    pub fn router(&self) -> Router {
        let log = Log::open(self.audit.path(), &self.process).unwrap();
        self.router_with(log, false)
    }

    pub fn router_with(&self, log: Log, silent: bool) -> Router {
        routes::router(self.broker(log, silent))
    }

    pub fn broker(&self, log: Log, silent: bool) -> Arc<Broker> {
        let counts = metrics::Counts::new(&self.process.metrics);
        let caches = Caches {
            pods: self.pods.reader.clone(),
            namespaces: self.namespaces.reader.clone(),
            accounts: self.accounts.reader.clone(),
            bindings: self.bindings.reader.clone(),
            keys: self.keys.reader.clone(),
            providers: self.providers.reader.clone(),
            confirmed: self.confirmed.clone(),
        };
        let address = "[::1]:0".parse().unwrap();
        let config = Config {
            pod_name: None,
            roles: Vec::new(),
            namespace: "kustody-system".to_owned(),
            name: "kustody".to_owned(),
            agent_image: String::new(),
            webhook_address: address,
            broker_address: address,
            admin_address: address,
            audit_directory: self.audit.path().to_owned(),
            audit_volume: AuditVolume::EmptyDir,
            broker_token: std::path::PathBuf::new(),
            broker_url: None,
            pods_without_secrets: crate::config::PodsWithoutSecrets::Report,
            certificates: crate::config::Certificates::Controller,
        };
        Arc::new(Broker {
            authenticator: Authenticator::new(caches.clone(), Arc::clone(&self.asked) as _, Arc::new(Fixed), self.stale),
            opener: Opener::new(Arc::new(One { local: Arc::clone(&self.local), silent }), counts.clone(), self.process.unsaid.clone()),
            limits: limits::Limits::default(),
            watch: Watch::new(self.changes.clone(), &self.process.metrics, self.process.stop.clone()).holding(self.hold),
            clock: Arc::new(Fixed),
            config: Arc::new(config),
            caches,
            authority: Arc::clone(&self.authority),
            log,
            counts,
        })
    }

    pub fn token(&self) -> String {
        self.signer.sign(&claims("vision", "trainer", "pod-1"))
    }

    /// The one record store of the log, in order, verified.
    pub fn records(&self) -> Vec<Record> {
        let entries = std::fs::read_dir(self.audit.path()).unwrap().map(|entry| entry.unwrap().path());
        let text: String = entries.filter(|path| path.extension().is_some()).map(|path| std::fs::read_to_string(path).unwrap()).collect();
        verify(None, text.lines()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub async fn ask(router: &Router, path: &str, token: &str, body: &Value) -> Answered {
    let request = Request::post(path).header("authorization", format!("Bearer {token}")).body(Body::from(body.to_string())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    Answered { status: response.status(), body: to_bytes(response.into_body(), 2 << 20).await.unwrap().to_vec() }
}

/// Values by binding, secret and property, for comparing.
#[expect(clippy::disallowed_methods, reason = "tests look at what they made")]
pub fn values(release: &Release) -> BTreeMap<(String, String), String> {
    let text = |value: &SecretBytes| String::from_utf8(value.expose().to_vec()).unwrap();
    let each = release.values.iter();
    each.map(|value| ((value.secret.clone(), value.property.clone().unwrap_or_default()), text(&value.value))).collect()
}

pub fn as_plan(value: &Value) -> Plan {
    serde_json::from_value(value.clone()).unwrap()
}
