//! `refresh`: asks for a binding to be resolved again.

use std::fmt::{self, Display, Formatter};

use kustody_api::names::REFRESH_ANNOTATION;
use serde::Serialize;
use serde_json::json;

use crate::cluster::{Cluster, Connection, SECRET_BINDINGS};
use crate::failure::Failure;
use crate::names::ObjectName;
use crate::output::{self, Format};
use crate::request;

const HELP: &str = "\
Examples:
  # the value behind the binding was repaired: do not wait for the next look
  kubectl kustody refresh trainer -n vision
  kubectl -n vision describe secretbinding trainer

A fresh token is written to the annotation kustody.dev/refresh-requested, under your own rights (patch on secretbindings). The
controller then resolves every secret of the binding again, whatever it remembers of it, and status says what it found. Pods
that run with update.mode Live get a changed file by themselves; others have what they were given until they are restarted.

Exit codes: 0 asked for; 2 wrong command line; 3 the cluster refused.";

/// Settings of `refresh`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct RefreshArgs {
    /// The SecretBinding: NAME, or NAMESPACE/NAME.
    #[arg(value_name = "BINDING")]
    binding: ObjectName,
    /// For people or for programs.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// What was asked for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Refresh {
    kind: &'static str,
    namespace: String,
    name: String,
    request: String,
}

/// Writes a fresh token into the annotation.
///
/// Requires: `secretbindings: patch`.
pub(crate) async fn run(args: &RefreshArgs) -> Result<(), Failure> {
    let cluster = Cluster::connect(&args.connection).await?;
    let namespace = request::namespace(&args.binding, args.connection.namespace.as_deref(), &cluster)?;
    let request = request::token()?;
    let name = args.binding.name.clone();
    let patch = json!({"metadata": {"annotations": {REFRESH_ANNOTATION: request}}});
    cluster.merge(SECRET_BINDINGS, &namespace, &name, &patch).await?;
    output::print(args.output, &Refresh { kind: SECRET_BINDINGS.kind, namespace, name, request })
}

impl Display for Refresh {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, request } = self;
        writeln!(
            f,
            "{kind} {namespace}/{name}: refresh requested ({request}). What the controller finds:\n  kubectl -n {namespace} describe secretbinding {name}"
        )
    }
}
