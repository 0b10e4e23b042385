//! Exports and imports between stores, as between clusters.
#![expect(clippy::disallowed_methods, reason = "the tests compare what was opened, and tamper with records")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use kustody_core::secret::SecretBytes;
use tempfile::TempDir;

use super::super::tests::{local, root_record};
use super::super::{Derivation, Local, RootKeySource};
use super::*;
use crate::testing::{MemoryStore, claim, context, request};
use crate::{Claim, Provider, State, Wanted};

/// A desk with the files that a person has.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.put("root", &[1; 32]);
        desk.put("other-root", &[2; 32]);
        desk.put("words", b"correct horse battery staple\n");
        desk.put("other-words", b"correct horse battery stable\n");
        desk
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with(&self, root: Option<&str>, passphrase: Option<&str>) -> Secrets {
        Secrets { root: root.map(|name| self.path(name)), passphrase: passphrase.map(|name| self.path(name)) }
    }

    fn source(&self, kind: Source) -> RootKeySource {
        match kind {
            Source::Generated => RootKeySource::Generated,
            Source::File => RootKeySource::File(self.path("root")),
            // PBKDF2: a test build takes long for Argon2id.
            Source::Passphrase => RootKeySource::Passphrase { path: self.path("words"), derivation: Some(Derivation::Pbkdf2HmacSha256) },
        }
    }
}

/// Two keys, one with a value under it.
async fn made(store: &Arc<MemoryStore>, source: RootKeySource) -> (String, Vec<u8>) {
    let provider = local(store, source);
    let key = provider.create_key(&request("noncerec1", "a")).await.unwrap();
    provider.create_key(&request("noncerec2", "b")).await.unwrap();
    let wrapped = provider.wrap(&key.id, &SecretBytes::new(b"seed".to_vec()), &context("x")).await.unwrap();
    (key.id, wrapped.ciphertext)
}

async fn opens(store: &Arc<MemoryStore>, source: RootKeySource, (id, ciphertext): &(String, Vec<u8>)) {
    assert_eq!(local(store, source).unwrap(id, ciphertext, &context("x")).await.unwrap().expose(), b"seed");
}

async fn exported(store: &MemoryStore, secrets: &Secrets) -> Exported {
    export(store, "local", secrets, Timestamp::UNIX_EPOCH).await.unwrap()
}

