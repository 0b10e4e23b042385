//! Root keys from passphrases, and root keys that are lost or not the right ones.
#![expect(clippy::disallowed_methods, reason = "the tests compare what was opened, and move root keys")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::Local;
use super::super::tests::{file, local, root_record};
use super::*;
use crate::testing::{MemoryStore, context, request};
use crate::{Provider, State};

const WORDS: &[u8] = b"correct horse battery staple";

fn written(directory: &Path, mode: u32, bytes: &[u8]) -> PathBuf {
    let path = directory.join("passphrase");
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// PBKDF2: a test build takes long for Argon2id.
fn passphrase(directory: &Path, bytes: &[u8]) -> RootKeySource {
    RootKeySource::Passphrase { path: written(directory, 0o400, bytes), derivation: Some(Derivation::Pbkdf2HmacSha256) }
}

fn value() -> SecretBytes {
    SecretBytes::new(b"seed".to_vec())
}

fn root_error(error: Option<Error>, parts: &[&str]) {
    let Some(Error::RootKey { detail }) = error else { panic!("{error:?}") };
    for part in parts {
        assert!(detail.contains(part), "{part}: {detail}");
    }
}

#[tokio::test]
async fn a_second_process_opens_with_the_same_passphrase_whatever_its_line_end() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    let first = local(&store, passphrase(directory.path(), WORDS));
    let key = first.create_key(&request("nonceroot1", "a")).await.unwrap();
    let wrapped = first.wrap(&key.id, &value(), &context("x")).await.unwrap();
    for end in ["", "\n", "\r\n"] {
        let again = local(&store, passphrase(directory.path(), &[WORDS, end.as_bytes()].concat()));
        assert_eq!(again.unwrap(&key.id, &wrapped.ciphertext, &context("x")).await.unwrap().expose(), b"seed");
        let probe = again.probe().await.unwrap();
        assert_eq!(probe.root_key_in_cluster, Some(false));
    }
    let record = store.read(&root_record(&store)).await.unwrap().unwrap();
    assert!(record.data.is_empty(), "the store holds salt and parameters, never the root key");
}

#[tokio::test]
async fn argon2id_is_the_choice_of_who_chooses_none_and_stays_recorded() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    let path = written(directory.path(), 0o400, WORDS);
    let source = |derivation| RootKeySource::Passphrase { path: path.clone(), derivation };
    local(&store, source(None)).create_key(&request("nonceroot2", "a")).await.unwrap();
    let record = store.read(&root_record(&store)).await.unwrap().unwrap();
    let parameters = &record.annotations["kustody.dev/root-derivation"];
    assert!(parameters.contains("\"Argon2id\"") && parameters.contains("65536"), "{parameters}");
    let other = local(&store, source(Some(Derivation::Pbkdf2HmacSha256))).probe().await.unwrap_err();
    let (Error::Configuration { .. }, text) = (&other, other.to_string()) else { panic!("{other:?}") };
    assert!(text.contains("spec.local.rootKey.passphrase.derivation") && text.contains("Argon2id"), "{text}");
}

#[tokio::test]
async fn nothing_is_derived_or_written_before_the_first_key() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    for source in [RootKeySource::Generated, passphrase(directory.path(), WORDS), file(directory.path(), 0o600, &[1; 32])] {
        local(&store, source).probe().await.unwrap();
        assert!(store.names().is_empty(), "an import can still bring a root key of its own");
    }
}

#[tokio::test]
async fn another_passphrase_is_told_before_anything_is_written() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    let key = local(&store, passphrase(directory.path(), WORDS)).create_key(&request("nonceroot3", "a")).await.unwrap();
    let before = store.dump();
    let other = local(&store, passphrase(directory.path(), b"correct horse battery stable"));
    let parts = ["the passphrase in", "with the salt in Secret kustody-root-", "nothing was overwritten", "restore that one"];
    root_error(other.probe().await.err(), &parts);
    root_error(other.create_key(&request("nonceroot4", "b")).await.err(), &parts);
    root_error(other.wrap(&key.id, &value(), &context("x")).await.err(), &parts);
    assert_eq!(store.dump(), before);
}

#[tokio::test]
async fn a_passphrase_that_was_put_right_needs_no_restart_and_a_wrong_one_does_not_end_what_runs() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    let provider = local(&store, passphrase(directory.path(), WORDS));
    let key = provider.create_key(&request("nonceroot5", "a")).await.unwrap();
    written(directory.path(), 0o400, b"another passphrase");
    assert!(provider.probe().await.is_err());
    provider.wrap(&key.id, &value(), &context("x")).await.unwrap();
    written(directory.path(), 0o400, WORDS);
    provider.probe().await.unwrap();
}

