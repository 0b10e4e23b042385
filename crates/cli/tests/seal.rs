//! The plugin's binary, as a person runs it.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail, and looks at what it sealed itself")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kustody_core::sealing::{self, Header, KeyDocument, Place, PublicKey, SealedValue};
use kustody_core::secret::SecretBytes;
use serde_json::{Value, json};
use tempfile::TempDir;

const PLACE: Place<'static> = Place { namespace: "vision", binding: "trainer", secret: "hf" };

/// A sealing key, its document in a file, and a directory for what else a test needs.
struct Desk {
    seed: SecretBytes,
    document: KeyDocument,
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        let (seed, public_key) = sealing::generate().unwrap();
        let header = Header {
            provider_key_id: "vision/team-key/0123".into(),
            version: 1,
            public_key_sha256: public_key.sha256(),
            wrapped_seed: vec![7; 60],
        };
        let document = KeyDocument { header, namespace: "vision".into(), key: "team-key".into(), public_key };
        let desk = Self { seed, document, directory: TempDir::new().unwrap() };
        desk.write("key.doc", format!("{}\n", desk.document).as_bytes());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn seal(&self, arguments: &[&str], input: &[u8]) -> Output {
        let document = self.path("key.doc");
        let common = ["--key-document", document.to_str().unwrap(), "--binding", "trainer", "--secret", "hf"];
        run(&[&common[..], arguments].concat(), input)
    }

    fn open(&self, line: &str) -> Vec<u8> {
        let sealed = SealedValue::parse(line).unwrap();
        sealing::open(&self.seed, &sealed, &PLACE).unwrap().expose().to_vec()
    }

