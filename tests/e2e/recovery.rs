//! The embedded KMS after a disaster: git, the export of its keys and its root key bring every sealed value back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::canary::{canary, digest};
use crate::harness::home::Home;
use crate::harness::{SYSTEM, Said, apply, condition, eventually, get, kubectl, objects, run, setting};

/// The file that `scripts/test.sh` has mounted into the operator: 32 bytes, a root key as well as a passphrase.
const MOUNTED: &str = "/etc/kustody/root-key/key";

/// A `KeyProvider` of the test's own, for one namespace.
fn provider(home: &Home, root_key: &Value, adopt: bool) -> Value {
    let mut line = json!({"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": home.name}}, "createKeys": true});
    if adopt {
        line["adopt"] = json!([{"ids": ["{namespace}/team-key/*"], "operations": ["Use"]}]);
    }
    json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "KeyProvider", "metadata": {"name": provider_name(home)},
        "spec": {"local": {"rootKey": root_key}, "access": [line]},
    })
}

fn provider_name(home: &Home) -> String {
    format!("{}-kms", home.name)
}

fn key(home: &Home) -> Value {
    let mut key = objects::key(&home.name, "team-key");
    key["spec"]["providerRef"]["name"] = json!(provider_name(home));
    key
}

/// Selectors of all Secrets of the provider: its keys, and its root.
fn selectors(home: &Home) -> [String; 2] {
    let short = digest(&provider_name(home))[..10].to_owned();
    ["provider", "root"].map(|what| format!("kustody.dev/local-{what}={short}"))
}

fn records(home: &Home) -> String {
    selectors(home).map(|selector| kubectl(&["-n", SYSTEM, "get", "secrets", "-l", &selector, "-o", "name"]).good()).concat()
}

fn private(path: &Path, bytes: &[u8]) -> String {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The files on a person's desk.
struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A copy of what is mounted.
    fn mounted(&self) -> String {
        let secret = get(&["-n", SYSTEM, "secret", "e2e-root-key"]);
        private(&self.path("mounted"), &STANDARD.decode(secret["data"]["key"].as_str().unwrap()).unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        private(&self.path(name), bytes)
    }
}

fn plugin(arguments: &[&str]) -> Said {
    run(&format!("{}/kubectl-kustody", setting("KUSTODY_BIN")), arguments, b"")
}

/// Makes a key and a binding under a provider with this root key, exports, loses everything, and brings it back.
fn drill(topic: &str, root_key: &Value, lock: &[&str], wrong: &[&str], desk: &Desk) {
    let home = Home::new(topic);
    let value = canary();
    apply(&provider(&home, root_key, false)).good();
    apply(&key(&home)).good();
    let before = home.ready("encryptionkey", "team-key");
    let id = before["status"]["keyId"].as_str().unwrap().to_owned();
    let git = home.binding(&value);
    let sealed = git["spec"]["secrets"][0]["sealed"]["value"].as_str().unwrap();

    let file = desk.path("export");
    let file = file.to_str().unwrap();
    let name = provider_name(&home);
    let export = [&["export-keys", "--provider", &name, "--output", file][..], lock].concat();
    let said = plugin(&export).good();
    assert!(said.contains("exported 1 key"), "{said}");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(plugin(&export).refused().contains("is there already"), "an export is never overwritten");

    // The disaster: everything of the cluster is gone but the operator and what is mounted into it.
    kubectl(&["delete", "namespace", &home.name, "--timeout=100s"]).good();
    kubectl(&["delete", "keyprovider", &name]).good();
    for selector in selectors(&home) {
        kubectl(&["-n", SYSTEM, "delete", "secrets", "-l", &selector]).good();
    }
    assert_eq!(records(&home), "");

    // The way back.
    let refusal = plugin(&[&["import-keys", "--file", file][..], wrong].concat()).refused();
    assert!(refusal.contains("is not the root key") || refusal.contains("does not open with this passphrase"), "{refusal}");
    assert_eq!(records(&home), "", "nothing was written");
    let import = [&["import-keys", "--file", file][..], lock].concat();
    let said = plugin(&import).good();
    assert!(said.contains("imported 1 key") && said.contains(&id), "{said}");
    let said = plugin(&import).good();
    assert!(said.contains("imported 0 keys") && said.contains("1 was there already"), "{said}");

    // Git, as it was: the key is not made anew, and says how it is taken back.
    apply(&json!([
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home.name, "labels": {"kustody.dev/e2e": "true"}}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainer", "namespace": home.name}},
    ]))
    .good();
    apply(&provider(&home, root_key, false)).good();
    apply(&key(&home)).good();
    apply(&objects::binding(&home.name, "trainer", sealed)).good();
    let message = home.not_ready("encryptionkey", "team-key", "RetainedKeyFound");
    assert!(message.contains(&format!("spec.adopt.keyId: {id}")), "{message}");
    let mut adopting = key(&home);
    adopting["spec"]["adopt"] = json!({"keyId": id, "sealingKeys": [before["status"]["sealingKey"]["document"]]});
    apply(&adopting).good();
    let message = home.not_ready("encryptionkey", "team-key", "AccessDenied");
    assert!(message.contains("adopt entry") && message.contains(&name), "{message}");
    apply(&provider(&home, root_key, true)).good();

    assert_eq!(home.ready("encryptionkey", "team-key")["status"]["keyId"], json!(id));
    home.ready("secretbinding", "trainer");
    apply(&objects::pod(&home.name, "train", objects::PRINT_DIGESTS)).good();
    home.pod("train");
    assert!(home.logs("train", "main").starts_with(&digest(&value)), "what was sealed before opens");
    kubectl(&["delete", "keyprovider", &name, "--wait=false"]).good();
}

