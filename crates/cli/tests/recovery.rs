//! `export-keys` and `import-keys` as a person runs them, against an API server of the test's own.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail, and compares what is stored")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kustody_core::secret::SecretBytes;
use kustody_providers::Provider as _;
use kustody_providers::key_store::KeyStore as _;
use kustody_providers::local::{Local, RootKeySource};
use kustody_providers::testing::{MemoryStore, context, request};
use serde_json::{Value, json};
use tempfile::TempDir;

const SECRETS: &str = "/api/v1/namespaces/kustody-system/secrets";

/// Secrets of one namespace, and the methods that were used on them.
#[derive(Default)]
struct State {
    secrets: BTreeMap<String, Value>,
    methods: Vec<String>,
}

#[derive(Clone, Default)]
struct Cluster(Arc<Mutex<State>>);

impl Cluster {
    fn secrets(&self) -> BTreeMap<String, Value> {
        self.0.lock().unwrap().secrets.clone()
    }

    fn methods(&self) -> Vec<String> {
        self.0.lock().unwrap().methods.clone()
    }

    fn serve(&self, listener: TcpListener, forbidden: bool) {
        let cluster = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let cluster = cluster.clone();
                std::thread::spawn(move || cluster.answer(&stream.unwrap(), forbidden));
            }
        });
    }

    fn answer(&self, mut stream: &TcpStream, forbidden: bool) {
        let mut reader = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        reader.read_line(&mut line).unwrap();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if header.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut parts = line.split(' ');
        let (method, uri) = (parts.next().unwrap(), parts.next().unwrap());
        let (code, said) = if forbidden { status(403, "Forbidden") } else { self.handle(method, uri, &body) };
        let said = said.to_string();
        let head =
            format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", said.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(said.as_bytes())).unwrap();
    }

    fn handle(&self, method: &str, uri: &str, body: &[u8]) -> (u16, Value) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let name = path.strip_prefix(SECRETS).unwrap().trim_start_matches('/');
        let mut state = self.0.lock().unwrap();
        state.methods.push(method.to_owned());
        match (method, name) {
            ("GET", "") => {
                let (label, value) = query.split("labelSelector=").nth(1).unwrap().split('&').next().unwrap().split_once("%3D").unwrap();
                let label = label.replace("%2F", "/");
                let items: Vec<&Value> = state.secrets.values().filter(|secret| secret["metadata"]["labels"][&label] == value).collect();
                (200, json!({"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": items}))
            }
            ("GET", name) => state.secrets.get(name).map_or_else(|| status(404, "NotFound"), |secret| (200, secret.clone())),
            ("POST", "") => {
                let secret: Value = serde_json::from_slice(body).unwrap();
                let name = secret["metadata"]["name"].as_str().unwrap().to_owned();
                if state.secrets.contains_key(&name) {
                    return status(409, "AlreadyExists");
                }
                state.secrets.insert(name, secret.clone());
                (201, secret)
            }
            _ => status(405, "MethodNotAllowed"),
        }
    }
}

fn status(code: u16, reason: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason}))
}

/// A desk with a root key, and a cluster with one key under it.
struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: TempDir::new().unwrap() };
        desk.put("root", &[1; 32], 0o400);
        desk.put("other", &[2; 32], 0o400);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8], mode: u32) {
        std::fs::write(self.path(name), bytes).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A cluster with the records of an embedded KMS.
    async fn cluster(&self) -> Cluster {
        let store = Arc::new(MemoryStore::default());
        let clock = Arc::new(|| jiff::Timestamp::UNIX_EPOCH);
        let kms = Local::new(Arc::<MemoryStore>::clone(&store), "local", RootKeySource::File(self.path("root")), clock);
        let key = kms.create_key(&request("noncecli1", "team-key")).await.unwrap();
        kms.wrap(&key.id, &SecretBytes::new(vec![1]), &context("x")).await.unwrap();
        let cluster = Cluster::default();
        for name in store.names() {
            let record = store.read(&name).await.unwrap().unwrap();
            let data: BTreeMap<&String, String> =
                record.data.iter().map(|(entry, value)| (entry, STANDARD.encode(value.expose()))).collect();
            let mut labels = record.labels.clone();
            labels.insert("kustody.dev/local-key".to_owned(), "true".to_owned());
            labels.insert("app.kubernetes.io/managed-by".to_owned(), "kustody".to_owned());
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kustody.dev/local-key", "data": data,
                "metadata": {"name": name, "labels": labels, "annotations": record.annotations, "resourceVersion": "9"}});
            cluster.0.lock().unwrap().secrets.insert(name, secret);
        }
        cluster
    }

    fn run(&self, cluster: &Cluster, forbidden: bool, arguments: &[&str]) -> Output {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", listener.local_addr().unwrap())}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}]});
        self.put("kubeconfig", kubeconfig.to_string().as_bytes(), 0o600);
        cluster.serve(listener, forbidden);
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-kustody"));
        command.current_dir(self.directory.path()).env_clear().args(arguments).args(["--kubeconfig", "kubeconfig"]).output().unwrap()
    }
}

