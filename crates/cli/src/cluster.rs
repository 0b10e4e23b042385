//! The one door to the cluster: reads objects as JSON and merges small patches, all under the user's own rights.

use std::path::{Path, PathBuf};

use kube::api::{GetParams, ListParams, Patch, PatchParams};
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::Request;
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use crate::{manifests, names};

/// Who changed a field, as `kubectl get --show-managed-fields` shows it.
const FIELD_MANAGER: &str = "kubectl-kustody";

/// Which cluster, and which namespace of it.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Connection {
    /// Namespace; absent: that of the context.
    #[arg(short, long, value_name = "NAME", value_parser = names::namespace)]
    pub(crate) namespace: Option<String>,
    /// kubeconfig file; absent: $KUBECONFIG, else ~/.kube/config, else the pod's own service account.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; absent: its current one.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

/// A resource of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// Its kind.
    pub(crate) kind: &'static str,
    /// Its name in paths and rules.
    pub(crate) plural: &'static str,
    api: &'static str,
}

const fn resource(kind: &'static str, plural: &'static str, api: &'static str) -> Resource {
    Resource { kind, plural, api }
}

pub(crate) const PODS: Resource = resource("Pod", "pods", "/api/v1");
pub(crate) const NAMESPACES: Resource = resource("Namespace", "namespaces", "/api/v1");
pub(crate) const NODES: Resource = resource("Node", "nodes", "/api/v1");
pub(crate) const QUOTAS: Resource = resource("ResourceQuota", "resourcequotas", "/api/v1");
pub(crate) const LIMIT_RANGES: Resource = resource("LimitRange", "limitranges", "/api/v1");
pub(crate) const SERVICES: Resource = resource("Service", "services", "/api/v1");
pub(crate) const DEPLOYMENTS: Resource = resource("Deployment", "deployments", "/apis/apps/v1");
pub(crate) const STATEFUL_SETS: Resource = resource("StatefulSet", "statefulsets", "/apis/apps/v1");
pub(crate) const DAEMON_SETS: Resource = resource("DaemonSet", "daemonsets", "/apis/apps/v1");
pub(crate) const REPLICA_SETS: Resource = resource("ReplicaSet", "replicasets", "/apis/apps/v1");
pub(crate) const JOBS: Resource = resource("Job", "jobs", "/apis/batch/v1");
pub(crate) const CRON_JOBS: Resource = resource("CronJob", "cronjobs", "/apis/batch/v1");
pub(crate) const WEBHOOKS: Resource =
    resource("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "/apis/admissionregistration.k8s.io/v1");
pub(crate) const ENCRYPTION_KEYS: Resource = resource("EncryptionKey", "encryptionkeys", "/apis/kustody.dev/v1alpha1");
pub(crate) const SECRET_BINDINGS: Resource = resource("SecretBinding", "secretbindings", "/apis/kustody.dev/v1alpha1");

/// Why the cluster did not do what it was asked for.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("the cluster is not known: no usable kubeconfig; name one with --kubeconfig")]
    Kubeconfig(#[source] KubeconfigError),
    #[error("the cluster is not known: no usable kubeconfig; name one with --kubeconfig")]
    Infer(#[source] InferConfigError),
    /// Without its cause, which quotes the file and so perhaps a token.
    #[error(
        "the kubeconfig cannot be used{place}: it is no YAML, or a value in it has another type than its field; kubectl config view tells"
    )]
    Unparsed { place: String },
    #[error("the cluster of this kubeconfig cannot be spoken to")]
    Client(#[source] Box<kube::Error>),
    #[error("{object} does not exist in this cluster; check namespace, name and --context")]
    Absent { object: String },
    #[error("you may not {verb} {object}: it takes the verb {verb} on {resource}; ask whoever gives rights in this cluster")]
    Forbidden { verb: &'static str, object: String, resource: &'static str },
    #[error("the API server refuses to {verb} {object}: {message}")]
    Refused { verb: &'static str, object: String, message: String },
    #[error("{object} was changed by others all the while; try again")]
    Changed { object: String },
    #[error("cannot {verb} {object}")]
    Failed {
        verb: &'static str,
        object: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("{object} is not as this release of kubectl kustody knows it; use the release that the cluster has")]
    Unreadable {
        object: String,
        #[source]
        source: serde_json::Error,
    },
}

impl From<KubeconfigError> for Error {
    fn from(source: KubeconfigError) -> Self {
        if let KubeconfigError::Parse(error) = &source {
            Self::Unparsed { place: manifests::place(error) }
        } else {
            Self::Kubeconfig(source)
        }
    }
}

impl From<InferConfigError> for Error {
    fn from(source: InferConfigError) -> Self {
        match std::error::Error::source(&source).and_then(|cause| cause.downcast_ref()) {
            Some(KubeconfigError::Parse(error)) => Self::Unparsed { place: manifests::place(error) },
            _ => Self::Infer(source),
        }
    }
}

/// A cluster, as the user may see it.
pub(crate) struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    /// The cluster that the flags name; nothing is sent yet.
    pub(crate) async fn connect(connection: &Connection) -> Result<Self, Error> {
        let config = config(connection.kubeconfig.as_deref(), connection.context.as_deref()).await?;
        let namespace = connection.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|source| Error::Client(Box::new(source)))?;
        Ok(Self { client, namespace })
    }

    /// The namespace that the flags name, else that of the context.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The client itself, for what deals in other things than objects of ours.
    pub(crate) fn into_client(self) -> Client {
        self.client
    }

    /// Reads one object.
    pub(crate) async fn get(&self, resource: Resource, namespace: Option<&str>, name: &str) -> Result<Value, Error> {
        let failed = |source| failed("get", resource, object(resource, namespace, name), source);
        let request = Request::new(path(resource, namespace)).get(name, &GetParams::default());
        self.client.request(request.map_err(kube::Error::BuildRequest).map_err(failed)?).await.map_err(failed)
    }

    /// Reads all objects, of a namespace if one is named, with these labels if some are.
    pub(crate) async fn list(&self, resource: Resource, namespace: Option<&str>, labels: &str) -> Result<Vec<Value>, Error> {
        let plural = resource.plural;
        let all = || namespace.map_or_else(|| plural.to_owned(), |namespace| format!("{plural} of namespace {namespace}"));
        let failed = |source| failed("list", resource, all(), source);
        let request = Request::new(path(resource, namespace)).list(&ListParams::default().labels(labels));
        let request = request.map_err(kube::Error::BuildRequest).map_err(failed)?;
        let mut list: Value = self.client.request(request).await.map_err(failed)?;
        Ok(match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        })
    }

    /// Merges `patch` into one object, which must exist; answers with what it is then. [`Error::Changed`] when the patch names
    /// a resourceVersion and the object has another.
    pub(crate) async fn merge(&self, resource: Resource, namespace: &str, name: &str, patch: &Value) -> Result<Value, Error> {
        let failed = |source| failed("patch", resource, object(resource, Some(namespace), name), source);
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let request = Request::new(path(resource, Some(namespace))).patch(name, &parameters, &Patch::Merge(patch));
        self.client.request(request.map_err(kube::Error::BuildRequest).map_err(failed)?).await.map_err(failed)
    }
}

