//! The command line; its help is the manual of the plugin.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::completion::{CompleteArgs, CompletionArgs};
use crate::explain::ExplainArgs;
use crate::names::{BindingName, KeyReference, SecretName};
use crate::preview::InjectArgs;
use crate::recovery::{ExportArgs, ImportArgs};
use crate::refresh::RefreshArgs;
use crate::reseal::ResealArgs;
use crate::rotate::RotateArgs;

const LATER: &str = "\
Each subcommand's --help has examples, the rights that it takes and its exit codes. Completion: kubectl kustody completion --help.

In later releases: doctor. In this one, `kubectl describe` of a KeyProvider or an EncryptionKey says what is missing.";

const SEAL_HELP: &str = "\
Examples:
  # seal standard input for the secret `hf` of the binding `trainer` in namespace `vision`
  printf %s \"$TOKEN\" | kubectl kustody seal --key vision/team-key --binding trainer --secret hf

  # without a cluster: fetch the public key document once, seal wherever you like
  kubectl -n vision get encryptionkey team-key -o jsonpath='{.status.sealingKey.document}' > team-key.doc
  kubectl kustody seal --key-document team-key.doc --binding trainer --secret db --file db.json

  # an entry for spec.secrets of the SecretBinding
  kubectl kustody seal --key vision/team-key --binding trainer --secret hf --file token -o yaml

A sealed value opens only in the namespace of its key, in the binding and under the secret name that it was sealed for;
whoever renames one of them seals again. It may live in git. The SecretBinding need not exist yet.
The value is read from standard input or a file, never from an argument, which other users of the machine could see.

Exit codes: 0 sealed; 1 the value or the key document cannot be used; 2 wrong command line;
3 the key could not be read from the cluster, or it is not ready.";

/// Keys and secrets of ML workloads, from your own machine.
#[derive(Debug, Parser)]
#[command(name = "kubectl-kustody", bin_name = "kubectl kustody", version, about, after_help = LATER)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Seal a value for one secret of one SecretBinding; the result may live in git.
    Seal(SealArgs),
    /// Bring the sealed values of a file up to date with their keys; nobody sees them.
    Reseal(ResealArgs),
    /// Rotate a key once, now.
    Rotate(RotateArgs),
    /// Have every secret of a SecretBinding resolved again, now.
    Refresh(RefreshArgs),
    /// Show what admission would do to a pod, offline or against the cluster; nothing is created.
    Inject(InjectArgs),
    /// Say why a pod was or was not given each secret.
    Explain(ExplainArgs),
    /// Export the keys of an embedded KMS into one encrypted file.
    ExportKeys(ExportArgs),
    /// Import keys of an embedded KMS that were exported, for example into an empty cluster.
    ImportKeys(ImportArgs),
    /// Print completion for bash, zsh, fish or kubectl.
    Completion(CompletionArgs),
    /// What kubectl asks for completion.
    #[command(name = "__complete", hide = true)]
    Complete(CompleteArgs),
}

/// Settings of `seal`.
#[derive(Debug, clap::Args)]
#[command(after_help = SEAL_HELP)]
pub(crate) struct SealArgs {
    /// EncryptionKey to seal for; its key document is read from the cluster, which takes `get` on encryptionkeys.
    #[arg(long, value_name = "NAMESPACE/NAME", required_unless_present = "key_document", conflicts_with = "key_document")]
    pub(crate) key: Option<KeyReference>,
    /// File with a key document (`status.sealingKey.document` of an EncryptionKey); no cluster is asked.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_document: Option<PathBuf>,
    /// Name of the SecretBinding that will hold the value.
    #[arg(long, value_name = "NAME")]
    pub(crate) binding: BindingName,
    /// Name of the secret in that binding (spec.secrets[].name).
    #[arg(long, value_name = "NAME")]
    pub(crate) secret: SecretName,
    /// Read the value from this file in place of standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Remove one line end from the end of the value. Without it the bytes are sealed as they are.
    #[arg(long)]
    pub(crate) strip_newline: bool,
    /// Seal a value without any bytes, which is refused otherwise: it mostly means that the command before the pipe failed.
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// What to print: the sealed value alone, or an entry for spec.secrets.
    #[arg(short, long, value_enum, default_value_t = Output::Value)]
    pub(crate) output: Output,
    /// kubeconfig file; absent: $KUBECONFIG, else ~/.kube/config, else the pod's own service account.
    #[arg(long, value_name = "FILE", conflicts_with = "key_document")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; absent: its current one.
    #[arg(long, value_name = "NAME", conflicts_with = "key_document")]
    pub(crate) context: Option<String>,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// One base64url line.
    Value,
    /// An entry for spec.secrets of the SecretBinding.
    Yaml,
    /// The same entry, as a JSON object.
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Args;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn each_subcommand_teaches_by_an_example() {
        for command in Args::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("kustody {}", command.get_name());
            assert!(help.contains(&example), "{}: {help}", command.get_name());
        }
    }
}
