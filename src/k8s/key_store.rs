//! The local provider's records as Secrets in the operator's namespace.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use kustody_providers::Error;
use kustody_providers::key_store::{KeyStore, Record, Selector, Written};
use kustody_providers::local::secret;

#[cfg(test)]
mod tests;

/// A [`KeyStore`] over Secrets; every read is live.
///
/// Requires in the operator's namespace: `secrets: get, list, create, update` (the broker: `get, list`).
pub struct Secrets(Api<Secret>);

impl Secrets {
    /// The store in `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }
}

#[async_trait]
impl KeyStore for Secrets {
    async fn read(&self, name: &str) -> Result<Option<Record>, Error> {
        Ok(self.0.get_opt(name).await.map_err(|error| failed("read", name, &error))?.map(secret::read))
    }

    async fn create(&self, record: &Record) -> Result<bool, Error> {
        match self.0.create(&PostParams::default(), &secret::written(record)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
            Err(error) => Err(failed("create", &record.name, &error)),
        }
    }

    async fn replace(&self, record: &Record) -> Result<Written, Error> {
        let conflict = |detail: &str| Error::Conflict { id: record.name.clone(), detail: detail.to_owned() };
        if record.revision.is_empty() {
            // Without a revision the API server would overwrite whatever is there.
            return Err(conflict("it was never read, so it cannot be replaced"));
        }
        match self.0.replace(&record.name, &PostParams::default(), &secret::written(record)).await {
            Ok(written) => Ok(secret::stamp(&written)),
            Err(kube::Error::Api(status)) if status.is_conflict() => Err(conflict("its Secret was written by another")),
            Err(kube::Error::Api(status)) if status.is_not_found() => Err(conflict("its Secret was deleted by another")),
            Err(error) => Err(failed("write", &record.name, &error)),
        }
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<Record>, Error> {
        let selector = selector.to_string();
        let found = self.0.list(&ListParams::default().labels(&selector)).await.map_err(|error| failed("list", &selector, &error))?;
        Ok(found.items.into_iter().map(secret::read).collect())
    }
}

fn failed(operation: &'static str, name: &str, error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => Error::Denied {
            operation,
            id: format!("Secret {name}"),
            detail: "the operator's Role in its own namespace lacks this right on secrets".to_owned(),
        },
        // The error of a Secret's request names the request, never the body.
        _ => Error::Unavailable { operation, detail: format!("Secret {name}: {error}") },
    }
}