const EXPORT: [&str; 7] = ["export-keys", "--provider", "local", "--root", "root", "--output", "export"];
const IMPORT: [&str; 5] = ["import-keys", "--file", "export", "--root", "root"];

fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output, code: i32, parts: &[&str]) {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn what_was_exported_is_imported_as_it_was_and_only_once() {
    let desk = Desk::new();
    let (old, new) = (desk.cluster().await, Cluster::default());
    let said = good(&desk.run(&old, false, &EXPORT));
    assert!(said.contains("exported 1 key of KeyProvider local to export") && said.contains("proven to open"), "{said}");
    assert!(old.methods().iter().all(|method| method == "GET"), "an export only reads");
    assert_eq!(std::fs::metadata(desk.path("export")).unwrap().permissions().mode() & 0o777, 0o600);

    let said = good(&desk.run(&new, false, &IMPORT));
    assert!(said.contains("imported 1 key") && said.contains("  vision/team-key/noncecli1\n"), "{said}");
    let (before, after) = (old.secrets(), new.secrets());
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, secret) in &before {
        for field in ["/type", "/data", "/metadata/annotations"] {
            assert_eq!(after[name].pointer(field), secret.pointer(field), "{name} {field}");
        }
        for (label, value) in secret["metadata"]["labels"].as_object().unwrap() {
            let found = &after[name]["metadata"]["labels"][label];
            // It is nobody's until an object of its names takes it back.
            assert_eq!(found == value, label != "kustody.dev/local-owner", "{name} {label}");
        }
    }
    let said = good(&desk.run(&new, false, &IMPORT));
    assert!(said.contains("imported 0 keys") && said.contains("1 was there already"), "{said}");
    assert_eq!((new.secrets(), new.methods().iter().filter(|method| *method == "POST").count()), (after, 2));
}

#[tokio::test]
async fn an_export_is_never_overwritten_and_never_left_half() {
    let desk = Desk::new();
    let cluster = desk.cluster().await;
    desk.put("export", b"an earlier one", 0o600);
    refused(&desk.run(&cluster, false, &EXPORT), 1, &["export is there already", "--output"]);
    assert_eq!(std::fs::read(desk.path("export")).unwrap(), b"an earlier one");
    std::fs::remove_file(desk.path("export")).unwrap();
    refused(
        &desk.run(&cluster, false, &["export-keys", "--provider", "local", "--root", "other", "--output", "export"]),
        1,
        &["is not the root key"],
    );
    refused(
        &desk.run(&cluster, false, &["export-keys", "--provider", "none", "--root", "root", "--output", "export"]),
        1,
        &["KeyProvider none has no keys"],
    );
    assert!(!desk.path("export").exists());
}

#[tokio::test]
async fn what_the_cluster_or_a_file_forbids_is_said_with_the_remedy() {
    let desk = Desk::new();
    let cluster = desk.cluster().await;
    refused(&desk.run(&cluster, true, &EXPORT), 3, &["you may not", "namespace kustody-system"]);
    good(&desk.run(&cluster, false, &EXPORT));
    desk.put("open", &[1; 32], 0o444);
    refused(&desk.run(&Cluster::default(), false, &["import-keys", "--file", "export", "--root", "open"]), 1, &["mode 0444", "0400"]);
    refused(&desk.run(&Cluster::default(), false, &["import-keys", "--file", "none", "--root", "root"]), 1, &["none cannot be read"]);
    refused(&desk.run(&Cluster::default(), false, &["import-keys", "--file", "export"]), 2, &["--root", "--passphrase-file"]);
    let new = Cluster::default();
    refused(
        &desk.run(&new, false, &["import-keys", "--file", "export", "--root", "other"]),
        1,
        &["is not the root key", "nothing was overwritten"],
    );
    assert!(new.secrets().is_empty() && new.methods().is_empty(), "a wrong root key is told before the cluster is asked");
}
