//! `reseal`: brings the sealed values of a file up to date with their keys, without anybody seeing them.
//!
//! The broker alone opens values. So this asks by an annotation on the live binding, under the user's own rights, and
//! takes the new ciphertexts from its status.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kustody_api::SecretBinding;
use kustody_api::names::RESEAL_ANNOTATION;
use kustody_api::secret_binding::Resealed;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cluster::{self, Cluster, Connection, SECRET_BINDINGS};
use crate::failure::Failure;
use crate::manifests;
use crate::output::{self, Format};
use crate::request::{self, Limit};

const HELP: &str = "\
Examples:
  # after a rotation: bring the values of a manifest up to date; commit and apply it
  kubectl kustody reseal -f binding.yaml
  kubectl apply -f binding.yaml

  # see it first
  kubectl kustody reseal -f binding.yaml --stdout | diff binding.yaml -

The broker opens each value that is sealed for an older sealing key and seals it again for the same namespace, binding and
secret name under the same EncryptionKey; nobody sees it. The file must be what the cluster holds: apply it before. Only the
sealed values in it change, comments and order stay. It takes get and patch on secretbindings.

Exit codes: 0 done, also when nothing was outdated; 1 the file cannot be used; 2 wrong command line; 3 the cluster refused, or
there was no answer in time (the file is as it was).";

/// How often status is looked at.
const PAUSE: Duration = Duration::from_millis(250);
/// How often a question is tried to be taken away.
const WITHDRAWALS: usize = 8;

/// Settings of `reseal`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct ResealArgs {
    /// Manifest with SecretBindings, YAML or JSON.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Print the manifest in place of rewriting the file.
    #[arg(long)]
    stdout: bool,
    /// How long the answer may take, for example 90s or 5m.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    timeout: Limit,
    /// For people or for programs; with --stdout the manifest alone is printed, and a note for people goes to standard error.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// What was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    file: String,
    values: usize,
    resealed: usize,
}

impl Display for Done {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} of {} values sealed anew", self.file, self.resealed, self.values)
    }
}

/// A binding of the file: its place and its sealed values by secret.
struct Bound {
    namespace: String,
    name: String,
    sealed: BTreeMap<String, String>,
}

/// Reads, asks, and rewrites the file whole or not at all.
///
/// Requires: `secretbindings: get, patch`.
pub(crate) async fn run(args: &ResealArgs) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let mut text = std::fs::read_to_string(&args.file).map_err(|source| manifests::Error::Read { from: file.clone(), source })?;
    let cluster = Cluster::connect(&args.connection).await?;
    let bound = bindings(&args.file, &cluster)?;
    if bound.is_empty() {
        return Err(Failure::Usage(format!("{file} holds no SecretBinding with sealed values")));
    }
    for bound in &bound {
        bound.must_stand_in(&text, &file)?;
    }
    let mut resealed = 0;
    for bound in &bound {
        let answer = ask(bound, &cluster, args.timeout).await?;
        if let Some(message) = &answer.message {
            let object = cluster::object(SECRET_BINDINGS, Some(&bound.namespace), &bound.name);
            if answer.secrets.is_empty() {
                return Err(Failure::Gone(format!("{object}: nothing was sealed anew: {message}")));
            }
            output::note(&format!("{object}: {message}"));
        }
        for secret in answer.secrets {
            let old = bound.sealed.get(&secret.name).filter(|old| sha256(old) == secret.replaces_sha256);
            text = text.replace(old.ok_or_else(|| bound.differs(&secret.name))?, &secret.value);
            resealed += 1;
        }
    }
    let done = Done { file, values: bound.iter().map(|bound| bound.sealed.len()).sum(), resealed };
    if args.stdout {
        output::say(&text)?;
        output::note(done.to_string().trim());
        return Ok(());
    }
    replace(&args.file, &text)?;
    output::print(args.output, &done)
}

fn bindings(file: &Path, cluster: &Cluster) -> Result<Vec<Bound>, Failure> {
    let mut bound = Vec::new();
    for object in manifests::read(&[file.to_owned()])?.into_iter().filter(|object| object.kind() == SECRET_BINDINGS.kind) {
        let binding: SecretBinding = object.parse()?;
        let sealed = binding.spec.secrets.into_iter().filter_map(|source| Some((source.name, source.sealed?.value)));
        let namespace = object.namespace().unwrap_or_else(|| cluster.namespace()).to_owned();
        let found = Bound { namespace, name: binding.metadata.name.unwrap_or_default(), sealed: sealed.collect() };
        if !found.sealed.is_empty() {
            bound.push(found);
        }
    }
    Ok(bound)
}

