//! What admission knows besides the request.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bindings::Bindings;

/// Settings of the installation.
#[derive(Clone, Debug)]
pub struct Config {
    /// Image of the agent.
    pub agent_image: String,
    /// Namespace of the installation, whose pods never ask.
    pub namespace: String,
}

/// What caches say of one namespace and of the cluster.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Labels of the namespace.
    pub namespace_labels: Arc<BTreeMap<String, String>>,
    /// Its bindings.
    pub bindings: Arc<Bindings>,
    /// Whether a quota or a limit range demands a CPU limit of every container.
    pub demands_cpu_limit: bool,
    /// The oldest kubelet of the cluster; absent when there is no node.
    pub oldest_kubelet: Option<Arc<Kubelet>>,
    /// `https://IP:PORT` of the broker.
    pub broker: Arc<str>,
    /// PEM of the authority that signs the broker's certificate.
    pub authority: Arc<String>,
}

/// A node's kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubelet {
    /// Name of the node.
    pub node: String,
    /// As the node says it, for example `v1.36.4`.
    pub version: String,
}

/// The first release whose kubelets read environment files without being told to.
pub const ENVIRONMENT_FILES: (u32, u32) = (1, 35);
/// The first release whose kubelets know native sidecars (init containers that are restarted) without being told to.
pub const NATIVE_SIDECARS: (u32, u32) = (1, 29);

impl Kubelet {
    /// Major and minor; a version that cannot be read counts as the oldest.
    pub fn release(&self) -> (u32, u32) {
        let mut numbers = self.version.trim_start_matches('v').split('.').map(|part| part.parse().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(major), Some(minor)) => (major, minor),
            _ => (0, 0),
        }
    }

    /// Whether it reads environment files.
    pub fn reads_environment_files(&self) -> bool {
        self.release() >= ENVIRONMENT_FILES
    }

    /// Whether it knows native sidecars: an older one would wait for the end of one for ever.
    pub fn knows_native_sidecars(&self) -> bool {
        self.release() >= NATIVE_SIDECARS
    }
}
