//! What admission would know about a namespace: out of files, out of the cluster, or both; what is not known is said.

use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, Node, ResourceQuota, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kustody_api::SecretBinding;
use kustody_inject::observe::{bounds_cpu, cluster_ip, kubelet, limits_cpu};
use kustody_inject::{Binding, Config, Facts};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cluster::{self, Cluster, Resource};
use crate::manifests::{self, Object};

/// Where the chart's documentation installs to.
const INSTALLATION: &str = "kustody-system";
/// The chart's own image.
pub(crate) const AGENT_IMAGE: &str = concat!("localhost/kustody-agent:", env!("CARGO_PKG_VERSION"));
/// Stand where a value is known only in the cluster.
const BROKER: &str = "https://BROKER:443";
const AUTHORITY: &str = "AUTHORITY";
/// The UID of a binding that exists only in a file.
const UNKNOWN_UID: &str = "00000000-0000-0000-0000-000000000000";

/// Everything that was found.
#[derive(Default)]
pub(crate) struct World {
    namespaces: Vec<Namespace>,
    bindings: Vec<SecretBinding>,
    nodes: Vec<Node>,
    quotas: Vec<ResourceQuota>,
    ranges: Vec<LimitRange>,
    installation: Installation,
    /// What was taken to be so without knowing.
    pub(crate) notes: Vec<String>,
}

/// What of the installation shows in pods.
#[derive(Default)]
struct Installation {
    namespace: Option<String>,
    agent_image: Option<String>,
    broker: Option<Arc<str>>,
    authority: Option<String>,
}

