//! What admission knows without asking: bindings, namespaces, kubelets, quotas, and where the broker is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwapOption;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::runtime::watcher;
use kube::{Api, Client};
use kustody_api::SecretBinding;
use kustody_inject::observe::{bounds_cpu, cluster_ip, kubelet, limits_cpu};
use kustody_inject::{Binding, Bindings, Facts, Kubelet};

use super::index::{Derived, index, of_namespace};
use crate::config::Config;
use crate::k8s::cache::Watches;

type ByNamespace<T> = Arc<RwLock<HashMap<String, T>>>;
type Labels = Arc<BTreeMap<String, String>>;

/// Watch caches; clones share them.
#[derive(Clone, Default)]
pub struct Caches {
    bindings: ByNamespace<Arc<Bindings>>,
    labels: ByNamespace<Labels>,
    quotas: Arc<RwLock<HashSet<String>>>,
    ranges: Arc<RwLock<HashSet<String>>>,
    oldest: Arc<ArcSwapOption<Kubelet>>,
    broker: Arc<ArcSwapOption<Arc<str>>>,
    authority: Arc<ArcSwapOption<String>>,
}

impl Caches {
    /// Starts all watches.
    ///
    /// Requires: `secretbindings, namespaces, nodes, resourcequotas, limitranges: list, watch`; in our namespace the broker's
    /// `services: list, watch`, by name.
    pub fn start(client: &Client, watches: &Watches, config: &Config, authority: Arc<ArcSwapOption<String>>) -> Self {
        let caches = Self { authority, ..Self::default() };
        let all = || watcher::Config::default().any_semantic();
        let bindings = Arc::clone(&caches.bindings);
        let derive = |object: SecretBinding| Arc::new(Binding::new(&object));
        index(watches, "bindings of the webhook", Api::all(client.clone()), all(), derive, move |known, changed| {
            group(&bindings, known, changed, |found| Arc::new(found.cloned().collect()));
        });
        let labels = Arc::clone(&caches.labels);
        let derive = |mut object: Namespace| Arc::new(object.metadata.labels.take().unwrap_or_default());
        index(watches, "namespaces of the webhook", Api::all(client.clone()), all(), derive, move |known: &Derived<Labels>, _| {
            // Namespaces have no namespace: their own name is the key.
            let found = known.iter().map(|((_, name), labels)| (name.clone(), Arc::clone(labels))).collect();
            *labels.write().unwrap_or_else(PoisonError::into_inner) = found;
        });
        let oldest = Arc::clone(&caches.oldest);
        index(watches, "nodes of the webhook", Api::all(client.clone()), all(), kubelet, move |known: &Derived<Kubelet>, _| {
            oldest.store(known.values().min_by_key(|kubelet| kubelet.release()).cloned().map(Arc::new));
        });
        let quotas = Arc::clone(&caches.quotas);
        index(watches, "quotas of the webhook", Api::all(client.clone()), all(), limits_cpu, move |known, _| demanding(&quotas, known));
        let ranges = Arc::clone(&caches.ranges);
        index(watches, "limit ranges of the webhook", Api::all(client.clone()), all(), bounds_cpu, move |known, _| {
            demanding(&ranges, known);
        });
        let broker = Arc::clone(&caches.broker);
        let services: Api<Service> = Api::namespaced(client.clone(), &config.namespace);
        let by_name = watcher::Config::default().fields(&format!("metadata.name={}", config.broker_service()));
        index(watches, "the broker's Service", services, by_name, cluster_ip, move |known, _| {
            broker.store(known.values().flatten().next().cloned().map(Arc::new));
        });
        caches
    }

    /// What is known of a namespace; `None` while anything of it is not known yet: never a guess.
    pub fn facts(&self, namespace: &str) -> Option<Facts> {
        let read = |set: &RwLock<HashSet<String>>| set.read().unwrap_or_else(PoisonError::into_inner).contains(namespace);
        Some(Facts {
            namespace_labels: self.labels.read().unwrap_or_else(PoisonError::into_inner).get(namespace).map(Arc::clone)?,
            bindings: self.bindings.read().unwrap_or_else(PoisonError::into_inner).get(namespace).map(Arc::clone).unwrap_or_default(),
            demands_cpu_limit: read(&self.quotas) || read(&self.ranges),
            oldest_kubelet: self.oldest.load_full(),
            broker: Arc::clone(&*self.broker.load_full()?),
            authority: self.authority.load_full()?,
        })
    }
}

/// Brings the values of the namespace that changed, or of all, up to date.
fn group<V, T>(target: &ByNamespace<T>, known: &Derived<V>, changed: Option<&str>, make: impl Fn(&mut dyn Iterator<Item = &V>) -> T) {
    let of = |namespace: &str| make(&mut of_namespace(known, namespace));
    let mut target = target.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(namespace) = changed {
        target.insert(namespace.to_owned(), of(namespace));
        return;
    }
    let namespaces: HashSet<&str> = known.keys().map(|(namespace, _)| namespace.as_str()).collect();
    *target = namespaces.into_iter().map(|namespace| (namespace.to_owned(), of(namespace))).collect();
}

/// The namespaces in which one object says yes.
fn demanding(target: &RwLock<HashSet<String>>, known: &Derived<bool>) {
    let found = known.iter().filter(|(_, demands)| **demands).map(|((namespace, _), _)| namespace.clone()).collect();
    *target.write().unwrap_or_else(PoisonError::into_inner) = found;
}

#[cfg(test)]
pub(super) mod tests {
    //! Caches that are filled without an API server.

    use serde_json::json;

    use super::*;

    fn binding(namespace: &str, name: String) -> ((String, String), Arc<Binding>) {
        let object = json!({
            "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": name, "namespace": namespace},
            "spec": {"workloads": {"serviceAccounts": [name]}, "secrets": [], "deliver": {}},
        });
        ((namespace.to_owned(), name), Arc::new(Binding::new(&serde_json::from_value(object).unwrap())))
    }

    /// With so many bindings in `vision`, each of another account, and one in each of its neighbours.
    pub(in crate::webhook) fn known(bindings: usize) -> Caches {
        let caches = Caches::default();
        let mut all: Derived<Arc<Binding>> = (0..bindings).map(|number| binding("vision", format!("b{number:05}"))).collect();
        all.extend(["visio", "vision-2"].map(|neighbour| binding(neighbour, "trainer".to_owned())));
        for changed in [None, Some("vision")] {
            group(&caches.bindings, &all, changed, |found| Arc::new(found.cloned().collect()));
        }
        caches.labels.write().unwrap().insert("vision".to_owned(), Labels::default());
        caches.broker.store(Some(Arc::new(Arc::from("https://10.96.0.42:443"))));
        caches.authority.store(Some(Arc::new(String::new())));
        caches
    }

    #[test]
    fn a_namespace_has_its_own_bindings_in_order_and_nothing_of_its_neighbours() {
        let caches = known(10_000);
        let facts = caches.facts("vision").unwrap();
        assert_eq!(facts.bindings.len(), 10_000);
        assert!(facts.bindings.iter().is_sorted_by_key(|binding| binding.name.clone()));
        assert!(facts.bindings.named("b07654").is_some() && facts.bindings.named("trainer").is_none());
        assert_eq!(facts.bindings.of_account("b07654").count(), 1);
        assert!(caches.facts("gone").is_none(), "a namespace that is not known, or was deleted, is no guess");
    }
}
