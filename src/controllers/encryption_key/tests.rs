//! Tests of the decisions and of every crash between two steps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kube::ResourceExt;
use kustody_api::encryption_key::KeyState;
use kustody_core::sealing::{self as core_sealing, KeyDocument, SealedValue};
use kustody_core::secret::SecretBytes;
use kustody_providers::local::{Local, RootKeySource};
use kustody_providers::testing::MemoryStore;
use kustody_providers::{Context as WrapContext, CreateKey, Key, Probe, Provider, SEALING_KEY_TAG, State, Version, Wanted, Wrapped};
use serde_json::json;

use super::plan::{Earlier, Start};
use super::*;
use crate::controllers::tests as testing;

mod lifecycle;
mod recovery;
mod times;

/// Ends the process, as far as the pass can tell, at the n-th step: before its effect or after it.
#[derive(Default)]
struct Fuse {
    left: Mutex<Option<u32>>,
    after: bool,
}

impl Fuse {
    /// Whether this step dies.
    fn burns(&self) -> bool {
        let mut left = self.left.lock().unwrap();
        match left.as_mut() {
            None => false,
            Some(0) => true,
            Some(n) => {
                *n -= 1;
                false
            }
        }
    }
}

fn lost() -> ProviderError {
    ProviderError::Unavailable { operation: "test", detail: "the process ended here".to_owned() }
}

struct Faulty {
    inner: Local,
    fuse: Arc<Fuse>,
    calls: Mutex<Vec<&'static str>>,
}

impl Faulty {
    async fn step<T: Send>(
        &self,
        name: &'static str,
        act: impl Future<Output = Result<T, ProviderError>> + Send,
    ) -> Result<T, ProviderError> {
        self.calls.lock().unwrap().push(name);
        let burns = self.fuse.burns();
        if burns && !self.fuse.after {
            return Err(lost());
        }
        let result = act.await;
        if burns { Err(lost()) } else { result }
    }
}

#[async_trait]
impl Provider for Faulty {
    async fn probe(&self) -> Result<Probe, ProviderError> {
        self.step("probe", self.inner.probe()).await
    }
    async fn create_key(&self, request: &CreateKey) -> Result<Key, ProviderError> {
        self.step("create_key", self.inner.create_key(request)).await
    }
    async fn find_by_nonce(&self, nonce: &str) -> Result<Option<Key>, ProviderError> {
        self.step("find_by_nonce", self.inner.find_by_nonce(nonce)).await
    }
    async fn find_retained(&self, claim: &Claim) -> Result<Vec<Key>, ProviderError> {
        self.step("find_retained", self.inner.find_retained(claim)).await
    }
    async fn describe_key(&self, id: &str) -> Result<Key, ProviderError> {
        self.step("describe_key", self.inner.describe_key(id)).await
    }
    async fn tag_key(&self, id: &str, expected: Option<&Claim>, tags: &BTreeMap<String, String>) -> Result<Key, ProviderError> {
        self.step("tag_key", self.inner.tag_key(id, expected, tags)).await
    }
    async fn rotate_key(&self, id: &str, expected: &Claim, from: &str) -> Result<Key, ProviderError> {
        self.step("rotate_key", self.inner.rotate_key(id, expected, from)).await
    }
    async fn set_state(&self, id: &str, expected: &Claim, wanted: &Wanted) -> Result<Key, ProviderError> {
        self.step("set_state", self.inner.set_state(id, expected, wanted)).await
    }
    async fn wrap(&self, id: &str, plaintext: &SecretBytes, context: &WrapContext) -> Result<Wrapped, ProviderError> {
        self.step("wrap", self.inner.wrap(id, plaintext, context)).await
    }
    async fn unwrap(&self, id: &str, ciphertext: &[u8], context: &WrapContext) -> Result<SecretBytes, ProviderError> {
        self.step("unwrap", self.inner.unwrap(id, ciphertext, context)).await
    }
}

/// The API server: one object with a resource version, and the UIDs of objects that live elsewhere.
struct Server {
    stored: Mutex<EncryptionKey>,
    living: Vec<String>,
    fuse: Arc<Fuse>,
}

