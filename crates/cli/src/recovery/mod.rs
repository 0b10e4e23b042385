//! `export-keys` and `import-keys`: what brings an embedded KMS back on an empty cluster.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use kustody_providers::Error as ProviderError;
use kustody_providers::local::recovery::{self, Contents, Secrets};
use thiserror::Error;

use crate::cluster::{self, Cluster, Connection};

mod file;
mod store;

const EXPORT_HELP: &str = "\
Examples:
  # locked with the root key itself: the file that the operator mounts, from where you keep it
  kubectl kustody export-keys --provider local --root root-key --output local.kustody-export

  # locked with a passphrase of its own: the only way for a generated root key, which is then part of the export
  kubectl kustody export-keys --provider local --passphrase-file export-passphrase --output local.kustody-export

The export holds every key of the KeyProvider as it is stored: material wrapped by the root key, never opened. It is useless
without the root key, and without the passphrase where it has one. With --root each key is proven to open before the file is
written. Keep it with the root key in two places, neither of them this cluster, and export again after keys were made or rotated.

It takes get and list on secrets in the operator's namespace. Files with a root key or a passphrase must be readable by you alone.

Exit codes: 0 exported; 1 a file or a key cannot be used; 2 wrong command line; 3 the cluster refused or did not answer.";

const IMPORT_HELP: &str = "\
Examples:
  # on the empty cluster, after `helm install` and before the EncryptionKeys are applied
  kubectl kustody import-keys --file local.kustody-export --root root-key
  kubectl kustody import-keys --file local.kustody-export --passphrase-file export-passphrase

Nothing is overwritten, and nothing is written unless all of it can be: where a key is there with other material, or the
KeyProvider has another root key, the import is refused. A second import of the same file changes nothing.
Then apply the KeyProvider with a line of spec.access that lets the namespaces adopt their keys, and each EncryptionKey with
spec.adopt.keyId; the ids are printed.

It takes get, list and create on secrets in the operator's namespace.

Exit codes: 0 imported; 1 a file or a key cannot be used; 2 wrong command line; 3 the cluster refused or did not answer.";

/// Settings of `export-keys`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT_HELP)]
pub(crate) struct ExportArgs {
    /// KeyProvider whose keys are exported (spec.local).
    #[arg(long, value_name = "NAME")]
    provider: String,
    /// Where the export goes; a file that is there is left as it is.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    secrets: SecretArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Settings of `import-keys`.
#[derive(Debug, clap::Args)]
#[command(after_help = IMPORT_HELP)]
pub(crate) struct ImportArgs {
    /// The export.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    secrets: SecretArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What locks and proves an export.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct SecretArgs {
    /// File with the KeyProvider's root key, or with the passphrase that it is derived from: a copy of what the operator mounts.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// File with a passphrase of the export's own (12 to 256 bytes, one line end at its end is not a part of it).
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Where the keys are.
#[derive(Debug, clap::Args)]
struct PlaceArgs {
    /// Namespace of the operator.
    #[arg(short, long, value_name = "NAME", default_value = "kustody-system")]
    namespace: String,
    /// kubeconfig file; absent: $KUBECONFIG, else ~/.kube/config, else the pod's own service account.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; absent: its current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// Why nothing, or not everything, was done.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Keys(#[from] ProviderError),
    #[error("{path} cannot be read")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{path} is there already and was left as it is; name another --output")]
    Exists { path: String },
    #[error("{path} cannot be written")]
    Write {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("what was done cannot be told on standard output")]
    Tell(#[source] io::Error),
}

impl Error {
    /// The exit code that the help promises.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Cluster(_) | Self::Keys(ProviderError::Denied { .. } | ProviderError::Unavailable { .. }) => 3,
            Self::Keys(_) | Self::Read { .. } | Self::Exists { .. } | Self::Write { .. } | Self::Tell(_) => 1,
        }
    }
}

/// An export is ciphertext of some hundred bytes a key: what is larger is none.
const MAX_EXPORT: u64 = 256 << 20;

/// Exports; the file is there wholly or not at all.
pub(crate) async fn export(options: &ExportArgs) -> Result<(), Error> {
    let path = || options.output.display().to_string();
    if fs::symlink_metadata(&options.output).is_ok() {
        return Err(Error::Exists { path: path() });
    }
    let store = connect(&options.place).await?;
    let exported = recovery::export(&store, &options.provider, &options.secrets.files(), now()).await?;
    file::place(&options.output, |file| file.write_all(exported.text.as_bytes())).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists { path: path() },
        _ => Error::Write { path: path(), source },
    })?;
    let Contents { provider, keys, root_check, holds_root_key, proven } = exported.contents;
    let root = match (holds_root_key, proven) {
        (true, _) => "generated and part of the file: whoever has the file and its passphrase opens everything under it",
        (false, true) => "not part of the file: keep it too; each key was proven to open under it",
        (false, false) => "not part of the file: keep it too; with --root each key would be proven to open under it",
    };
    tell(&format!("exported {} of KeyProvider {provider} to {}\nroot key: check value {root_check}, {root}\n", count(keys.len()), path()))
}

/// Imports.
pub(crate) async fn import(options: &ImportArgs) -> Result<(), Error> {
    let path = || options.file.display().to_string();
    let text = read(&options.file).map_err(|source| Error::Read { path: path(), source })?;
    let store = connect(&options.place).await?;
    let imported = recovery::import(&store, &text, &options.secrets.files()).await?;
    let Contents { provider, keys, root_check, .. } = imported.contents;
    let present = match keys.len() - imported.made {
        0 => "none was".to_owned(),
        1 => "1 was".to_owned(),
        n => format!("{n} were"),
    };
    let destroyed = if imported.destroyed.is_empty() {
        String::new()
    } else {
        format!(
            "destroyed there since the export, and left so; to bring one back, delete its Secret kustody-key-… and import again:\n  {}\n",
            imported.destroyed.join("\n  ")
        )
    };
    tell(&format!(
        "imported {} of KeyProvider {provider}; {present} there already; root key: check value {root_check}\n\
         to take a key back, its EncryptionKey names it in spec.adopt.keyId, and a line of spec.access of the KeyProvider lets it:\n  {}\n{destroyed}",
        count(imported.made),
        keys.join("\n  ")
    ))
}

impl SecretArgs {
    fn files(&self) -> Secrets {
        Secrets { root: self.root.clone(), passphrase: self.passphrase_file.clone() }
    }
}

async fn connect(place: &PlaceArgs) -> Result<store::OperatorSecrets, Error> {
    let connection =
        Connection { namespace: Some(place.namespace.clone()), kubeconfig: place.kubeconfig.clone(), context: place.context.clone() };
    Ok(store::OperatorSecrets::new(Cluster::connect(&connection).await?.into_client(), &place.namespace))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_EXPORT).read_to_string(&mut text)?;
    Ok(text)
}

fn count(keys: usize) -> String {
    if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") }
}

fn tell(said: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(said.as_bytes()).and_then(|()| out.flush()).map_err(Error::Tell)
}

#[expect(clippy::disallowed_methods, reason = "the edge of the program: the export says when it was made")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