impl Bound {
    /// Refuses what could not be replaced, before anybody is asked: it must not be told as done.
    fn must_stand_in(&self, text: &str, file: &str) -> Result<(), manifests::Error> {
        self.sealed.iter().find(|(_, value)| !text.contains(value.as_str())).map_or(Ok(()), |(secret, _)| {
            let object = cluster::object(SECRET_BINDINGS, Some(&self.namespace), &self.name);
            Err(manifests::Error::NotAsWritten { object, from: file.to_owned(), secret: secret.clone() })
        })
    }

    fn differs(&self, secret: &str) -> Failure {
        Failure::Gone(format!(
            "SecretBinding {}/{}: spec.secrets[{secret}] of the file is not the one in the cluster; apply the file first, only what the cluster holds is sealed anew",
            self.namespace, self.name
        ))
    }
}

/// Asks for one binding and waits for the answer; takes the question away again, whatever came of it.
async fn ask(bound: &Bound, cluster: &Cluster, limit: Limit) -> Result<Resealed, Failure> {
    let live = cluster.get(SECRET_BINDINGS, Some(&bound.namespace), &bound.name).await?;
    let live_value = |secret: &str| {
        let sources = live["spec"]["secrets"].as_array()?;
        sources.iter().find(|source| source["name"] == secret)?["sealed"]["value"].as_str()
    };
    if let Some((secret, _)) = bound.sealed.iter().find(|(secret, value)| live_value(secret) != Some(value.as_str())) {
        return Err(bound.differs(secret));
    }
    let request = request::token()?;
    annotate(bound, cluster, &json!({"annotations": {RESEAL_ANNOTATION: request}})).await?;
    let answer = answered(bound, cluster, &request, limit).await;
    let taken_away = withdraw(bound, cluster, &request).await;
    let answer = answer?;
    taken_away?;
    Ok(answer)
}

async fn answered(bound: &Bound, cluster: &Cluster, request: &str, limit: Limit) -> Result<Resealed, Failure> {
    let end = tokio::time::Instant::now() + limit.0;
    loop {
        let mut live = cluster.get(SECRET_BINDINGS, Some(&bound.namespace), &bound.name).await?;
        if live["status"]["resealed"]["request"] == request {
            let object = || cluster::object(SECRET_BINDINGS, Some(&bound.namespace), &bound.name);
            let answer = serde_json::from_value(live["status"]["resealed"].take());
            return Ok(answer.map_err(|source| cluster::Error::Unreadable { object: object(), source })?);
        }
        if tokio::time::Instant::now() >= end {
            let object = cluster::object(SECRET_BINDINGS, Some(&bound.namespace), &bound.name);
            let (seconds, seen) = (limit.0.as_secs(), request::readiness(&live));
            return Err(Failure::NotInTime(format!("{object} was not sealed anew within {seconds} s; {seen}")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes the question away while it is ours: whoever asked since waits for the answer to theirs.
async fn withdraw(bound: &Bound, cluster: &Cluster, request: &str) -> Result<(), cluster::Error> {
    let mut changed = Ok(());
    for _ in 0..WITHDRAWALS {
        let live = cluster.get(SECRET_BINDINGS, Some(&bound.namespace), &bound.name).await?;
        if live["metadata"]["annotations"][RESEAL_ANNOTATION] != request {
            return Ok(());
        }
        let seen = &live["metadata"]["resourceVersion"];
        changed = annotate(bound, cluster, &json!({"resourceVersion": seen, "annotations": {RESEAL_ANNOTATION: null}})).await;
        // Somebody wrote in between, mostly the controller its status: look again.
        if !matches!(changed, Err(cluster::Error::Changed { .. })) {
            return changed;
        }
    }
    changed
}

async fn annotate(bound: &Bound, cluster: &Cluster, metadata: &Value) -> Result<(), cluster::Error> {
    let patch = json!({"metadata": metadata});
    cluster.merge(SECRET_BINDINGS, &bound.namespace, &bound.name, &patch).await.map(drop)
}

fn sha256(text: &str) -> String {
    kustody_core::sealing::format::hex(&Sha256::digest(text.as_bytes()))
}

/// Replaces the file whole or not at all.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".resealed");
    let beside = PathBuf::from(beside);
    std::fs::write(&beside, text)?;
    std::fs::set_permissions(&beside, std::fs::metadata(path)?.permissions())?;
    std::fs::rename(&beside, path)
}
