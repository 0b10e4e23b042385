//! What the figures fill the cluster with: pods of a node that has no kubelet, their tokens, and what the API server wrote
//! down of its clients' calls.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use kustody::runtime::clock::{Clock as _, SystemClock};
use kustody_core::wire::{AUDIENCE, env};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::setting;

/// The namespace that `scripts/bench.sh` makes.
pub const NAMESPACE: &str = "bench";
/// The installation's.
const SYSTEM: &str = "kustody-system";
/// Name of the node without a kubelet.
const NODE: &str = "unmanned";
/// How many requests are under way at the same time.
const AT_ONCE: usize = 32;

/// Of the cluster of the environment.
pub async fn client() -> Client {
    Client::try_default().await.expect("a cluster: run this by `make bench`")
}

/// Keeps the node there, and fresh.
pub struct Unmanned {
    pub client: Client,
    fresh: JoinHandle<()>,
}

impl Unmanned {
    /// Makes the node; its Lease is renewed until this goes.
    pub async fn new(client: &Client) -> Self {
        let nodes: Api<Node> = Api::all(client.clone());
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}});
        nodes.create(&PostParams::default(), &parsed(node)).await.expect("a node");
        let now = SystemClock.now();
        let status = json!({"status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": "Bench", "message": "", "lastHeartbeatTime": now, "lastTransitionTime": now}],
            "nodeInfo": {
                "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                "kubeletVersion": "v1.36.4", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": "",
            },
        }});
        nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(status)).await.expect("the node's status");
        let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
        let renew = move |leases: Api<Lease>| async move {
            let spec = json!({"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(SystemClock.now())});
            let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE}, "spec": spec});
            leases.patch(NODE, &PatchParams::apply("bench").force(), &Patch::Apply(lease)).await.expect("the node's Lease");
        };
        renew(leases.clone()).await;
        #[expect(clippy::disallowed_methods, reason = "ends with the node")]
        let fresh = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(10)).await;
                renew(leases.clone()).await;
            }
        });
        Self { client: client.clone(), fresh }
    }

    /// Creates pods `NAME-0` and on, bound to the node; each asks for `binding` and is injected.
    pub async fn pods(&self, name: &str, count: usize, binding: &str) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        at_once(count, |number| {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("{name}-{number}"), "labels": {"kustody.dev/inject": binding, "bench": name}},
                "spec": {
                    "serviceAccountName": "trainer", "nodeName": NODE,
                    "containers": [{
                        "name": "main", "image": "localhost/busybox:1", "command": ["sleep", "3600"],
                        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
                        "env": [{"name": "RANK", "value": number.to_string()}, {"name": "WORLD_SIZE", "value": count.to_string()}],
                    }],
                },
            });
            let pods = pods.clone();
            async move { pods.create(&PostParams::default(), &parsed(pod)).await.expect("a pod") }
        })
        .await
    }

    /// A token of the agent's for each pod, as its kubelet would ask for it.
    pub async fn tokens(&self, pods: &[Pod]) -> Vec<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAMESPACE);
        at_once(pods.len(), |number| {
            let (accounts, pod) = (accounts.clone(), &pods[number]);
            let request = TokenRequest {
                spec: TokenRequestSpec {
                    audiences: vec![AUDIENCE.to_owned()],
                    bound_object_ref: Some(BoundObjectReference {
                        api_version: Some("v1".to_owned()),
                        kind: Some("Pod".to_owned()),
                        name: pod.metadata.name.clone(),
                        uid: pod.uid(),
                    }),
                    expiration_seconds: Some(3600),
                },
                ..TokenRequest::default()
            };
            async move {
                let said = accounts.create_token_request("trainer", &PostParams::default(), &request).await.expect("a token");
                said.status.expect("a token").token
            }
        })
        .await
    }

    /// Deletes the pods of this name at once: no kubelet confirms their end.
    pub async fn clear(&self, name: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let all = ListParams::default().labels(&format!("bench={name}"));
        pods.delete_collection(&DeleteParams::default().grace_period(0), &all).await.expect("the pods go");
    }
}

impl Drop for Unmanned {
    fn drop(&mut self) {
        self.fresh.abort();
    }
}

/// Ends the installation's controller.
pub async fn without_controller(client: &Client) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM);
    let nobody = json!({"spec": {"replicas": 0}});
    deployments.patch_scale("kustody-controller", &PatchParams::default(), &Patch::Merge(nobody)).await.expect("no controller");
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let its = ListParams::default().labels("app.kubernetes.io/component=controller");
    while !pods.list(&its).await.expect("pods").items.is_empty() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A file with the controller's token for the broker, for the process that takes its place.
pub async fn controllers_token(client: &Client) -> tempfile::NamedTempFile {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), SYSTEM);
    let spec = TokenRequestSpec { audiences: vec![AUDIENCE.to_owned()], bound_object_ref: None, expiration_seconds: Some(3600) };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let said = accounts.create_token_request("kustody-controller", &PostParams::default(), &request).await.expect("a token");
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), said.status.expect("a token").token).expect("the token");
    file
}

/// The plan that admission pinned on a pod.
pub fn plan(pod: &Pod) -> String {
    let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let variables = containers.filter(|container| container.name == "kustody-agent").flat_map(|agent| agent.env.iter().flatten());
    let plan = variables.filter(|variable| variable.name == env::PLAN).find_map(|variable| variable.value.clone());
    plan.expect("an injected pod")
}

/// Does something `count` times, a few at the same time; answers come in order.
pub async fn at_once<T, F: Future<Output = T>>(count: usize, act: impl Fn(usize) -> F) -> Vec<T> {
    futures::stream::iter(0..count).map(act).buffered(AT_ONCE).collect().await
}

/// An object as it is written by hand.
pub fn parsed<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("an object")
}

/// The calls since `from` that the API server wrote down and that `keep` keeps, each once, in the order of their answers.
pub fn calls(from: Timestamp, keep: impl Fn(&Value) -> bool) -> Vec<Value> {
    let directory = PathBuf::from(setting("KUSTODY_CLUSTER_DIR")).join("log");
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    // A log that has grown large is put aside under a name with a date.
    for file in fs::read_dir(directory).expect("the API server's logs").flatten() {
        if !file.file_name().to_string_lossy().starts_with("audit") {
            continue;
        }
        for line in BufReader::new(File::open(file.path()).expect("a log")).lines() {
            let Ok(call) = serde_json::from_str::<Value>(&line.expect("text")) else { continue };
            let received = call["requestReceivedTimestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
            if received.is_some_and(|time| time >= from) && keep(&call) && seen.insert(call["auditID"].to_string()) {
                found.push(call);
            }
        }
    }
    found.sort_by_key(|call| call["stageTimestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok()));
    found
}
