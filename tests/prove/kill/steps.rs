//! The steps of an operation: who writes what for it, in this order, as the API server's audit log and the broker's tell.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{SYSTEM, cluster_directory, get};

use super::operations::NAMESPACE;

/// How long a step may take to come after the one before: a roll settles for a minute.
const NEXT: Duration = Duration::from_secs(150);
const RELEASE: &str = "broker records Release";

const STATUS: &str = "controller patch encryptionkeys/status";
const RECORD: &str = "controller update secrets";
const GATE: &str = "controller patch mutatingwebhookconfigurations";
const GATES: &str = "controller patch validatingwebhookconfigurations";

/// What is written for one operation.
pub fn of(operation: &str) -> &'static [&'static str] {
    match operation {
        // The intent, the key, what was made, then the same for its grants.
        "create" => &["admin create encryptionkeys", STATUS, "controller create secrets", STATUS, STATUS, RECORD, STATUS],
        "rotate" => &["admin patch encryptionkeys", STATUS, RECORD, STATUS, STATUS, RECORD, STATUS],
        "retire" => &["admin patch encryptionkeys", STATUS, RECORD, STATUS, STATUS],
        "release" => &[
            "admin create pods",
            "scheduler create pods/binding",
            "kubelet create serviceaccounts/token",
            RELEASE,
            "kubelet patch pods/status",
            "controller patch secretbindings/status",
        ],
        // The successor is trusted, signs, and is trusted alone.
        "roll" => &[
            RECORD, RECORD, RECORD, GATE, GATES, RECORD, //
            RECORD, RECORD, RECORD, GATE, GATES, RECORD, //
            RECORD, RECORD, RECORD, GATE, GATES,
        ],
        other => unreachable!("{other} has no steps"),
    }
}

/// What is written from now on.
pub struct Log {
    object: String,
    requests: Tail,
    releases: Vec<Tail>,
}

impl Log {
    /// Begins where the logs end now; `object` is what the operation is about.
    pub fn new(object: &str) -> Self {
        let claim = get(&["-n", SYSTEM, "pvc", "audit-kustody-broker-0"]);
        let volume = get(&["pv", claim["spec"]["volumeName"].as_str().unwrap()]);
        let directory = volume["spec"]["local"]["path"].as_str().unwrap().to_owned();
        // Where the node sees it.
        let holder = std::fs::read_to_string(cluster_directory().join("holder.pid")).unwrap();
        let segments = walk(format!("/proc/{}/root{directory}", holder.trim()).into());
        let releases = segments.into_iter().map(Tail::new).collect();
        Self { object: object.to_owned(), requests: Tail::new(cluster_directory().join("log/audit.log")), releases }
    }

    /// Waits until this was taken; whether that was told.
    pub fn reaches(&mut self, step: &str) -> bool {
        let end = Instant::now() + NEXT;
        while !self.took(step) {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        true
    }

    /// Whether a line says so that nobody has looked at yet; those before it are passed.
    fn took(&mut self, step: &str) -> bool {
        let object = &self.object;
        let files = if step == RELEASE { &mut self.releases[..] } else { std::slice::from_mut(&mut self.requests) };
        files.iter_mut().any(|file| std::iter::from_fn(|| file.line()).any(|line| said(&line, object).as_deref() == Some(step)))
    }
}

/// The step that a line of a log tells of, when it is one of this object's operation.
fn said(line: &Value, object: &str) -> Option<String> {
    if line["event"] == "Release" {
        return (line["subject"]["pod"] == object).then(|| RELEASE.to_owned());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (verb, about) = (text(&line["verb"]), &line["objectRef"]);
    let taken = line["stage"] == "ResponseComplete" && line["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300);
    if !taken || !["create", "update", "patch", "delete"].contains(&verb.as_str()) {
        return None;
    }
    let (resource, part, user) = (text(&about["resource"]), text(&about["subresource"]), text(&line["user"]["username"]));
    let its = about["namespace"] == NAMESPACE && (about["name"] == object || part == "token");
    let ours = user.starts_with("system:serviceaccount:kustody-system:") && (resource == "secrets" || resource.ends_with("configurations"));
    let who = if user.starts_with("system:node:") { "kubelet" } else { user.rsplit(':').next().unwrap_or_default() };
    let part = if part.is_empty() { part } else { format!("/{part}") };
    (its || ours).then(|| format!("{} {verb} {resource}{part}", who.trim_start_matches("kustody-").trim_start_matches("kube-")))
}

/// The lines that a file gets.
struct Tail {
    path: PathBuf,
    file: File,
    read: Vec<u8>,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        let mut file = File::open(&path).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
        Self { path, file, read: Vec::new() }
    }

    fn line(&mut self) -> Option<Value> {
        if !self.read.contains(&b'\n') && self.file.read_to_end(&mut self.read).unwrap() == 0 {
            // It may have been put aside for a new one.
            let there = std::fs::metadata(&self.path).is_ok_and(|now| now.ino() != self.file.metadata().unwrap().ino());
            self.file = if there { File::open(&self.path).unwrap() } else { return None };
            return None;
        }
        let end = self.read.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.read.drain(..=end).collect();
        serde_json::from_slice(&line).ok().or(Some(Value::Null))
    }
}

fn walk(directory: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(path));
        } else if path.extension().is_some_and(|end| end == "jsonl") {
            found.push(path);
        }
    }
    found
}