impl World {
    /// Adds an object of a file; objects that admission does not look at are left out. One that is here already is replaced.
    ///
    /// A binding without a status is taken to be ready: only a cluster says otherwise.
    pub(crate) fn add(&mut self, object: &Object, namespace: &str) -> Result<(), manifests::Error> {
        let mut object = object.clone();
        if object.namespace().is_none() && object.kind() != "Namespace" && object.kind() != "Node" && object.value["metadata"].is_object() {
            object.value["metadata"]["namespace"] = Value::from(namespace);
        }
        match object.kind() {
            "Namespace" => put(&mut self.namespaces, object.parse()?),
            "Node" => put(&mut self.nodes, object.parse()?),
            "ResourceQuota" => put(&mut self.quotas, object.parse()?),
            "LimitRange" => put(&mut self.ranges, object.parse()?),
            "SecretBinding" => {
                let mut binding: SecretBinding = object.parse()?;
                if binding.status.is_none() {
                    self.notes.push(format!("SecretBinding {} of {} is taken to be ready", binding.name_any(), object.from));
                    let before = self.bindings.iter().find(|known| is_same(*known, &binding));
                    binding.metadata.uid = before.and_then(|known| known.metadata.uid.clone()).or_else(|| Some(UNKNOWN_UID.to_owned()));
                    assume_ready(&mut binding);
                }
                put(&mut self.bindings, binding);
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads what decides about pods of a namespace.
    ///
    /// Requires: `secretbindings: list`. Where `namespaces: get` or `nodes: list` is not given, a note says what is assumed.
    pub(crate) async fn read(&mut self, cluster: &Cluster, namespace: &str) -> Result<(), cluster::Error> {
        let found = cluster.list(cluster::SECRET_BINDINGS, Some(namespace), "").await?;
        self.bindings.extend(parsed(cluster::SECRET_BINDINGS, found)?);
        let found = cluster.get(cluster::NAMESPACES, None, namespace).await.map(|found| vec![found]);
        let found = self.known(cluster::NAMESPACES, found, "it is taken to have no label kustody.dev/inject")?;
        self.namespaces.extend(found);
        let found = cluster.list(cluster::NODES, None, "").await;
        let found = self.known(cluster::NODES, found, "every kubelet is taken to be 1.35 or newer")?;
        self.nodes.extend(found);
        Ok(())
    }

    /// Reads what besides shows in the pods of a namespace: quotas, and the installation.
    ///
    /// Each right that is not given (`resourcequotas, limitranges, mutatingwebhookconfigurations: list`; in the installation's
    /// namespace `services, deployments: get`) becomes a note.
    pub(crate) async fn read_rest(&mut self, cluster: &Cluster, namespace: &str) -> Result<(), cluster::Error> {
        let none = "none is taken to demand a CPU limit";
        let found = cluster.list(cluster::QUOTAS, Some(namespace), "").await;
        let found = self.known(cluster::QUOTAS, found, none)?;
        self.quotas.extend(found);
        let found = cluster.list(cluster::LIMIT_RANGES, Some(namespace), "").await;
        let found = self.known(cluster::LIMIT_RANGES, found, none)?;
        self.ranges.extend(found);
        self.read_installation(cluster).await
    }

    async fn read_installation(&mut self, cluster: &Cluster) -> Result<(), cluster::Error> {
        let shown = "placeholders stand for the agent's image, the broker's address and the authority";
        let found = cluster.list(cluster::WEBHOOKS, None, "app.kubernetes.io/name=kustody").await;
        let webhooks: Vec<MutatingWebhookConfiguration> = self.known(cluster::WEBHOOKS, found, shown)?;
        let client = webhooks.into_iter().flat_map(|found| found.webhooks.unwrap_or_default()).map(|webhook| webhook.client_config).next();
        let Some((service, authority)) = client.and_then(|client| Some((client.service?, client.ca_bundle))) else { return Ok(()) };
        self.installation.authority = authority.and_then(|bundle| String::from_utf8(bundle.0).ok());
        let (namespace, webhook) = (service.namespace, service.name);
        let broker = format!("{}-broker", webhook.strip_suffix("-webhook").unwrap_or(&webhook));
        let found = cluster.get(cluster::SERVICES, Some(&namespace), &broker).await.map(|found| vec![found]);
        let services: Vec<Service> = self.known(cluster::SERVICES, found, "a placeholder stands for the broker's address")?;
        self.installation.broker = services.into_iter().find_map(cluster_ip);
        let found = cluster.get(cluster::DEPLOYMENTS, Some(&namespace), &webhook).await.map(|found| vec![found]);
        let deployments: Vec<Deployment> = self.known(cluster::DEPLOYMENTS, found, "a placeholder stands for the agent's image")?;
        self.installation.agent_image = deployments.into_iter().find_map(agent_image);
        self.installation.namespace = Some(namespace);
        Ok(())
    }

    /// What may not be seen is said, with what is taken to be so instead.
    fn known<T: DeserializeOwned>(
        &mut self,
        resource: Resource,
        found: Result<Vec<Value>, cluster::Error>,
        otherwise: &str,
    ) -> Result<Vec<T>, cluster::Error> {
        match found {
            Ok(found) => parsed(resource, found),
            Err(error @ (cluster::Error::Forbidden { .. } | cluster::Error::Absent { .. })) => {
                let note = format!("{error}; {otherwise}");
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// What the webhook's caches would say of the namespace.
    pub(crate) fn facts(&self, namespace: &str) -> Facts {
        let here = |found: Option<String>| found.as_deref() == Some(namespace);
        let bindings = self.bindings_of(namespace).map(|binding| Arc::new(Binding::new(binding))).collect();
        let labels = self.namespaces.iter().find(|found| found.name_any() == namespace).and_then(|found| found.metadata.labels.clone());
        let demands = self.quotas.iter().any(|quota| here(quota.namespace()) && limits_cpu(quota.clone()))
            || self.ranges.iter().any(|range| here(range.namespace()) && bounds_cpu(range.clone()));
        let authority = self.installation.authority.clone();
        Facts {
            namespace_labels: Arc::new(labels.unwrap_or_default()),
            bindings: Arc::new(bindings),
            demands_cpu_limit: demands,
            oldest_kubelet: self.nodes.iter().cloned().map(kubelet).min_by_key(kustody_inject::Kubelet::release).map(Arc::new),
            broker: self.installation.broker.clone().unwrap_or_else(|| Arc::from(BROKER)),
            authority: Arc::new(authority.unwrap_or_else(|| AUTHORITY.to_owned())),
        }
    }

    /// The installation's settings; `agent_image` wins over what was found.
    pub(crate) fn config(&self, agent_image: Option<&str>) -> Config {
        let image = agent_image.or(self.installation.agent_image.as_deref()).unwrap_or(AGENT_IMAGE);
        let namespace = self.installation.namespace.as_deref().unwrap_or(INSTALLATION);
        Config { agent_image: image.to_owned(), namespace: namespace.to_owned() }
    }

    /// The bindings of a namespace as they were read.
    pub(crate) fn bindings_of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a SecretBinding> {
        self.bindings.iter().filter(move |binding| binding.metadata.namespace.as_deref() == Some(namespace))
    }
}

fn parsed<T: DeserializeOwned>(resource: Resource, found: Vec<Value>) -> Result<Vec<T>, cluster::Error> {
    found.into_iter().map(|value| cluster::parse(resource, value)).collect()
}

fn is_same<K: kube::Resource>(a: &K, b: &K) -> bool {
    a.meta().name == b.meta().name && a.meta().namespace == b.meta().namespace
}

fn put<K: kube::Resource>(known: &mut Vec<K>, object: K) {
    known.retain(|found| !is_same(found, &object));
    known.push(object);
}

fn assume_ready(binding: &mut SecretBinding) {
    binding.metadata.generation = Some(1);
    let ready = Condition {
        type_: "Ready".to_owned(),
        status: "True".to_owned(),
        reason: "Assumed".to_owned(),
        message: String::new(),
        observed_generation: Some(1),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    };
    binding.status.get_or_insert_default().conditions.push(ready);
}

/// The image that the webhook was told to add.
fn agent_image(deployment: Deployment) -> Option<String> {
    let containers = deployment.spec?.template.spec?.containers;
    let mut arguments = containers.into_iter().flat_map(|container| container.args.unwrap_or_default());
    arguments.find_map(|argument| argument.strip_prefix("--agent-image=").map(ToOwned::to_owned))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::World;
    use crate::manifests::Object;

    fn object(value: Value) -> Object {
        Object { value, from: "f.yaml".to_owned() }
    }

    fn binding(status: &Value) -> Object {
        let mut value = json!({
            "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": "trainer"},
            "spec": {"workloads": {"serviceAccounts": ["trainer"]}, "secrets": [{"name": "hf", "sealed": {"key": "k", "value": "AA"}}],
                "deliver": {"files": [{"secret": "hf", "path": "hf"}]}},
        });
        if !status.is_null() {
            value["status"] = status.clone();
        }
        object(value)
    }

    #[test]
    fn a_binding_of_a_file_is_ready_unless_its_status_says_otherwise_and_belongs_to_the_namespace_that_is_meant() {
        let mut world = World::default();
        world.add(&binding(&Value::Null), "vision").unwrap();
        let facts = world.facts("vision");
        assert_eq!(facts.bindings.len(), 1);
        let not_ready = |facts: &kustody_inject::Facts| facts.bindings.iter().next().unwrap().not_ready.clone();
        assert!(not_ready(&facts).is_none());
        assert!(world.notes[0].contains("taken to be ready"));
        assert!(world.facts("other").bindings.is_empty());
        world.add(&binding(&json!({})), "vision").unwrap();
        assert!(not_ready(&world.facts("vision")).is_some(), "the later one is meant");
        assert_eq!(world.facts("vision").bindings.len(), 1);
    }

    #[test]
    fn labels_kubelets_and_quotas_of_files_count_as_those_of_a_cluster() {
        let mut world = World::default();
        for value in [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "vision", "labels": {"kustody.dev/inject": "required"}}}),
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "old"}, "status": {"nodeInfo": {
                "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                "kubeletVersion": "v1.33.1", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""}}}),
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"limits.cpu": "1"}}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}),
        ] {
            world.add(&object(value), "vision").unwrap();
        }
        let facts = world.facts("vision");
        assert_eq!(facts.namespace_labels["kustody.dev/inject"], "required");
        assert_eq!(facts.oldest_kubelet.as_ref().unwrap().node, "old");
        assert!(facts.demands_cpu_limit && !world.facts("other").demands_cpu_limit);
    }

    #[test]
    fn an_object_that_is_not_as_its_schema_says_is_named_with_its_file() {
        let broken =
            object(json!({"apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": "trainer"}, "spec": 1}));
        let error = World::default().add(&broken, "vision").unwrap_err().to_string();
        assert!(error.contains("SecretBinding trainer") && error.contains("f.yaml"), "{error}");
    }
}
