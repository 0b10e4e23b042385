//! The plugin's binary, and an API server that knows a few objects.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "test code")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A file of `tests/manifests`.
pub fn manifest(name: &str) -> String {
    format!("{}/tests/manifests/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// What the plugin said.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs the plugin without any environment.
pub fn run(arguments: &[&str], input: &str) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-kustody"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A plugin that refuses before it reads closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: status.code(), out: text(stdout), err: text(stderr) }
}

impl Said {
    /// Standard output of a plugin that succeeded.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
    }

    /// Standard error of a plugin that refused with this exit code and printed nothing.
    #[track_caller]
    pub fn refused(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{}", self.err);
        self.err
    }
}

/// A request that came: method, path, body.
pub type Request = (String, String, Value);

/// An API server.
pub struct Server {
    requests: Receiver<Request>,
    directory: TempDir,
}

/// Answers a request with a code and a body.
pub type Answers = Box<dyn Fn(&Request) -> (u16, Value) + Send>;

impl Server {
    /// Answers until the test is over.
    pub fn new(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", listener.local_addr().unwrap())}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "vision"}}], "users": [{"name": "u", "user": {}}]});
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("config"), kubeconfig.to_string()).unwrap();
        let (seen, requests) = channel();
        std::thread::spawn(move || listener.incoming().for_each(|stream| serve(&stream.unwrap(), &answers, &seen)));
        Self { requests, directory }
    }

    /// Of these objects by path; anything else does not exist.
    pub fn of(objects: Vec<(&'static str, Value)>) -> Self {
        Self::new(Box::new(move |(_, path, _)| {
            let found = objects.iter().find(|(known, _)| path.split('?').next() == Some(*known));
            found.map_or_else(|| failure(404, "not found"), |(_, object)| (200, object.clone()))
        }))
    }

    /// Runs the plugin against it.
    pub fn run(&self, arguments: &[&str]) -> Said {
        let kubeconfig: PathBuf = self.directory.path().join("config");
        run(&[arguments, &["--kubeconfig", kubeconfig.to_str().unwrap()]].concat(), "")
    }

    /// The requests that came until now.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }
}

/// A `Status` of the API server.
pub fn failure(code: u16, message: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "Reason", "message": message}))
}

/// A list of objects.
pub fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
}

/// One request for each connection.
fn serve(mut stream: &TcpStream, answers: &Answers, seen: &Sender<Request>) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut words = first.split(' ').map(ToOwned::to_owned);
    let request = (words.next().unwrap(), words.next().unwrap(), serde_json::from_slice(&body).unwrap_or_default());
    let (code, body) = answers(&request);
    // A test that is over asks no more.
    let _ = seen.send(request);
    let body = body.to_string();
    let head =
        format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).unwrap();
}
