//! The records of the embedded KMS, as the user may read and make them: nothing here replaces or deletes one.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use kustody_providers::Error;
use kustody_providers::key_store::{KeyStore, Record, Selector, Written};
use kustody_providers::local::secret;

use crate::failure::fault;

/// Secrets of the operator's namespace under the user's own rights: `get`, `list` and, for an import, `create`.
pub(super) struct OperatorSecrets {
    api: Api<Secret>,
    namespace: String,
}

impl OperatorSecrets {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), namespace: namespace.to_owned() }
    }

    fn failed(&self, operation: &'static str, what: &str, error: &kube::Error) -> Error {
        let id = format!("Secrets of namespace {} ({what})", self.namespace);
        match error {
            kube::Error::Api(status) if status.is_forbidden() => {
                let detail = format!("you may not {operation} secrets there; ask whoever gives rights in this cluster");
                Error::Denied { operation, id, detail }
            }
            kube::Error::Api(status) if status.is_not_found() => Error::Configuration {
                detail: format!("namespace {} does not exist in this cluster; check --namespace and --context", self.namespace),
            },
            kube::Error::SerdeError(error) => Error::Unavailable { operation, detail: format!("{id}: the answer: {}", fault(error)) },
            // Any other error of a Secret's request names the request, never the body.
            _ => Error::Unavailable { operation, detail: format!("{id}: {error}") },
        }
    }
}

#[async_trait]
impl KeyStore for OperatorSecrets {
    async fn read(&self, name: &str) -> Result<Option<Record>, Error> {
        Ok(self.api.get_opt(name).await.map_err(|error| self.failed("get", name, &error))?.map(secret::read))
    }

    async fn create(&self, record: &Record) -> Result<bool, Error> {
        match self.api.create(&PostParams::default(), &secret::written(record)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
            Err(error) => Err(self.failed("create", &record.name, &error)),
        }
    }

    async fn replace(&self, record: &Record) -> Result<Written, Error> {
        Err(Error::Conflict { id: record.name.clone(), detail: "kubectl kustody overwrites no record".to_owned() })
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<Record>, Error> {
        let selector = selector.to_string();
        let found =
            self.api.list(&ListParams::default().labels(&selector)).await.map_err(|error| self.failed("list", &selector, &error))?;
        Ok(found.items.into_iter().map(secret::read).collect())
    }
}