#[tokio::test]
async fn an_altered_salt_is_told_and_a_lost_one_is_never_replaced() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    local(&store, passphrase(directory.path(), WORDS)).create_key(&request("nonceroot6", "a")).await.unwrap();
    let name = root_record(&store);
    let whole = store.read(&name).await.unwrap().unwrap();
    let mut altered = store.read(&name).await.unwrap().unwrap();
    let parameters = record::json(&Parameters::new(Derivation::Pbkdf2HmacSha256).unwrap()).unwrap();
    altered.annotations.insert("kustody.dev/root-derivation".to_owned(), parameters);
    store.tamper(&altered);
    root_error(local(&store, passphrase(directory.path(), WORDS)).probe().await.err(), &["with the salt in Secret", "restore that one"]);
    store.remove(&name);
    let error = local(&store, passphrase(directory.path(), WORDS)).create_key(&request("nonceroot7", "b")).await.err();
    root_error(
        error,
        &["the salt of the passphrase's root key of KeyProvider local", &name, "is gone", "restore that Secret", "import-keys"],
    );
    assert!(!store.names().contains(&name));
    store.tamper(&whole);
    local(&store, passphrase(directory.path(), WORDS)).probe().await.unwrap();
}

#[tokio::test]
async fn a_passphrase_file_is_refused_as_a_root_key_file_is() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    for (mode, bytes, parts) in [
        (0o440, WORDS, vec!["passphrase file", "0440", "0400"]),
        (0o404, WORDS, vec!["0404"]),
        (0o400, &b"short\n"[..], vec!["fewer than 12 bytes", "random words"]),
        (0o400, &[b'x'; 257], vec!["more than 256 bytes"]),
    ] {
        let path = written(directory.path(), mode, bytes);
        let provider = local(&store, RootKeySource::Passphrase { path, derivation: None });
        let error = provider.probe().await.unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}

#[tokio::test]
async fn a_root_key_of_another_kind_is_refused_with_the_kind_to_apply() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    local(&store, RootKeySource::Generated).create_key(&request("nonceroot8", "a")).await.unwrap();
    root_error(
        local(&store, passphrase(directory.path(), WORDS)).probe().await.err(),
        &["of KeyProvider local is passphrase", "apply it with rootKey.generated"],
    );
    let store = Arc::new(MemoryStore::default());
    local(&store, file(directory.path(), 0o600, &[1; 32])).create_key(&request("nonceroot9", "a")).await.unwrap();
    let before = store.dump();
    root_error(
        local(&store, RootKeySource::Generated).probe().await.err(),
        &["of KeyProvider local is generated", "apply it with rootKey.file"],
    );
    root_error(local(&store, RootKeySource::Generated).create_key(&request("nonceroota", "b")).await.err(), &["rootKey.file"]);
    assert_eq!(store.dump(), before);
}

#[tokio::test]
async fn a_generated_root_key_that_was_saved_to_a_file_is_the_same_root_key() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    let key = local(&store, RootKeySource::Generated).create_key(&request("noncerootb", "a")).await.unwrap();
    let record = store.read(&root_record(&store)).await.unwrap().unwrap();
    let saved = file(directory.path(), 0o600, record.data["root"].expose());
    let provider = local(&store, saved);
    assert_eq!(provider.probe().await.unwrap().root_key_in_cluster, Some(true), "it still lies beside the keys");
    assert_eq!(provider.describe_key(&key.id).await.unwrap().state, State::Enabled);
    provider.wrap(&key.id, &value(), &context("x")).await.unwrap();
}

#[tokio::test]
async fn what_an_earlier_release_left_is_recorded_with_the_next_key() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    let source = || file(directory.path(), 0o600, &[1; 32]);
    let old = local(&store, source()).create_key(&request("noncerootc", "a")).await.unwrap();
    store.remove(&root_record(&store));
    local(&store, source()).wrap(&old.id, &value(), &context("x")).await.unwrap();
    let wrong = local(&store, file(directory.path(), 0o600, &[2; 32])).create_key(&request("noncerootd", "b")).await.err();
    root_error(wrong, &["is not the root key that key vision/a/noncerootc of KeyProvider local was wrapped with"]);
    local(&store, source()).create_key(&request("noncerootd", "b")).await.unwrap();
    root_record(&store);

    let store = Arc::new(MemoryStore::default());
    local(&store, RootKeySource::Generated).create_key(&request("noncerootc", "a")).await.unwrap();
    let mut record = store.read(&root_record(&store)).await.unwrap().unwrap();
    record.annotations.clear();
    store.tamper(&record);
    local(&store, RootKeySource::Generated).create_key(&request("noncerootd", "b")).await.unwrap();
    let record = store.read(&root_record(&store)).await.unwrap().unwrap();
    assert!(record.annotations.contains_key("kustody.dev/root-check"));
}

#[tokio::test]
async fn a_generated_root_key_in_another_s_place_makes_no_key() {
    let (store, other) = (Arc::new(MemoryStore::default()), Arc::new(MemoryStore::default()));
    let provider: Local = local(&store, RootKeySource::Generated);
    provider.create_key(&request("nonceroote", "a")).await.unwrap();
    local(&other, RootKeySource::Generated).create_key(&request("nonceroote", "a")).await.unwrap();
    let mut record = store.read(&root_record(&store)).await.unwrap().unwrap();
    record.data = other.read(&root_record(&other)).await.unwrap().unwrap().data;
    store.tamper(&record);
    let before = store.dump();
    root_error(provider.create_key(&request("noncerootf", "b")).await.err(), &["nothing was overwritten", "restore that one"]);
    assert_eq!(store.dump(), before);
}
