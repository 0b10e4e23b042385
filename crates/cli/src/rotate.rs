//! `rotate`: asks for one new version of a key.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cluster::{self, Cluster, Connection, ENCRYPTION_KEYS};
use crate::failure::Failure;
use crate::names::ObjectName;
use crate::output::{self, Format};
use crate::request::{self, Limit};

const HELP: &str = "\
Examples:
  # one new version now, and wait until it is there
  kubectl kustody rotate team-key -n vision --wait

  # ask, and look later
  kubectl kustody rotate vision/team-key
  kubectl -n vision get encryptionkey team-key -o jsonpath='{.status.rotation}'

A fresh token is written to spec.rotation.request, under your own rights (get and patch on encryptionkeys); the controller
rotates exactly once for each token, however often it is restarted meanwhile. Old sealed values go on opening; new ones use
the new version. Where the EncryptionKey comes from git, change spec.rotation.request there instead: whatever applies it
would take this one away.

Exit codes: 0 asked for, with --wait done; 2 wrong command line; 3 the cluster refused, or it was not done in time (the request
stands), or somebody else's request took its place.";

/// How often is looked.
const PAUSE: Duration = Duration::from_secs(1);

/// Settings of `rotate`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct RotateArgs {
    /// The EncryptionKey: NAME, or NAMESPACE/NAME.
    #[arg(value_name = "KEY")]
    key: ObjectName,
    /// Wait until the key was rotated for this request.
    #[arg(long)]
    wait: bool,
    /// How long --wait waits, for example 90s, 5m or 1h.
    #[arg(long, value_name = "DURATION", default_value = "5m", requires = "wait")]
    timeout: Limit,
    /// For people or for programs.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// What was asked for, and what came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rotation {
    kind: &'static str,
    namespace: String,
    name: String,
    request: String,
    rotated: bool,
    /// `status.rotation` as it was seen last.
    #[serde(skip_serializing_if = "Value::is_null")]
    status: Value,
}

/// Writes a fresh token; with `--wait` returns when the key was rotated for it.
///
/// Requires: `encryptionkeys: get, patch`.
pub(crate) async fn run(args: &RotateArgs) -> Result<(), Failure> {
    let cluster = Cluster::connect(&args.connection).await?;
    let namespace = request::namespace(&args.key, args.connection.namespace.as_deref(), &cluster)?;
    let name = &args.key.name;
    let before = cluster.get(ENCRYPTION_KEYS, Some(&namespace), name).await?;
    if let Some(open) = open_request(&before) {
        output::note(&format!("request {open} was not served yet; this one takes its place, and the key is rotated once"));
    }
    let request = request::token()?;
    let mut key = cluster.merge(ENCRYPTION_KEYS, &namespace, name, &json!({"spec": {"rotation": {"request": request}}})).await?;
    if args.wait {
        key = wait(&cluster, &namespace, name, &request, args.timeout, key).await?;
    }
    let rotated = is_served(&key, &request);
    let status = key.pointer_mut("/status/rotation").map(Value::take).unwrap_or_default();
    output::print(args.output, &Rotation { kind: ENCRYPTION_KEYS.kind, namespace, name: name.clone(), request, rotated, status })
}

async fn wait(cluster: &Cluster, namespace: &str, name: &str, request: &str, limit: Limit, key: Value) -> Result<Value, Failure> {
    let end = tokio::time::Instant::now() + limit.0;
    let mut key = key;
    while !is_served(&key, request) {
        if let Some(other) = replaced(&key, request) {
            let object = cluster::object(ENCRYPTION_KEYS, Some(namespace), name);
            return Err(Failure::Gone(format!(
                "{object}: spec.rotation.request is {other} by now, which took the place of this request ({request}); the key is rotated for that one: {}",
                watch(namespace, name, other)
            )));
        }
        if tokio::time::Instant::now() >= end {
            let (object, seconds) = (cluster::object(ENCRYPTION_KEYS, Some(namespace), name), limit.0.as_secs());
            let seen = request::readiness(&key);
            return Err(Failure::NotInTime(format!(
                "{object} was not rotated within {seconds} s, and the request {request} stands; {seen}; look again: {}",
                watch(namespace, name, request)
            )));
        }
        tokio::time::sleep(PAUSE).await;
        key = cluster.get(ENCRYPTION_KEYS, Some(namespace), name).await?;
    }
    Ok(key)
}

fn is_served(key: &Value, request: &str) -> bool {
    key["status"]["rotation"]["lastRequest"] == request
}

/// What somebody else wrote in place of this request.
fn replaced<'a>(key: &'a Value, request: &str) -> Option<&'a str> {
    let now = key["spec"]["rotation"]["request"].as_str().unwrap_or("nothing");
    (now != request).then_some(now)
}

/// A request that the controller has not served.
fn open_request(key: &Value) -> Option<&str> {
    let request = key["spec"]["rotation"]["request"].as_str()?;
    (!is_served(key, request)).then_some(request)
}

fn watch(namespace: &str, name: &str, request: &str) -> String {
    format!("kubectl -n {namespace} wait encryptionkey/{name} --for=jsonpath='{{.status.rotation.lastRequest}}'={request} --timeout=5m")
}

impl Display for Rotation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, request, rotated, status } = self;
        if !rotated {
            return writeln!(
                f,
                "{kind} {namespace}/{name}: rotation requested ({request}). It is done when this returns:\n  {}",
                watch(namespace, name, request)
            );
        }
        write!(f, "{kind} {namespace}/{name}: rotated")?;
        for (field, word) in [("lastRotation", "at"), ("nextRotation", "; by schedule next at")] {
            if let Some(time) = status[field].as_str() {
                write!(f, "{}{word} {time}", if field == "lastRotation" { " " } else { "" })?;
            }
        }
        writeln!(f, " (request {request})")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Rotation, is_served, open_request};

    #[test]
    fn a_request_is_served_when_the_status_repeats_its_token() {
        let key = json!({"spec": {"rotation": {"request": "a"}}, "status": {"rotation": {"lastRequest": "a"}}});
        assert!(is_served(&key, "a") && !is_served(&key, "b"));
        assert_eq!(open_request(&key), None);
        let mut key = key;
        key["status"]["rotation"]["lastRequest"] = json!("0");
        assert_eq!(open_request(&key), Some("a"));
        assert_eq!(open_request(&json!({})), None);
    }

    #[test]
    fn what_is_printed_says_how_to_watch_or_when_it_was_done() {
        let mut rotation = Rotation {
            kind: "EncryptionKey",
            namespace: "vision".to_owned(),
            name: "team-key".to_owned(),
            request: "t0".to_owned(),
            rotated: false,
            status: json!({"lastRotation": "2026-01-01T00:00:00Z", "nextRotation": "2026-04-01T00:00:00Z"}),
        };
        assert!(
            rotation
                .to_string()
                .contains("kubectl -n vision wait encryptionkey/team-key --for=jsonpath='{.status.rotation.lastRequest}'=t0")
        );
        rotation.rotated = true;
        assert_eq!(
            rotation.to_string(),
            "EncryptionKey vision/team-key: rotated at 2026-01-01T00:00:00Z; by schedule next at 2026-04-01T00:00:00Z (request t0)\n"
        );
    }
}
