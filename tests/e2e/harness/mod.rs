//! Runs the programs that users run, and waits for conditions.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub mod canary;
pub mod home;
pub mod objects;

/// Namespace of the installation.
pub const SYSTEM: &str = "kustody-system";
/// How long a condition may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// What a program said.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Standard output of a program that succeeded.
    #[track_caller]
    pub fn good(self) -> String {
        assert!(self.ok, "failed: {}\n{}", self.err, self.out);
        self.out
    }

    /// Standard error of a program that was refused.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.ok, "was not refused: {}", self.out);
        self.err
    }
}

/// Runs a program with `input` on its standard input.
pub fn run(program: &str, arguments: &[&str], input: &[u8]) -> Said {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Beside the reading below: a program may answer before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Said { ok: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Runs kubectl.
pub fn kubectl(arguments: &[&str]) -> Said {
    run("kubectl", arguments, b"")
}

/// Applies objects, as `kubectl apply -f -` does.
pub fn apply(objects: &Value) -> Said {
    let list;
    let objects = if objects.is_array() {
        list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        &list
    } else {
        objects
    };
    run("kubectl", &["apply", "-f", "-"], objects.to_string().as_bytes())
}

/// The installation with one value set, until this goes: then it is what it was.
pub struct Installed {
    back: String,
}

impl Installed {
    /// Installs the chart once more with `name` set to `value`; answers when everything of it is ready.
    pub fn with(name: &str, value: &str, before: &str) -> Self {
        let back = format!("{name}={before}");
        Self::set(&format!("{name}={value}")).good();
        Self { back }
    }

    fn set(value: &str) -> Said {
        let chart = ["upgrade", "kustody", "charts/kustody", "--namespace", SYSTEM, "--wait", "--timeout", "4m"];
        run("helm", &[&chart[..], &["--values", "tests/e2e/values.yaml", "--set", value]].concat(), b"")
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = Self::set(&self.back);
    }
}

/// Reads what `kubectl get … -o json` says.
#[track_caller]
pub fn get(arguments: &[&str]) -> Value {
    let all: Vec<&str> = ["get", "-o", "json"].iter().chain(arguments).copied().collect();
    serde_json::from_str(&kubectl(&all).good()).unwrap()
}

/// Polls until `look` finds something.
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    within(PATIENCE, what, look)
}

/// Polls until `look` finds something, for at most `limit`.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + limit;
    loop {
        let last = match look() {
            Ok(found) => return found,
            Err(last) => last,
        };
        assert!(Instant::now() < end, "{what}: not within {limit:?}; last seen: {last}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Eight digits that no other test has.
pub fn unique() -> String {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    kustody_core::hex::hex(&bytes)
}

/// A setting that `scripts/test.sh` gives.
#[expect(clippy::disallowed_methods, reason = "the tests' own settings")]
pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run these tests by `make test`"))
}

/// The cluster's directory: its logs and its node's disk.
pub fn cluster_directory() -> PathBuf {
    setting("KUSTODY_E2E_DIR").into()
}

/// The condition of an object, when it is there.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}