/// The configuration that the flags name.
pub(crate) async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, Error> {
    let options = KubeConfigOptions { context: context.map(ToOwned::to_owned), ..KubeConfigOptions::default() };
    Ok(match (kubeconfig, context) {
        (Some(path), _) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
        (None, Some(_)) => Config::from_kubeconfig(&options).await?,
        (None, None) => Config::infer().await?,
    })
}

fn failed(verb: &'static str, resource: Resource, object: String, source: kube::Error) -> Error {
    // Admission answers to a write with the same code, and then its message is the cause.
    let missing_right = |message: &str| verb != "patch" || message.contains(" cannot patch resource ");
    match source {
        kube::Error::Api(status) if status.code == 404 => Error::Absent { object },
        kube::Error::Api(status) if status.code == 403 && missing_right(&status.message) => {
            Error::Forbidden { verb, object, resource: resource.plural }
        }
        kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict" => Error::Changed { object },
        kube::Error::Api(status) => Error::Refused { verb, object, message: status.message },
        source => Error::Failed { verb, object, source: Box::new(source) },
    }
}

fn path(resource: Resource, namespace: Option<&str>) -> String {
    let Resource { api, plural, .. } = resource;
    namespace.map_or_else(|| format!("{api}/{plural}"), |namespace| format!("{api}/namespaces/{namespace}/{plural}"))
}

/// `EncryptionKey vision/team-key`.
pub(crate) fn object(resource: Resource, namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| format!("{} {name}", resource.kind), |namespace| format!("{} {namespace}/{name}", resource.kind))
}

/// An object that was read, as a type of its kind.
pub(crate) fn parse<T: DeserializeOwned>(resource: Resource, found: Value) -> Result<T, Error> {
    let metadata = &found["metadata"];
    let object = object(resource, metadata["namespace"].as_str(), metadata["name"].as_str().unwrap_or_default());
    serde_json::from_value(found).map_err(|source| Error::Unreadable { object, source })
}
