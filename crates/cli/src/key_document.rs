//! Where the key document comes from: a file, or the status of an `EncryptionKey`.

use std::path::{Path, PathBuf};

use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};
use kustody_api::encryption_key::EncryptionKey;
use kustody_core::sealing::{self, KeyDocument};
use thiserror::Error;

use crate::names::KeyReference;

/// Why there is no key document.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("the key document {path} cannot be read")]
    File {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{from} does not hold a key document")]
    Document {
        from: String,
        #[source]
        source: sealing::Error,
    },
    #[error("the cluster is not known: no usable kubeconfig; name one with --kubeconfig, or seal offline with --key-document")]
    Kubeconfig(#[from] KubeconfigError),
    #[error("the cluster is not known: no usable kubeconfig; name one with --kubeconfig, or seal offline with --key-document")]
    Infer(#[from] InferConfigError),
    #[error("EncryptionKey {namespace}/{name} cannot be read")]
    Read {
        namespace: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("EncryptionKey {namespace}/{name} does not exist in this cluster; check namespace, name and --context")]
    Absent { namespace: String, name: String },
    #[error(
        "you may not read EncryptionKey {namespace}/{name}: it takes the verb get on encryptionkeys.kustody.dev in that namespace; or have someone give you its key document for --key-document"
    )]
    Forbidden { namespace: String, name: String },
    #[error("EncryptionKey {namespace}/{name} is not ready ({reason}): {message}")]
    NotReady { namespace: String, name: String, reason: String, message: String },
    #[error(
        "status.sealingKey.document of EncryptionKey {namespace}/{name} is the document of {found}: do not use it; the status was changed by something other than Kustody's controller"
    )]
    OtherKey { namespace: String, name: String, found: String },
}

impl Error {
    /// Whether the cause lies in the cluster rather than in what the user gave.
    pub(crate) fn of_cluster(&self) -> bool {
        !matches!(self, Self::File { .. } | Self::Document { .. })
    }
}

/// Reads a key document from a file; offline.
pub(crate) fn from_file(path: &Path) -> Result<KeyDocument, Error> {
    let name = || PathBuf::from(path).display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| Error::File { path: name(), source })?;
    KeyDocument::parse(text.trim()).map_err(|source| Error::Document { from: name(), source })
}

/// Reads the key document of a live `EncryptionKey` that is ready.
///
/// Requires: `encryptionkeys: get`.
pub(crate) async fn from_cluster(key: &KeyReference, kubeconfig: Option<&Path>, context: Option<&str>) -> Result<KeyDocument, Error> {
    let config = config(kubeconfig, context).await?;
    let KeyReference { namespace, name } = key.clone();
    let client = match Client::try_from(config) {
        Ok(client) => client,
        Err(source) => return Err(Error::Read { namespace, name, source: Box::new(source) }),
    };
    match Api::<EncryptionKey>::namespaced(client, &namespace).get(&name).await {
        Ok(found) => of_status(key, &found),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(Error::Absent { namespace, name }),
        Err(kube::Error::Api(status)) if status.code == 403 => Err(Error::Forbidden { namespace, name }),
        Err(source) => Err(Error::Read { namespace, name, source: Box::new(source) }),
    }
}

pub(crate) async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, Error> {
    let options = KubeConfigOptions { context: context.map(ToOwned::to_owned), ..KubeConfigOptions::default() };
    Ok(match (kubeconfig, context) {
        (Some(path), _) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
        (None, Some(_)) => Config::from_kubeconfig(&options).await?,
        (None, None) => Config::infer().await?,
    })
}

fn of_status(key: &KeyReference, found: &EncryptionKey) -> Result<KeyDocument, Error> {
    let KeyReference { namespace, name } = key.clone();
    let ready = found.status.iter().flat_map(|status| &status.conditions).find(|condition| condition.type_ == "Ready");
    let document = found.status.as_ref().and_then(|status| status.sealing_key.as_ref()).map(|sealing| &sealing.document);
    let (reason, message) = match (ready, document) {
        (Some(ready), Some(document)) if ready.status == "True" => {
            let document = KeyDocument::parse(document).map_err(|source| Error::Document {
                from: format!("status.sealingKey.document of EncryptionKey {namespace}/{name}"),
                source,
            })?;
            if (&document.namespace, &document.key) != (&namespace, &name) {
                let found = format!("{}/{}", document.namespace, document.key);
                return Err(Error::OtherKey { namespace, name, found });
            }
            return Ok(document);
        }
        (Some(ready), _) if ready.status != "True" => (ready.reason.clone(), ready.message.clone()),
        _ => ("Pending".to_owned(), "its controller has not published a sealing key yet; wait for the condition Ready".to_owned()),
    };
    Err(Error::NotReady { namespace, name, reason, message })
}