fn api_error(code: u16, reason: &str) -> kube::Error {
    let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason});
    kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
}

#[async_trait]
impl Cluster for Server {
    async fn write(&self, key: &EncryptionKey, status: &EncryptionKeyStatus) -> Result<EncryptionKey, kube::Error> {
        let burns = self.fuse.burns();
        if burns && !self.fuse.after {
            return Err(api_error(500, "InternalError"));
        }
        let mut stored = self.stored.lock().unwrap();
        if stored.resource_version() != key.resource_version() {
            return Err(api_error(409, "Conflict"));
        }
        let next: u64 = stored.resource_version().unwrap().parse::<u64>().unwrap() + 1;
        stored.metadata.resource_version = Some(next.to_string());
        stored.status = Some(status.clone());
        if burns { Err(api_error(500, "InternalError")) } else { Ok(stored.clone()) }
    }

    async fn lives(&self, claim: &Claim) -> Result<bool, kube::Error> {
        Ok(self.living.contains(&claim.owner_uid))
    }
}

/// A cluster with one namespace, one provider, and one key object at a time.
struct World {
    store: Arc<MemoryStore>,
    facts: Facts,
    now: jiff::Timestamp,
    /// How long ago the object was read when a pass begins.
    slept: std::time::Duration,
}

impl World {
    fn new() -> Self {
        let provider = json!({
            "apiVersion": "kustody.dev/v1alpha1", "kind": "KeyProvider", "metadata": {"name": "main", "uid": "p"},
            "spec": {"local": {}, "access": [{"namespaces": {"matchLabels": {"team": "ml"}}, "createKeys": true}]},
        });
        let claim = Claim {
            cluster: "c".to_owned(),
            namespace: "vision".to_owned(),
            namespace_uid: "n".to_owned(),
            name: "team-key".to_owned(),
            owner_uid: "k1".to_owned(),
        };
        let facts = Facts {
            namespace_labels: BTreeMap::from([("team".to_owned(), "ml".to_owned())]),
            claim,
            provider: Some(serde_json::from_value(provider).unwrap()),
            users: Vec::new(),
            sealed: BTreeMap::new(),
        };
        Self { store: Arc::default(), facts, now: "2026-03-01T00:00:00Z".parse().unwrap(), slept: std::time::Duration::ZERO }
    }

    fn access(&mut self, lines: serde_json::Value) {
        self.facts.provider.as_mut().unwrap().spec.access = serde_json::from_value(lines).unwrap();
    }

    fn object(&self, adopt: Option<serde_json::Value>) -> EncryptionKey {
        let mut object = json!({
            "apiVersion": "kustody.dev/v1alpha1", "kind": "EncryptionKey",
            "metadata": {"name": self.facts.claim.name, "namespace": self.facts.claim.namespace, "uid": self.facts.claim.owner_uid, "resourceVersion": "1", "generation": 1},
            "spec": {"providerRef": {"name": "main"}},
        });
        if let Some(adopt) = adopt {
            object["spec"]["adopt"] = adopt;
        }
        serde_json::from_value(object).unwrap()
    }

    fn provider(&self, fuse: &Arc<Fuse>) -> Faulty {
        let (store, now) = (Arc::clone(&self.store), self.now);
        let inner = Local::new(store, "main", RootKeySource::Generated, Arc::new(move || now));
        Faulty { inner, fuse: Arc::clone(fuse), calls: Mutex::default() }
    }

