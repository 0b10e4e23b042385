//! What the broker knows of the cluster without asking.

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Namespace, Pod, PodSpec, PodStatus, ServiceAccount};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client};
use kustody_api::{EncryptionKey, KeyProvider, SecretBinding};

use super::changes::{self, Changes};
use crate::k8s::cache::Watches;
use crate::k8s::confirmed::Confirmed;

/// Watch caches; clones share them.
#[derive(Clone)]
pub struct Caches {
    /// Identity and phase of every pod.
    pub pods: Store<Pod>,
    /// Labels of namespaces.
    pub namespaces: Store<Namespace>,
    /// Which service account is which.
    pub accounts: Store<ServiceAccount>,
    /// What is delivered.
    pub bindings: Store<SecretBinding>,
    /// Under which keys.
    pub keys: Store<EncryptionKey>,
    /// By which providers.
    pub providers: Store<KeyProvider>,
    /// How long ago the API server confirmed each of them.
    pub confirmed: Confirmed,
}

impl Caches {
    /// Starts all watches; `changes` hears of everything that may change what a pod is given.
    ///
    /// Requires: `pods, namespaces, serviceaccounts, secretbindings, encryptionkeys, keyproviders: list, watch`.
    pub fn start(client: &Client, watches: &Watches, changes: &Changes) -> Self {
        let confirmed = Confirmed::default();
        let config = Confirmed::config;
        let noting = |name| confirmed.noting(name, client);
        Self {
            pods: watches.start("pods of the broker", Api::all(noting("pods")), config(), trim_pod),
            namespaces: watches.start_telling(
                "namespaces of the broker",
                Api::all(noting("namespaces")),
                config(),
                |namespace: &mut Namespace| namespace.metadata.annotations = None,
                changes.teller(changes::of_namespace),
            ),
            accounts: watches.start(
                "service accounts of the broker",
                Api::all(noting("service accounts")),
                config(),
                |account: &mut ServiceAccount| {
                    (account.metadata.annotations, account.metadata.labels) = (None, None);
                    (account.secrets, account.image_pull_secrets) = (None, None);
                },
            ),
            bindings: watches.start_telling(
                "bindings of the broker",
                Api::all(noting("bindings")),
                config(),
                |_: &mut SecretBinding| {},
                changes.teller(changes::of_spec),
            ),
            keys: watches.start_telling(
                "keys of the broker",
                Api::all(noting("keys")),
                config(),
                |_: &mut EncryptionKey| {},
                changes.teller(changes::of_key),
            ),
            providers: watches.start_telling(
                "providers of the broker",
                Api::all(noting("providers")),
                config(),
                |_: &mut KeyProvider| {},
                changes.teller(changes::of_spec),
            ),
            confirmed,
        }
    }

    /// Whether every cache was filled once: before that, what is not there yet would look missing.
    pub fn filled(&self) -> bool {
        let now = |filled: Option<bool>| filled == Some(true);
        now(self.pods.wait_until_ready().map(|ready| ready.is_ok()).now_or_never())
            && now(self.namespaces.wait_until_ready().map(|ready| ready.is_ok()).now_or_never())
            && now(self.accounts.wait_until_ready().map(|ready| ready.is_ok()).now_or_never())
            && now(self.bindings.wait_until_ready().map(|ready| ready.is_ok()).now_or_never())
            && now(self.keys.wait_until_ready().map(|ready| ready.is_ok()).now_or_never())
            && now(self.providers.wait_until_ready().map(|ready| ready.is_ok()).now_or_never())
    }

    /// The binding of this name.
    pub fn binding(&self, namespace: &str, name: &str) -> Option<Arc<SecretBinding>> {
        self.bindings.get(&ObjectRef::new(name).within(namespace))
    }

    /// The key of this name.
    pub fn key(&self, namespace: &str, name: &str) -> Option<Arc<EncryptionKey>> {
        self.keys.get(&ObjectRef::new(name).within(namespace))
    }

    /// The provider of this name.
    pub fn provider(&self, name: &str) -> Option<Arc<KeyProvider>> {
        self.providers.get(&ObjectRef::new(name))
    }
}

/// Keeps what tells one pod from another and whether it is alive: a cluster has many, and a pod is large.
pub fn trim_pod(pod: &mut Pod) {
    let spec = pod.spec.take().unwrap_or_default();
    pod.spec = Some(PodSpec { service_account_name: spec.service_account_name, ..PodSpec::default() });
    let phase = pod.status.take().and_then(|status| status.phase);
    pod.status = Some(PodStatus { phase, ..PodStatus::default() });
    let metadata = &mut pod.metadata;
    (metadata.labels, metadata.annotations, metadata.owner_references) = (None, None, None);
    (metadata.managed_fields, metadata.finalizers) = (None, None);
}