#[test]
fn git_the_export_and_a_mounted_root_key_bring_every_sealed_value_back() {
    let desk = Desk::new();
    let (mounted, other) = (desk.mounted(), desk.file("other", &[7; 32]));
    drill("drill-file", &json!({"file": {"path": MOUNTED}}), &["--root", &mounted], &["--root", &other], &desk);
}

#[test]
fn git_the_export_and_a_passphrase_bring_every_sealed_value_back() {
    let desk = Desk::new();
    let (mounted, other) = (desk.mounted(), desk.file("other", b"correct horse battery staple\n"));
    drill("drill-words", &json!({"passphrase": {"path": MOUNTED}}), &["--root", &mounted], &["--root", &other], &desk);
}

#[test]
fn git_and_the_export_with_its_passphrase_bring_back_what_is_under_a_generated_root_key() {
    let desk = Desk::new();
    let (words, other) = (desk.file("words", b"correct horse battery staple\n"), desk.file("other", b"correct horse battery stable\n"));
    drill("drill-made", &json!({"generated": {}}), &["--passphrase-file", &words], &["--passphrase-file", &other], &desk);
}

#[test]
fn a_lost_root_key_is_a_condition_that_says_what_to_restore_and_nothing_is_overwritten() {
    let home = Home::new("rootlost");
    let mut object = provider(&home, &json!({"generated": {}}), false);
    apply(&object).good();
    apply(&key(&home)).good();
    home.ready("encryptionkey", "team-key");
    let [_, selector] = selectors(&home);
    let mut root = get(&["-n", SYSTEM, "secrets", "-l", &selector])["items"][0].clone();
    let name = root["metadata"]["name"].as_str().unwrap().to_owned();
    kubectl(&["-n", SYSTEM, "delete", "secret", &name]).good();

    object["spec"]["access"].as_array_mut().unwrap().push(json!({"namespaces": {"matchLabels": {"none": "none"}}}));
    apply(&object).good();
    let reason = |wanted: &'static str| {
        eventually(&format!("KeyProvider {} {wanted}", provider_name(&home)), || {
            let found = get(&["keyprovider", &provider_name(&home)]);
            let ready = condition(&found, "Ready").cloned().unwrap_or_default();
            if ready["reason"] == wanted { Ok(ready["message"].as_str().unwrap().to_owned()) } else { Err(ready.to_string()) }
        })
    };
    let message = reason("RootKeyLost");
    assert!(message.contains(&name) && message.contains("restore that Secret"), "{message}");
    let mut second = key(&home);
    second["metadata"]["name"] = json!("second");
    apply(&second).good();
    let message = home.not_ready("encryptionkey", "second", "RootKeyLost");
    assert!(message.contains(&name) && message.contains("restore that Secret"), "{message}");
    assert!(!records(&home).contains(&name), "no other root key was made in its place");

    for field in ["resourceVersion", "uid", "creationTimestamp", "managedFields"] {
        root["metadata"].as_object_mut().unwrap().remove(field);
    }
    apply(&root).good();
    reason("Available");
    home.ready("encryptionkey", "second");
    home.ready("encryptionkey", "team-key");
    kubectl(&["delete", "keyprovider", &provider_name(&home), "--wait=false"]).good();
}

#[test]
fn a_root_key_has_exactly_one_source_that_cannot_be_changed() {
    let home = Home::new("rootkinds");
    let refusal = |root_key: Value| {
        let object = provider(&home, &root_key, false).to_string();
        run("kubectl", &["apply", "--dry-run=server", "-f", "-"], object.as_bytes()).refused()
    };
    for both in [json!({"generated": {}, "passphrase": {"path": MOUNTED}}), json!({})] {
        assert!(refusal(both).contains("name exactly one of generated, file and passphrase"));
    }
    assert!(refusal(json!({"passphrase": {}})).contains("path"));
    assert!(refusal(json!({"passphrase": {"path": MOUNTED, "derivation": "Md5"}})).contains("Argon2id"));
    apply(&provider(&home, &json!({"passphrase": {"path": MOUNTED}}), false)).good();
    for other in [json!({"generated": {}}), json!({"passphrase": {"path": MOUNTED, "derivation": "Pbkdf2HmacSha256"}})] {
        assert!(refusal(other).contains("spec.local.rootKey cannot be changed"));
    }
    kubectl(&["delete", "keyprovider", &provider_name(&home), "--wait=false"]).good();
}

#[test]
fn a_passphrase_that_the_world_can_read_is_refused() {
    let home = Home::new("rootopen");
    apply(&provider(&home, &json!({"passphrase": {"path": "/etc/passwd"}}), false)).good();
    let name = provider_name(&home);
    eventually("the provider to be refused", || {
        let ready = condition(&get(&["keyprovider", &name]), "Ready").cloned().unwrap_or_default();
        let refused = ready["status"] == "False" && ready["reason"] == "InvalidSpec";
        if refused && ready["message"].as_str().unwrap().contains("passphrase file /etc/passwd") { Ok(()) } else { Err(ready.to_string()) }
    });
    kubectl(&["delete", "keyprovider", &name, "--wait=false"]).good();
}
