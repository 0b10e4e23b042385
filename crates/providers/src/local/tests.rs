//! The embedded KMS: conformance, and what is its own.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use kustody_core::secret::SecretBytes;

use super::{Local, RootKeySource};
use crate::key_store::KeyStore;
use crate::testing::{MemoryStore, cases, claim, context, request};
use crate::{Error, Provider, State, Wanted};

pub(super) fn local(store: &Arc<MemoryStore>, source: RootKeySource) -> Local {
    let store: Arc<dyn KeyStore> = Arc::<MemoryStore>::clone(store);
    Local::new(store, "local", source, Arc::new(|| Timestamp::UNIX_EPOCH))
}

fn fresh() -> (Arc<MemoryStore>, Local) {
    let store = Arc::new(MemoryStore::default());
    let provider = local(&store, RootKeySource::Generated);
    (store, provider)
}

macro_rules! conformance {
    ($($case:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $case() {
            cases::$case(&fresh().1).await;
        }
    )+};
}

conformance!(
    a_nonce_of_another_claim_is_refused,
    create_is_idempotent_in_its_nonce,
    a_wrapped_value_opens_for_its_context_alone,
    an_absent_key_is_told_apart,
    a_retained_key_is_found_by_its_owner_s_name,
    a_claim_is_taken_over_only_from_the_expected_one,
    a_probe_names_identity_and_capabilities,
    a_rotation_happens_once_and_old_values_open,
    another_s_key_is_neither_rotated_nor_retired,
    a_key_that_is_not_enabled_does_nothing_until_it_is,
    a_scheduled_deletion_keeps_its_time,
);