fn refusal<T>(result: Result<T, Error>, parts: &[&str]) {
    let error = result.err().unwrap().to_string();
    for part in parts {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn an_export_and_its_root_key_open_on_an_empty_store_what_was_wrapped_before() {
    let desk = Desk::new();
    for (kind, secrets) in [
        (Source::File, desk.with(Some("root"), None)),
        (Source::File, desk.with(None, Some("other-words"))),
        (Source::Passphrase, desk.with(Some("words"), None)),
        (Source::Generated, desk.with(None, Some("words"))),
    ] {
        let store = Arc::new(MemoryStore::default());
        let value = made(&store, desk.source(kind)).await;
        let Exported { text, contents } = exported(&store, &secrets).await;
        assert_eq!(contents.keys, ["vision/a/noncerec1", "vision/b/noncerec2"]);
        assert_eq!(contents.holds_root_key, kind == Source::Generated);
        assert_eq!(contents.proven, kind == Source::Generated || secrets.root.is_some());

        let empty = Arc::new(MemoryStore::default());
        let first = import(empty.as_ref(), &text, &secrets).await.unwrap();
        assert_eq!((first.made, &first.contents), (2, &contents));
        let after = empty.dump();
        let second = import(empty.as_ref(), &text, &secrets).await.unwrap();
        assert_eq!((second.made, empty.dump()), (0, after), "a second import changes nothing");
        assert_eq!(empty.names(), store.names());
        opens(&empty, desk.source(kind), &value).await;
        local(&empty, desk.source(kind)).probe().await.unwrap();
    }
}

#[tokio::test]
async fn the_export_alone_holds_no_material_and_no_root_key() {
    let desk = Desk::new();
    let store = Arc::new(MemoryStore::default());
    made(&store, RootKeySource::Generated).await;
    let root = store.read(&root_record(&store)).await.unwrap().unwrap();
    let text = exported(&store, &desk.with(None, Some("words"))).await.text;
    assert!(!text.contains("version-1") && !text.contains("noncerec1"));
    let needle = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &root.data["root"].expose()[..30]);
    assert!(!text.contains(&needle));
}

#[tokio::test]
async fn an_export_is_always_encrypted() {
    let desk = Desk::new();
    let store = Arc::new(MemoryStore::default());
    made(&store, RootKeySource::Generated).await;
    refusal(export(store.as_ref(), "local", &desk.with(Some("root"), None), Timestamp::UNIX_EPOCH).await, &["was generated", "passphrase"]);
    let store = Arc::new(MemoryStore::default());
    made(&store, desk.source(Source::File)).await;
    refusal(export(store.as_ref(), "local", &Secrets::default(), Timestamp::UNIX_EPOCH).await, &["name the file with the root key"]);
}

#[tokio::test]
async fn a_wrong_root_key_or_passphrase_is_told_before_anything_is_read_or_written() {
    let desk = Desk::new();
    let store = Arc::new(MemoryStore::default());
    made(&store, desk.source(Source::File)).await;
    let wrong = desk.with(Some("other-root"), None);
    let parts = ["other-root", "is not the root key", "nothing was overwritten"];
    refusal(export(store.as_ref(), "local", &wrong, Timestamp::UNIX_EPOCH).await, &parts);
    let by_root = exported(&store, &desk.with(Some("root"), None)).await.text;
    let by_words = exported(&store, &desk.with(Some("root"), Some("words"))).await.text;
    let empty = MemoryStore::default();
    refusal(import(&empty, &by_root, &wrong).await, &parts);
    refusal(import(&empty, &by_root, &desk.with(None, Some("words"))).await, &["encrypted under its root key", "check value"]);
    refusal(import(&empty, &by_words, &desk.with(None, Some("other-words"))).await, &["does not open with this passphrase"]);
    refusal(import(&empty, &by_words, &desk.with(Some("root"), None)).await, &["encrypted under a passphrase"]);
    assert!(empty.names().is_empty() && empty.reads().is_empty());
}

#[tokio::test]
async fn a_store_under_another_root_key_is_left_as_it_is() {
    let desk = Desk::new();
    let store = Arc::new(MemoryStore::default());
    made(&store, desk.source(Source::File)).await;
    let secrets = desk.with(Some("root"), None);
    let text = exported(&store, &secrets).await.text;
    let target = Arc::new(MemoryStore::default());
    local(&target, RootKeySource::Generated).create_key(&request("noncerec9", "z")).await.unwrap();
    let before = target.dump();
    refusal(
        import(target.as_ref(), &text, &secrets).await,
        &["is not the one of the export", "nothing was written", "keys are under that one (1 of them)"],
    );
    target.remove("kustody-key-noncerec9");
    refusal(import(target.as_ref(), &text, &secrets).await, &["no key is under that one", "delete Secret kustody-root-"]);
    assert_eq!(target.dump()[..], before[1..], "nothing was written");
}

#[tokio::test]
async fn a_key_that_is_there_with_other_material_refuses_the_whole_import() {
    let desk = Desk::new();
    let store = Arc::new(MemoryStore::default());
    made(&store, desk.source(Source::File)).await;
    let secrets = desk.with(Some("root"), None);
    let text = exported(&store, &secrets).await.text;
    store.remove("kustody-key-noncerec1");
    let mut record = store.read("kustody-key-noncerec2").await.unwrap().unwrap();
    record.data = BTreeMap::from([("version-1".to_owned(), SecretBytes::new(vec![0]))]);
    store.tamper(&record);
    refusal(import(store.as_ref(), &text, &secrets).await, &["vision/b/noncerec2", "other content", "left as it is"]);
    record.data.clear();
    store.tamper(&record);
    refusal(import(store.as_ref(), &text, &secrets).await, &["fewer versions than the export", "delete that Secret and import again"]);
    assert!(!store.names().contains(&"kustody-key-noncerec1".to_owned()), "nothing was written");
}

#[tokio::test]
async fn what_went_on_since_the_export_is_kept() {
    let desk = Desk::new();
    let store = Arc::new(MemoryStore::default());
    let (id, _) = made(&store, desk.source(Source::File)).await;
    let secrets = desk.with(Some("root"), None);
    let text = exported(&store, &secrets).await.text;
    let taken = claim("a", "owner-2");
    local(&store, desk.source(Source::File)).tag_key(&id, Some(&claim("a", "owner-1")), &taken.to_tags()).await.unwrap();
    let before = store.dump();
    assert_eq!(import(store.as_ref(), &text, &secrets).await.unwrap().made, 0);
    assert_eq!(store.dump(), before);
}

#[tokio::test]
async fn an_imported_key_is_found_by_its_names_until_one_takes_it_back() {
    let desk = Desk::new();
    let store = Arc::new(MemoryStore::default());
    let (id, _) = made(&store, desk.source(Source::File)).await;
    let secrets = desk.with(Some("root"), None);
    let text = exported(&store, &secrets).await.text;
    let empty = Arc::new(MemoryStore::default());
    import(empty.as_ref(), &text, &secrets).await.unwrap();
    let provider = local(&empty, desk.source(Source::File));
    let now = Claim { cluster: "another".to_owned(), namespace_uid: "another".to_owned(), ..claim("a", "owner-9") };
    let ids = |keys: Vec<Key>| keys.into_iter().map(|key| key.id).collect::<Vec<_>>();
    assert_eq!(ids(provider.find_retained(&now).await.unwrap()), [id.as_str()]);
    assert!(provider.find_retained(&Claim { namespace: "other".to_owned(), ..now.clone() }).await.unwrap().is_empty());
    provider.tag_key(&id, Some(&claim("a", "owner-1")), &now.to_tags()).await.unwrap();
    let later = Claim { cluster: "third".to_owned(), ..now.clone() };
    assert!(provider.find_retained(&later).await.unwrap().is_empty(), "it belongs to somebody again");
    assert_eq!(provider.describe_key(&id).await.unwrap().state, State::Enabled);
}

#[tokio::test]
async fn a_key_whose_deletion_was_scheduled_is_imported_disabled_and_not_destroyed() {
    let desk = Desk::new();
    let store = Arc::new(MemoryStore::default());
    let value = made(&store, desk.source(Source::File)).await;
    let owner = claim("a", "owner-1");
    let at = Timestamp::from_second(100).unwrap();
    local(&store, desk.source(Source::File)).set_state(&value.0, &owner, &Wanted::Deleted { at }).await.unwrap();
    let secrets = desk.with(Some("root"), None);
    let text = exported(&store, &secrets).await.text;
    let empty = Arc::new(MemoryStore::default());
    import(empty.as_ref(), &text, &secrets).await.unwrap();
    let later = Arc::new(|| Timestamp::from_second(1_000).unwrap());
    let provider = Local::new(Arc::<MemoryStore>::clone(&empty), "local", desk.source(Source::File), later);
    provider.probe().await.unwrap();
    let key = provider.describe_key(&value.0).await.unwrap();
    assert_eq!((key.state, key.deletion), (State::Disabled, None));
    assert_eq!(import(empty.as_ref(), &text, &secrets).await.unwrap().made, 0);
    provider.set_state(&value.0, &owner, &Wanted::Enabled).await.unwrap();
    opens(&empty, desk.source(Source::File), &value).await;
}

#[tokio::test]
async fn a_key_that_was_destroyed_since_stays_so_and_hinders_no_import() {
    let desk = Desk::new();
    let store = Arc::new(MemoryStore::default());
    let (id, _) = made(&store, desk.source(Source::File)).await;
    let secrets = desk.with(Some("root"), None);
    let text = exported(&store, &secrets).await.text;
    store.remove("kustody-key-noncerec2");
    let mut record = store.read("kustody-key-noncerec1").await.unwrap().unwrap();
    record::destroy(&mut record).unwrap();
    store.tamper(&record);
    let imported = import(store.as_ref(), &text, &secrets).await.unwrap();
    assert_eq!((imported.made, imported.destroyed), (1, vec![id.clone()]));
    let provider = local(&store, desk.source(Source::File));
    assert_eq!(provider.describe_key(&id).await.unwrap().state, State::Destroyed);
    let again = exported(&store, &secrets).await;
    assert!(again.contents.proven, "a destroyed key has nothing to prove");
    let empty = Arc::new(MemoryStore::default());
    assert_eq!(import(empty.as_ref(), &again.text, &secrets).await.unwrap().destroyed, [""; 0]);
}

#[tokio::test]
async fn a_listed_version_without_material_is_not_exported() {
    let desk = Desk::new();
    let store = Arc::new(MemoryStore::default());
    made(&store, desk.source(Source::File)).await;
    let mut record = store.read("kustody-key-noncerec2").await.unwrap().unwrap();
    record.data.clear();
    store.tamper(&record);
    for secrets in [desk.with(Some("root"), None), desk.with(None, Some("words"))] {
        let parts = ["version 1 of key vision/b/noncerec2 has no material", "restore it from a backup"];
        refusal(export(store.as_ref(), "local", &secrets, Timestamp::UNIX_EPOCH).await, &parts);
    }
}

#[tokio::test]
async fn without_the_record_of_the_root_key_an_export_takes_the_root_key_itself() {
    let desk = Desk::new();
    for (kind, gone) in [(Source::File, false), (Source::Generated, true), (Source::Passphrase, true)] {
        let store = Arc::new(MemoryStore::default());
        let value = made(&store, desk.source(kind)).await;
        store.remove(&root_record(&store));
        let words = desk.with(None, Some("words"));
        refusal(export(store.as_ref(), "local", &words, Timestamp::UNIX_EPOCH).await, &["kustody-root-", "--root", "restore that Secret"]);
        let secrets = desk.with(Some("root"), Some("words"));
        if gone {
            refusal(export(store.as_ref(), "local", &secrets, Timestamp::UNIX_EPOCH).await, &["is not the root key"]);
        } else {
            let empty = Arc::new(MemoryStore::default());
            import(empty.as_ref(), &exported(&store, &secrets).await.text, &secrets).await.unwrap();
            opens(&empty, desk.source(kind), &value).await;
        }
    }
}

#[tokio::test]
async fn a_record_that_does_not_open_is_not_exported() {
    let desk = Desk::new();
    let store = Arc::new(MemoryStore::default());
    made(&store, desk.source(Source::File)).await;
    let mut record = store.read("kustody-key-noncerec2").await.unwrap().unwrap();
    record.data = BTreeMap::from([("version-1".to_owned(), SecretBytes::new(vec![0; 60]))]);
    store.tamper(&record);
    let secrets = desk.with(Some("root"), None);
    refusal(export(store.as_ref(), "local", &secrets, Timestamp::UNIX_EPOCH).await, &["vision/b/noncerec2", "was altered or moved"]);
    refusal(export(store.as_ref(), "none", &secrets, Timestamp::UNIX_EPOCH).await, &["KeyProvider none has no keys"]);
}

#[tokio::test]
async fn an_import_that_was_cut_short_is_finished_by_the_next() {
    let desk = Desk::new();
    let store = Arc::new(MemoryStore::default());
    let value = made(&store, desk.source(Source::Generated)).await;
    let secrets = desk.with(None, Some("words"));
    let text = exported(&store, &secrets).await.text;
    for lost in ["kustody-root-", "kustody-key-"] {
        let empty = Arc::new(MemoryStore::default());
        empty.lose_the_answer_of_the_next_create_of(lost);
        assert!(import(empty.as_ref(), &text, &secrets).await.is_err());
        import(empty.as_ref(), &text, &secrets).await.unwrap();
        opens(&empty, RootKeySource::Generated, &value).await;
    }
}

/// Exports of this format's first release, each followed by a value that was wrapped under its first key, as hex.
#[tokio::test]
async fn an_export_of_the_first_release_still_opens() {
    let desk = Desk::new();
    for (kind, vector, secrets) in [
        (Source::File, include_str!("../../../tests/vectors/export-v1-file.txt"), desk.with(Some("root"), None)),
        (Source::Passphrase, include_str!("../../../tests/vectors/export-v1-passphrase.txt"), desk.with(Some("words"), None)),
        (Source::Generated, include_str!("../../../tests/vectors/export-v1-generated.txt"), desk.with(None, Some("words"))),
    ] {
        let (text, ciphertext) = vector.trim_end().rsplit_once('\n').unwrap();
        let ciphertext = (0..ciphertext.len()).step_by(2).map(|at| u8::from_str_radix(&ciphertext[at..at + 2], 16).unwrap()).collect();
        let empty = Arc::new(MemoryStore::default());
        import(empty.as_ref(), text, &secrets).await.unwrap();
        opens(&empty, desk.source(kind), &("vision/a/noncerec1".to_owned(), ciphertext)).await;
    }
}