    /// One pass; what the API server holds afterwards, how it ended, and the calls that were made.
    async fn pass(&self, object: EncryptionKey, living: &[&str], fuse: Fuse) -> (EncryptionKey, Result<(), Failure>, Vec<&'static str>) {
        let fuse = Arc::new(fuse);
        let provider = self.provider(&fuse);
        let living = living.iter().map(|uid| (*uid).to_owned()).collect();
        let server = Server { stored: Mutex::new(object.clone()), living, fuse };
        let held = object.status.as_ref().and_then(|status| status.key_id.clone());
        let result = match plan::start(&object.spec, held.as_deref(), &self.facts) {
            Err(verdict) => Err(verdict.into()),
            Ok(start) => {
                let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now);
                let confirmed = Instant::now().checked_sub(self.slept).unwrap();
                let mut pass = Pass::new(object, &self.facts, &provider, &server, now, confirmed);
                let result = pass.run(start).await;
                // The caller's last write, which a crash also prevents.
                match result {
                    Ok(()) => pass.write().await.map_err(Failure::from),
                    Err(Failure::Refused(verdict)) => pass.write().await.map_err(Failure::from).and(Err(verdict.into())),
                    Err(failed @ Failure::Provider(ProviderError::NotFound { .. })) => {
                        pass.write().await.map_err(Failure::from).and(Err(failed))
                    }
                    failed => failed,
                }
            }
        };
        let calls = provider.calls.lock().unwrap().clone();
        (server.stored.into_inner().unwrap(), result, calls)
    }

    fn keys(&self) -> usize {
        self.store.names().iter().filter(|name| name.starts_with("kustody-key-")).count()
    }

    async fn made(&self) -> EncryptionKey {
        let (object, result, _) = self.pass(self.object(None), &[], Fuse::default()).await;
        result.unwrap();
        object
    }
}

fn reason(result: Result<(), Failure>) -> (Reason, String) {
    match result.unwrap_err() {
        Failure::Refused(verdict) => (verdict.reason, verdict.message),
        other => panic!("{other:?}"),
    }
}

fn status_of(object: &EncryptionKey) -> EncryptionKeyStatus {
    object.status.clone().unwrap()
}

#[tokio::test]
async fn a_new_key_is_made_once_and_publishes_a_sealing_key_that_opens_what_was_sealed_for_it() {
    let world = World::new();
    let object = world.made().await;
    let status = status_of(&object);
    assert_eq!(world.keys(), 1);
    assert_eq!(status.pending_operation, None);
    assert_eq!(status.provider_uid.as_deref(), Some("p"));
    let published = status.sealing_key.unwrap();
    assert_eq!((published.version, status.sealing_keys.len()), (1, 1));
    assert_eq!(status.sealing_keys[0].public_key_sha256, published.public_key_sha256);

    let document = KeyDocument::parse(&published.document).unwrap();
    let place = core_sealing::Place { namespace: "vision", binding: "b", secret: "s" };
    let sealed = core_sealing::seal(&document, &place, &SecretBytes::new(b"value".to_vec())).unwrap();
    let sealed = SealedValue::parse(&sealed.to_string()).unwrap();
    let provider = world.provider(&Arc::default());
    let context = core_sealing::wrap_context("vision", "team-key", 1, &sealed.header.public_key_sha256);
    let id = status.key_id.unwrap();
    let seed = provider.unwrap(&id, &sealed.header.wrapped_seed, &context).await.unwrap();
    assert_eq!(core_sealing::open(&seed, &sealed, &place).unwrap().len(), 5);
    let tags = provider.describe_key(&id).await.unwrap().tags;
    assert_eq!(tags.get(&format!("{SEALING_KEY_TAG}1")), Some(&published.public_key_sha256));
}