#[tokio::test]
async fn many_who_look_for_what_they_left_share_one_list_and_each_finds_its_own() {
    let (store, provider) = fresh();
    let names: Vec<String> = (0..20).map(|number| format!("key-{number}")).collect();
    for (number, name) in names.iter().enumerate().skip(1) {
        provider.create_key(&request(&format!("noncemany{number:02}"), name)).await.unwrap();
    }
    let mut damaged = store.read("kustody-key-noncemany07").await.unwrap().unwrap();
    damaged.annotations.remove("kustody.dev/key-versions");
    store.tamper(&damaged);
    let before = store.lists();
    let claims: Vec<_> = names.iter().map(|name| claim(name, "owner-2")).collect();
    let found = futures::future::join_all(claims.iter().map(|claim| provider.find_retained(claim))).await;
    assert_eq!(store.lists() - before, 2, "the first goes alone, and all others together");
    for (number, found) in found.into_iter().enumerate() {
        match (number, found) {
            (0, found) => assert!(found.unwrap().is_empty()),
            (7, found) => assert!(found.unwrap_err().to_string().contains("kustody-key-noncemany07")),
            (_, found) => {
                let ids: Vec<String> = found.unwrap().into_iter().map(|key| key.id).collect();
                assert_eq!(ids, [format!("vision/key-{number}/noncemany{number:02}")]);
            }
        }
    }
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_destroys_no_key_before_the_store_s_clock_says_so_too() {
    let store: Arc<MemoryStore> = Arc::default();
    let second = |second| Timestamp::from_second(second).unwrap();
    let jumped = Arc::new(move || second(4_000_000_000));
    let at = second(5000);
    let provider = |clock| Local::new(Arc::<MemoryStore>::clone(&store), "local", RootKeySource::Generated, clock);
    let early = provider(Arc::new(move || second(1000)));
    let key = early.create_key(&request("nonce0097", "a")).await.unwrap();
    early.set_state(&key.id, &claim("a", "owner-1"), &Wanted::Deleted { at }).await.unwrap();

    store.tell(second(4999));
    let ahead = provider(jumped);
    ahead.probe().await.unwrap();
    let found = ahead.describe_key(&key.id).await.unwrap();
    assert_eq!((found.state, found.deletion), (State::PendingDeletion, Some(at)));
    // Whoever takes it back has it back.
    ahead.set_state(&key.id, &claim("a", "owner-1"), &Wanted::Enabled).await.unwrap();
    let sealed = ahead.wrap(&key.id, &SecretBytes::new(b"x".to_vec()), &context("c")).await.unwrap();
    ahead.unwrap(&key.id, &sealed.ciphertext, &context("c")).await.unwrap();

    store.tell(second(1000));
    early.set_state(&key.id, &claim("a", "owner-1"), &Wanted::Deleted { at }).await.unwrap();
    store.tell(second(5000));
    ahead.probe().await.unwrap();
    assert_eq!(ahead.describe_key(&key.id).await.unwrap().state, State::Destroyed);
}

#[tokio::test]
async fn a_clock_that_is_not_the_store_s_schedules_no_deletion_and_both_times_are_said() {
    let store: Arc<MemoryStore> = Arc::default();
    let time = |second| Timestamp::from_second(second).unwrap();
    let provider =
        |second| Local::new(Arc::<MemoryStore>::clone(&store), "local", RootKeySource::Generated, Arc::new(move || time(second)));
    let (owner, day) = (claim("a", "owner-1"), 86_400);
    let key = provider(0).create_key(&request("nonce0096", "a")).await.unwrap();
    store.tell(time(40 * day));
    for wrong in [0, 40 * day - 301, 40 * day + 301, 90 * day] {
        let at = time(wrong + 7 * day);
        let error = provider(wrong).set_state(&key.id, &owner, &Wanted::Deleted { at }).await.unwrap_err().to_string();
        for part in [&key.id, &time(wrong).to_string(), "1970-02-10T00:00:00Z", "set the clock of the node right"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let right = provider(40 * day + 300);
        assert_eq!(right.describe_key(&key.id).await.unwrap(), key, "nothing is scheduled");
        right.probe().await.unwrap();
    }
    let (right, at) = (provider(40 * day - 300), time(47 * day));
    let scheduled = right.set_state(&key.id, &owner, &Wanted::Deleted { at }).await.unwrap();
    assert_eq!((scheduled.state, scheduled.deletion), (State::PendingDeletion, Some(at)));
    // One that is scheduled keeps its time, whatever the clock says when it is asked for again.
    assert_eq!(provider(0).set_state(&key.id, &owner, &Wanted::Deleted { at: time(day) }).await.unwrap(), scheduled);
}

#[tokio::test]
async fn a_key_is_destroyed_after_its_time_and_no_sooner() {
    let store: Arc<MemoryStore> = Arc::default();
    let now = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let provider = {
        let (store, now): (Arc<dyn KeyStore>, _) = (Arc::<MemoryStore>::clone(&store), Arc::clone(&now));
        let clock = move || Timestamp::from_second(now.load(std::sync::atomic::Ordering::Relaxed)).unwrap();
        Local::new(store, "local", RootKeySource::Generated, Arc::new(clock))
    };
    let key = provider.create_key(&request("nonce0099", "a")).await.unwrap();
    let other = provider.create_key(&request("nonce0098", "b")).await.unwrap();
    let owner = claim("a", "owner-1");
    let at = Timestamp::from_second(100).unwrap();
    provider.set_state(&key.id, &owner, &Wanted::Deleted { at }).await.unwrap();
    now.store(99, std::sync::atomic::Ordering::Relaxed);
    provider.probe().await.unwrap();
    assert_eq!(provider.describe_key(&key.id).await.unwrap().state, State::PendingDeletion);
    assert_eq!(store.read("kustody-key-nonce0099").await.unwrap().unwrap().data.len(), 1);
    now.store(100, std::sync::atomic::Ordering::Relaxed);
    provider.probe().await.unwrap();
    assert_eq!(provider.describe_key(&key.id).await.unwrap().state, State::Destroyed);
    assert!(store.read("kustody-key-nonce0099").await.unwrap().unwrap().data.is_empty());
    assert!(matches!(provider.set_state(&key.id, &owner, &Wanted::Enabled).await, Err(Error::State { .. })));
    assert_eq!(provider.describe_key(&other.id).await.unwrap(), other);
}

#[tokio::test]
async fn concurrent_rotations_make_one_version() {
    let (store, first) = fresh();
    let second = local(&store, RootKeySource::Generated);
    let key = first.create_key(&request("nonce0097", "a")).await.unwrap();
    let owner = claim("a", "owner-1");
    let (a, b) = tokio::join!(first.rotate_key(&key.id, &owner, "1"), second.rotate_key(&key.id, &owner, "1"));
    assert!(a.is_ok() || b.is_ok());
    assert_eq!(first.describe_key(&key.id).await.unwrap().versions.len(), 2);
}

#[tokio::test]
async fn concurrent_creates_with_one_nonce_make_one_key() {
    let (store, first) = fresh();
    let second = local(&store, RootKeySource::Generated);
    let (one, two) = (request("nonce0001", "a"), request("nonce0001", "a"));
    let (a, b) = tokio::join!(first.create_key(&one), second.create_key(&two));
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!(store.names().len(), 2, "one key and one root: {:?}", store.names());
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test compares what was opened")]
async fn a_second_process_opens_what_the_first_wrapped() {
    let (store, first) = fresh();
    let key = first.create_key(&request("nonce0002", "a")).await.unwrap();
    let wrapped = first.wrap(&key.id, &SecretBytes::new(b"seed".to_vec()), &context("x")).await.unwrap();
    let second = local(&store, RootKeySource::Generated);
    assert_eq!(second.unwrap(&key.id, &wrapped.ciphertext, &context("x")).await.unwrap().expose(), b"seed");
}

#[tokio::test]
async fn a_lost_root_key_is_never_replaced() {
    let (store, first) = fresh();
    first.create_key(&request("nonce0003", "a")).await.unwrap();
    let root = root_record(&store);
    store.remove(&root);
    let error = local(&store, RootKeySource::Generated).create_key(&request("nonce0004", "b")).await.unwrap_err();
    let said = error.to_string();
    let what = format!("the generated root key of KeyProvider local (Secret {root} in the operator's namespace) is gone");
    assert!(said.starts_with(&what) && said.contains("restore that Secret from a backup or by kubectl kustody import-keys"), "{said}");
    assert!(!store.names().contains(&root));
}

#[tokio::test]
async fn a_record_moved_to_another_key_does_not_open() {
    let (store, provider) = fresh();
    let victim = provider.create_key(&request("nonce0005", "a")).await.unwrap();
    provider.create_key(&request("nonce0006", "b")).await.unwrap();
    let wrapped = provider.wrap(&victim.id, &SecretBytes::new(b"seed".to_vec()), &context("x")).await.unwrap();
    let mut stolen = store.read("kustody-key-nonce0006").await.unwrap().unwrap();
    stolen.data = store.read("kustody-key-nonce0005").await.unwrap().unwrap().data;
    store.tamper(&stolen);
    let error = provider.unwrap("vision/b/nonce0006", &wrapped.ciphertext, &context("x")).await.err().unwrap();
    assert!(error.to_string().contains("altered or moved"), "{error}");
}

#[tokio::test]
async fn an_id_that_cannot_be_ours_is_absent_and_never_part_of_a_request() {
    let (store, provider) = fresh();
    provider.create_key(&request("nonce0008", "a")).await.unwrap();
    for id in
        ["vision/a/nonce0008?x=y", "vision/a/nonce0008%2F..%2Fx", "vision/b/nonce0008", "other/a/nonce0008", "nonce0008", "", "vision/a/"]
    {
        let error = provider.describe_key(id).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{id}: {error}");
    }
    assert!(store.reads().iter().all(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')), "{:?}", store.reads());
}

#[tokio::test]
async fn no_key_or_version_is_made_under_a_root_key_that_only_this_process_still_holds() {
    let (store, provider) = fresh();
    let key = provider.create_key(&request("nonce0009", "a")).await.unwrap();
    store.remove(&root_record(&store));
    let rotated = provider.rotate_key(&key.id, &claim("a", "owner-1"), "1").await;
    for error in [provider.create_key(&request("nonce0010", "b")).await.err(), provider.probe().await.err(), rotated.err()] {
        assert!(error.unwrap().to_string().contains("restore that Secret"));
    }
    assert_eq!(provider.describe_key(&key.id).await.unwrap(), key);
    // What runs goes on: the root key that made the key is still in memory.
    provider.wrap(&key.id, &SecretBytes::new(vec![1]), &context("x")).await.unwrap();
}

#[tokio::test]
async fn a_provider_applied_again_finds_its_keys_and_another_s_are_not_its_own() {
    let (store, first) = fresh();
    let key = first.create_key(&request("nonce0011", "a")).await.unwrap();
    assert_eq!(local(&store, RootKeySource::Generated).describe_key(&key.id).await.unwrap(), key);
    let port: Arc<dyn KeyStore> = Arc::<MemoryStore>::clone(&store);
    let other = Local::new(port, "other", RootKeySource::Generated, Arc::new(|| Timestamp::UNIX_EPOCH));
    assert!(matches!(other.describe_key(&key.id).await, Err(Error::NotFound { .. })));
    assert_eq!(other.find_by_nonce("nonce0011").await.unwrap(), None);
    assert!(matches!(other.create_key(&request("nonce0011", "a")).await, Err(Error::Conflict { .. })));
}

pub(super) fn root_record(store: &MemoryStore) -> String {
    store.names().into_iter().find(|name| name.starts_with("kustody-root-")).unwrap()
}

#[tokio::test]
async fn a_root_key_file_put_right_needs_no_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryStore::default());
    let key = local(&store, file(directory.path(), 0o600, &[1; 32])).create_key(&request("nonce0012", "a")).await.unwrap();
    let provider = local(&store, file(directory.path(), 0o600, &[2; 32]));
    assert!(provider.wrap(&key.id, &SecretBytes::new(vec![1]), &context("x")).await.is_err());
    file(directory.path(), 0o600, &[1; 32]);
    provider.wrap(&key.id, &SecretBytes::new(vec![1]), &context("x")).await.unwrap();
}

#[tokio::test]
async fn a_disabled_key_neither_wraps_nor_unwraps() {
    let (store, provider) = fresh();
    let key = provider.create_key(&request("nonce0013", "a")).await.unwrap();
    let wrapped = provider.wrap(&key.id, &SecretBytes::new(vec![1]), &context("x")).await.unwrap();
    let mut record = store.read("kustody-key-nonce0013").await.unwrap().unwrap();
    record.annotations.insert("kustody.dev/key-state".to_owned(), "\"Disabled\"".to_owned());
    store.tamper(&record);
    let errors = [
        provider.wrap(&key.id, &SecretBytes::new(vec![1]), &context("x")).await.err(),
        provider.unwrap(&key.id, &wrapped.ciphertext, &context("x")).await.err(),
    ];
    for error in errors {
        let error = error.unwrap();
        assert!(matches!(error, Error::State { state: State::Disabled, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_lost_answer_of_the_store_makes_no_second_key() {
    let (store, provider) = fresh();
    store.lose_the_answer_of_the_next_create_of("kustody-key-");
    let error = provider.create_key(&request("nonce0014", "a")).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let key = provider.create_key(&request("nonce0014", "a")).await.unwrap();
    assert_eq!(provider.find_retained(&claim("a", "owner-1")).await.unwrap(), vec![key]);
}

#[tokio::test]
async fn an_unreadable_annotation_names_the_secret_and_the_remedy() {
    let (store, provider) = fresh();
    let key = provider.create_key(&request("nonce0015", "a")).await.unwrap();
    let mut record = store.read("kustody-key-nonce0015").await.unwrap().unwrap();
    record.annotations.remove("kustody.dev/key-versions");
    store.tamper(&record);
    let error = provider.describe_key(&key.id).await.unwrap_err().to_string();
    for part in ["Secret kustody-key-nonce0015", "kustody.dev/key-versions", "restore it from a backup"] {
        assert!(error.contains(part), "{error}");
    }
}

pub(super) fn file(directory: &Path, mode: u32, bytes: &[u8]) -> RootKeySource {
    let path = directory.join("root-key");
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    RootKeySource::File(path)
}

#[tokio::test]
async fn a_root_key_file_that_group_or_world_can_read_is_refused_with_path_mode_and_remedy() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [0o440, 0o404, 0o640] {
        let source = file(directory.path(), mode, &[7; 32]);
        let error = local(&Arc::default(), source).probe().await.unwrap_err().to_string();
        assert!(error.contains("root-key") && error.contains(&format!("{mode:04o}")) && error.contains("0400"), "{error}");
        std::fs::remove_file(directory.path().join("root-key")).unwrap();
    }
}

#[tokio::test]
async fn a_root_key_file_holds_32_bytes_raw_or_as_base64() {
    let directory = tempfile::tempdir().unwrap();
    for good in [&[7u8; 32][..], b"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n"] {
        let source = file(directory.path(), 0o600, good);
        assert_eq!(local(&Arc::default(), source).probe().await.unwrap().root_key_in_cluster, Some(false));
    }
    let source = file(directory.path(), 0o600, b"short");
    let error = local(&Arc::default(), source).probe().await.unwrap_err().to_string();
    assert!(error.contains("32 bytes"), "{error}");
}

#[tokio::test]
async fn another_root_key_is_told_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryStore::default());
    let first = local(&store, file(directory.path(), 0o600, &[1; 32]));
    let key = first.create_key(&request("nonce0007", "a")).await.unwrap();
    let second = local(&store, file(directory.path(), 0o600, &[2; 32]));
    let before = store.dump();
    for error in [
        second.probe().await.err(),
        second.wrap(&key.id, &SecretBytes::new(vec![1]), &context("x")).await.err(),
        second.create_key(&request("nonce0016", "b")).await.err(),
    ] {
        let Some(Error::RootKey { detail }) = error else { panic!("{error:?}") };
        for part in
            ["root-key", "is not the root key that the keys of KeyProvider local are under", "nothing was overwritten", "restore that one"]
        {
            assert!(detail.contains(part), "{part}: {detail}");
        }
    }
    assert_eq!(store.dump(), before, "nothing was written");
}