    /// An API server that answers one request with `body`; returns the path of a kubeconfig for it.
    fn cluster(&self, code: u16, body: &Value) -> PathBuf {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", listener.local_addr().unwrap())}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}]});
        let body = body.to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /apis/kustody.dev/v1alpha1/namespaces/vision/encryptionkeys/team-key "));
            let head = format!(
                "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).unwrap();
        });
        self.write("kubeconfig", kubeconfig.to_string().as_bytes())
    }

    fn encryption_key(&self, ready: &str, reason: &str, message: &str) -> Value {
        json!({"apiVersion": "kustody.dev/v1alpha1", "kind": "EncryptionKey", "metadata": {"name": "team-key", "namespace": "vision"},
        "spec": {"providerRef": {"name": "local"}},
        "status": {
            "conditions": [{"type": "Ready", "status": ready, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "sealingKey": {"version": 1, "publicKeySha256": sealing::format::hex(&self.document.header.public_key_sha256),
                "document": self.document.to_string()},
        }})
    }
}

fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-kustody"))
        .arg("seal")
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A plugin that refuses before it reads closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn online(kubeconfig: &Path, input: &[u8]) -> Output {
    run(&["--key", "vision/team-key", "--binding", "trainer", "--secret", "hf", "--kubeconfig", kubeconfig.to_str().unwrap()], input)
}

fn line(output: &Output) -> String {
    assert!(output.status.success(), "{}", errors(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    let text = errors(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(output.stdout.is_empty());
    for word in words {
        assert!(text.contains(word), "{word:?} in {text}");
    }
}

#[test]
fn standard_input_is_sealed_offline_as_it_is() {
    let desk = Desk::new();
    let output = desk.seal(&[], b"canary-1");
    let printed = line(&output);
    assert_eq!(printed.lines().count(), 1);
    assert_eq!(desk.open(&printed), b"canary-1");
    assert_eq!(errors(&output), "");
}

#[test]
fn a_file_of_any_bytes_is_sealed() {
    let desk = Desk::new();
    let file = desk.write("value", &[0, 255, 13, 10, 39]);
    assert_eq!(desk.open(&line(&desk.seal(&["--file", file.to_str().unwrap()], b""))), [0, 255, 13, 10, 39]);
}

#[test]
fn a_last_line_end_is_kept_with_a_warning_or_removed_on_demand() {
    let desk = Desk::new();
    let kept = desk.seal(&[], b"canary-2\n");
    assert_eq!(desk.open(&line(&kept)), b"canary-2\n");
    assert!(errors(&kept).contains("--strip-newline"));
    assert!(!errors(&kept).contains("canary"));
    let stripped = desk.seal(&["--strip-newline"], b"canary-2\n");
    assert_eq!(desk.open(&line(&stripped)), b"canary-2");
    assert_eq!(errors(&stripped), "");
}

#[test]
fn yaml_and_json_are_an_entry_of_the_binding_s_secrets() {
    let desk = Desk::new();
    let printed = line(&desk.seal(&["-o", "yaml"], b"canary-3"));
    let (head, value) = printed.trim_end().rsplit_once("    value: ").unwrap();
    assert_eq!(head, "- name: \"hf\"\n  sealed:\n    key: \"team-key\"\n");
    assert_eq!(desk.open(value.trim_matches('"')), b"canary-3");
    let entry: Value = serde_json::from_str(&line(&desk.seal(&["-o", "json"], b"canary-3"))).unwrap();
    assert_eq!((&entry["name"], &entry["sealed"]["key"]), (&"hf".into(), &"team-key".into()));
    assert_eq!(desk.open(entry["sealed"]["value"].as_str().unwrap()), b"canary-3");
}

#[test]
fn a_value_that_cannot_be_sealed_is_refused_with_the_cause() {
    let desk = Desk::new();
    assert_refused(&desk.seal(&[], b""), 1, &["empty", "--allow-empty"]);
    assert_refused(&desk.seal(&[], &vec![b'x'; 256 * 1024 + 1]), 1, &["262144"]);
    assert_refused(&desk.seal(&["--file", "/nonexistent/value"], b""), 1, &["/nonexistent/value"]);
    assert_eq!(desk.open(&line(&desk.seal(&["--allow-empty"], b""))), b"");
}

#[test]
fn a_value_is_never_taken_as_an_argument() {
    let desk = Desk::new();
    assert_refused(&desk.seal(&["hf_value"], b""), 2, &["unexpected argument"]);
    assert_refused(&desk.seal(&["--value", "hf_value"], b""), 2, &["unexpected argument"]);
}

#[test]
fn a_command_line_that_names_no_place_or_no_key_is_refused() {
    let place = ["--binding", "trainer", "--secret", "hf"];
    assert_refused(&run(&place, b"x"), 2, &["--key"]);
    assert_refused(&run(&[&place[..], &["--key", "team-key"]].concat(), b"x"), 2, &["NAMESPACE/NAME"]);
    assert_refused(&run(&["--key", "vision/team-key", "--binding", "true", "--secret", "hf"], b"x"), 2, &["kustody.dev/inject"]);
    assert_refused(&run(&["--key", "vision/team-key", "--binding", "trainer"], b"x"), 2, &["--secret"]);
}

#[test]
fn a_file_that_is_no_key_document_is_named() {
    let desk = Desk::new();
    desk.write("key.doc", line(&desk.seal(&[], b"x")).as_bytes());
    assert_refused(&desk.seal(&[], b"x"), 1, &["key.doc", "not a key document"]);
    desk.write("key.doc", b"\xff");
    assert_refused(&desk.seal(&[], b"x"), 1, &["key.doc"]);
}

#[test]
fn a_ready_key_of_the_cluster_is_sealed_for() {
    let desk = Desk::new();
    let kubeconfig = desk.cluster(200, &desk.encryption_key("True", "Available", ""));
    assert_eq!(desk.open(&line(&online(&kubeconfig, b"canary-4"))), b"canary-4");
}

#[test]
fn a_key_that_is_not_ready_is_refused_with_its_own_message() {
    let desk = Desk::new();
    let kubeconfig = desk.cluster(200, &desk.encryption_key("False", "RetainedKeyFound", "add spec.adopt.keyId: vision/team-key/9"));
    assert_refused(&online(&kubeconfig, b"x"), 3, &["vision/team-key", "RetainedKeyFound", "add spec.adopt.keyId: vision/team-key/9"]);
}

#[test]
fn a_key_without_a_sealing_key_is_refused() {
    let desk = Desk::new();
    let mut key = desk.encryption_key("True", "Available", "");
    key["status"]["sealingKey"] = Value::Null;
    assert_refused(&online(&desk.cluster(200, &key), b"x"), 3, &["vision/team-key", "not ready"]);
    key["status"] = Value::Null;
    assert_refused(&online(&desk.cluster(200, &key), b"x"), 3, &["vision/team-key", "not ready"]);
}

#[test]
fn a_document_of_another_key_in_the_status_is_not_used() {
    let mut desk = Desk::new();
    desk.document.namespace = "other".into();
    let kubeconfig = desk.cluster(200, &desk.encryption_key("True", "Available", ""));
    assert_refused(&online(&kubeconfig, b"x"), 3, &["vision/team-key", "other/team-key"]);
}

#[test]
fn what_the_cluster_refuses_is_said_with_the_remedy() {
    let desk = Desk::new();
    let status = |code: u16, reason: &str| json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason});
    assert_refused(&online(&desk.cluster(404, &status(404, "NotFound")), b"x"), 3, &["vision/team-key does not exist", "--context"]);
    assert_refused(&online(&desk.cluster(403, &status(403, "Forbidden")), b"x"), 3, &["verb get", "--key-document"]);
    let kubeconfig = desk.path("absent");
    assert_refused(&online(&kubeconfig, b"x"), 3, &["--kubeconfig", "--key-document"]);
}

#[test]
fn a_public_key_is_bound_to_its_document() {
    let desk = Desk::new();
    let (_, other) = sealing::generate().unwrap();
    let forged = KeyDocument { public_key: PublicKey::from_bytes(other.as_bytes()).unwrap(), ..desk.document.clone() };
    desk.write("key.doc", forged.to_string().as_bytes());
    assert_refused(&desk.seal(&[], b"x"), 1, &["another public key"]);
}