#[tokio::test]
async fn a_crash_between_any_two_steps_never_makes_two_keys_or_two_published_sealing_keys() {
    for after in [false, true] {
        for step in 0.. {
            let world = World::new();
            let fuse = Fuse { left: Mutex::new(Some(step)), after };
            let (crashed, result, _) = world.pass(world.object(None), &[], fuse).await;
            let published = crashed.status.as_ref().and_then(|status| status.sealing_key.clone());
            let (object, again, _) = world.pass(crashed, &[], Fuse::default()).await;
            again.unwrap();
            assert_eq!(world.keys(), 1, "step {step}, after: {after}");
            let status = status_of(&object);
            assert_eq!(status.pending_operation, None, "step {step}, after: {after}");
            assert_eq!(status.sealing_keys.len(), 1, "step {step}, after: {after}");
            assert!(published.is_none_or(|published| status.sealing_key == Some(published)), "step {step}, after: {after}");
            if result.is_ok() {
                assert!(step >= 6, "only {step} steps were seen to fail");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_pass_over_a_key_that_is_as_it_should_be_only_looks() {
    let world = World::new();
    let object = world.made().await;
    let before = status_of(&object);
    let (object, result, calls) = world.pass(object, &[], Fuse::default()).await;
    result.unwrap();
    assert_eq!(calls, ["describe_key"]);
    assert_eq!(status_of(&object), before);
}

#[tokio::test]
async fn without_a_line_of_access_no_call_reaches_the_provider() {
    let mut world = World::new();
    world.access(
        json!([{"namespaces": {"matchLabels": {"team": "other"}}, "createKeys": true}, {"namespaces": {"matchLabels": {"team": "ml"}}}]),
    );
    for adopt in [None, Some(json!({"keyId": "other/team-key/abc"})), Some(json!({"keyId": "alias"}))] {
        let (_, result, calls) = world.pass(world.object(adopt), &[], Fuse::default()).await;
        let (reason, message) = reason(result);
        assert_eq!(reason, Reason::AccessDenied);
        assert!(message.contains("KeyProvider main") && message.contains("namespace vision"), "{message}");
        assert!(calls.is_empty(), "{calls:?}");
    }
    // A line for it without the operation Use is no line for it.
    world.access(json!([{"namespaces": {}, "adopt": [{"ids": ["other/*"], "operations": ["Retire"]}]}]));
    let (_, result, calls) = world.pass(world.object(Some(json!({"keyId": "other/team-key/abc"}))), &[], Fuse::default()).await;
    assert_eq!((reason(result).0, calls.len()), (Reason::AccessDenied, 0));
}

#[tokio::test]
async fn the_same_yaml_applied_again_finds_the_retained_key_and_adoption_takes_it_back_with_its_sealing_keys() {
    let mut world = World::new();
    let first = status_of(&world.made().await);
    world.facts.claim.owner_uid = "k2".to_owned();
    let (_, result, calls) = world.pass(world.object(None), &[], Fuse::default()).await;
    let (found, message) = reason(result);
    let id = first.key_id.clone().unwrap();
    assert_eq!(found, Reason::RetainedKeyFound);
    assert!(message.contains(&format!("spec.adopt.keyId: {id}")), "{message}");
    assert_eq!((calls, world.keys()), (vec!["find_retained"], 1));

    let adopt = Some(json!({"keyId": id}));
    let (_, result, _) = world.pass(world.object(adopt.clone()), &["k1"], Fuse::default()).await;
    assert_eq!(reason(result).0, Reason::Conflict, "its first owner still lives");

    for step in 0..6 {
        let fuse = Fuse { left: Mutex::new(Some(step)), after: step % 2 == 0 };
        let world = World { store: Arc::default(), facts: world.facts.clone(), now: world.now, slept: world.slept };
        let mut earlier = World { store: Arc::clone(&world.store), facts: world.facts.clone(), now: world.now, slept: world.slept };
        earlier.facts.claim.owner_uid = "k1".to_owned();
        let first = status_of(&earlier.made().await);
        let object = world.object(Some(json!({"keyId": first.key_id})));
        let (crashed, _, _) = world.pass(object, &[], fuse).await;
        let (object, result, _) = world.pass(crashed, &[], Fuse::default()).await;
        result.unwrap();
        let status = status_of(&object);
        assert_eq!(status.key_id, first.key_id);
        assert_eq!(
            status.sealing_keys[0].public_key_sha256, first.sealing_keys[0].public_key_sha256,
            "what was sealed for the old key still opens"
        );
        assert_eq!(status.sealing_key.unwrap().version, 2);
        assert_eq!(world.keys(), 1);
    }
}

#[tokio::test]
async fn a_retained_key_belongs_to_the_namespace_s_uid() {
    let mut world = World::new();
    let id = status_of(&world.made().await).key_id.unwrap();
    (world.facts.claim.namespace_uid, world.facts.claim.owner_uid) = ("n2".to_owned(), "k2".to_owned());
    let adopt = || Some(json!({"keyId": id}));
    let (_, result, _) = world.pass(world.object(adopt()), &[], Fuse::default()).await;
    let (found, message) = reason(result);
    assert_eq!(found, Reason::AccessDenied);
    assert!(message.contains("earlier namespace of this name"), "{message}");
    world.access(json!([{"namespaces": {}, "adopt": [{"ids": ["{namespace}/team-key/*"], "operations": ["Use"]}]}]));
    let (_, result, _) = world.pass(world.object(adopt()), &[], Fuse::default()).await;
    result.unwrap();
}

#[tokio::test]
async fn a_lost_status_finds_its_own_key_again() {
    let world = World::new();
    let id = status_of(&world.made().await).key_id;
    let (object, result, _) = world.pass(world.object(None), &[], Fuse::default()).await;
    result.unwrap();
    let status = status_of(&object);
    assert_eq!((status.key_id, world.keys()), (id, 1));
    assert_eq!(status.sealing_keys.len(), 2);
}

#[tokio::test]
async fn a_key_that_vanished_is_never_made_again() {
    let world = World::new();
    let object = world.made().await;
    let record = world.store.names().into_iter().find(|name| name.starts_with("kustody-key-")).unwrap();
    world.store.remove(&record);
    let (object, result, calls) = world.pass(object, &[], Fuse::default()).await;
    let verdict = condition_of(&result.unwrap_err(), "main").unwrap();
    assert_eq!((verdict.reason, status_of(&object).state), (Reason::KeyNotFound, Some(KeyState::Unavailable)));
    assert!(verdict.message.contains("never makes a new key"), "{}", verdict.message);
    assert_eq!((calls, world.keys()), (vec!["describe_key"], 0));
}

#[tokio::test]
async fn documents_of_another_place_or_key_are_refused_by_name() {
    let mut world = World::new();
    let status = status_of(&world.made().await);
    let (id, document) = (status.key_id.unwrap(), status.sealing_key.unwrap().document);
    world.facts.claim.owner_uid = "k2".to_owned();
    let adopt = |document: &str| Some(json!({"keyId": id, "sealingKeys": [document]}));
    let (_, result, _) = world.pass(world.object(adopt("nonsense")), &[], Fuse::default()).await;
    let (found, message) = reason(result);
    assert!(found == Reason::InvalidSpec && message.starts_with("spec.adopt.sealingKeys[0]"), "{message}");
    world.facts.claim.name = "other".to_owned();
    let (_, result, _) = world.pass(world.object(adopt(&document)), &[], Fuse::default()).await;
    let (found, message) = reason(result);
    assert!(found == Reason::InvalidSpec && message.contains("vision/team-key"), "{message}");
    world.facts.claim.name = "team-key".to_owned();
    let (object, result, _) = world.pass(world.object(adopt(&document)), &[], Fuse::default()).await;
    result.unwrap();
    assert_eq!(status_of(&object).sealing_keys.len(), 2);
}

fn key(id: &str, state: State, claim: Option<&Claim>) -> Key {
    let versions = vec![Version { id: "1".to_owned(), created: None, primary: true }];
    Key { id: id.to_owned(), state, deletion: None, versions, tags: claim.map(Claim::to_tags).unwrap_or_default() }
}

#[test]
fn a_pass_begins_with_what_spec_and_status_say() {
    let world = World::new();
    let own = "vision/team-key/abc";
    let start = |adopt: Option<&str>, held: Option<&str>| {
        plan::start(&world.object(adopt.map(|id| json!({"keyId": id}))).spec, held, &world.facts).map_err(|verdict| verdict.reason)
    };
    assert_eq!(start(None, None), Ok(Start::Create));
    assert_eq!(start(Some(own), None), Ok(Start::Adopt(own.to_owned())));
    assert_eq!(start(None, Some(own)), Ok(Start::Hold(own.to_owned())));
    assert_eq!(start(Some(own), Some(own)), Ok(Start::Hold(own.to_owned())));
    assert_eq!(start(Some("vision/x/y"), Some(own)), Err(Reason::KeyIdMismatch));
    assert_eq!(start(Some("vision-two/x/y"), None), Err(Reason::AccessDenied));
    assert_eq!(start(None, Some("elsewhere/x/y")), Err(Reason::AccessDenied), "a line that was taken away ends the use of an adopted key");
    let mut nobody = world.facts.clone();
    nobody.provider = None;
    let verdict = plan::start(&world.object(None).spec, None, &nobody).unwrap_err();
    let said = "spec.providerRef: KeyProvider main does not exist; create it or correct the name";
    assert_eq!((verdict.reason, verdict.message.as_str()), (Reason::ProviderNotFound, said));
}

#[test]
fn a_key_that_is_not_ours_is_said_to_be_so() {
    let facts = World::new().facts;
    let claim = facts.claim.clone();
    let other = Claim { owner_uid: "k9".to_owned(), ..claim.clone() };
    let held = |state, claim: Option<&Claim>| plan::hold(&key("vision/team-key/a", state, claim), &facts).map_err(|verdict| verdict.reason);
    assert_eq!(held(State::Enabled, Some(&claim)), Ok(()));
    assert_eq!(held(State::Enabled, Some(&other)), Err(Reason::Conflict));
    assert_eq!(held(State::Enabled, None), Err(Reason::Conflict));
}

#[test]
fn of_several_keys_that_were_left_behind_all_are_named() {
    let facts = World::new().facts;
    let other = Claim { owner_uid: "k9".to_owned(), ..facts.claim.clone() };
    let left = |id: &str, state| key(id, state, Some(&other));
    assert_eq!(plan::retained(vec![], &facts), Ok(Earlier::None));
    assert_eq!(plan::retained(vec![left("a/b/c", State::Destroyed)], &facts), Ok(Earlier::None));
    let verdict = plan::retained(vec![left("vision/t/2", State::Disabled), left("vision/t/1", State::Enabled)], &facts).unwrap_err();
    assert_eq!(verdict.reason, Reason::RetainedKeyFound);
    assert!(verdict.message.contains("vision/t/1, vision/t/2"), "{}", verdict.message);
    let own = key("vision/t/3", State::Enabled, Some(&facts.claim));
    assert_eq!(plan::retained(vec![left("vision/t/1", State::Enabled), own.clone()], &facts), Ok(Earlier::Own(own)));
}

#[tokio::test]
async fn of_a_key_whose_namespace_goes_nothing_is_written_made_or_tried_again() {
    let object = World::new().object(None);
    let going = json!({"metadata": {"name": "vision", "uid": "n", "deletionTimestamp": "2026-03-01T00:00:00Z"}});
    let key = serde_json::to_value(&object).unwrap();
    for (key, namespace) in [(Some(key.clone()), Some(going)), (Some(key), None), (None, None)] {
        let (context, writes) = testing::context(move |_, path, _| {
            let found = if path.contains("/encryptionkeys/") { key.clone() } else { namespace.clone() };
            found.map_or_else(testing::absent, |found| (200, found))
        });
        let next = reconcile(Arc::new(object.clone()), testing::filled(Vec::new()), context).await.unwrap();
        assert_eq!((next, writes.lock().unwrap().len()), (Next::Settled, 0));
    }
}

#[test]
fn a_provider_that_does_not_answer_leaves_a_ready_key_ready() {
    let world = World::new();
    let object = world.object(None);
    let failed = Err(Failure::Provider(lost()));
    let mut status = EncryptionKeyStatus::default();
    let said = observation(&failed, &status, &object, "main").unwrap();
    let why = "KeyProvider main: the provider did not answer test: the process ended here; this is retried";
    assert_eq!((said.reason, said.message.as_str()), (Reason::ProviderUnavailable, why));
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-03-01T00:00:00Z".parse().unwrap());
    let ready = observation(&Ok(()), &status, &object, "main").unwrap();
    conditions::set(&mut status.conditions, &ready, Some(1), &now);
    assert_eq!(observation(&failed, &status, &object, "main"), None);
    let gone = Err(Failure::Provider(ProviderError::NotFound { id: "x".to_owned() }));
    assert_eq!(observation(&gone, &status, &object, "main").unwrap().reason, Reason::KeyNotFound);
    let lost = Err(Failure::Provider(ProviderError::RootKey { detail: "Secret x is gone; restore that Secret".to_owned() }));
    let said = observation(&lost, &status, &object, "main").unwrap();
    let why = "KeyProvider main: Secret x is gone; restore that Secret";
    assert_eq!((said.reason, said.message.as_str()), (Reason::RootKeyLost, why));
}
