//! What the chart tells the process; parsed once in `args`.

use std::net::SocketAddr;
use std::path::PathBuf;

use kustody_core::wire::BROKER_NAME;

/// Settings of one process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which roles this process plays.
    pub roles: Vec<Role>,
    /// Namespace of the installation.
    pub namespace: String,
    /// Name of the installation (the Helm release's full name): prefix of all objects that belong to it.
    pub name: String,
    /// Name of the pod that this process runs in, which the lease is held under; absent: a random one.
    pub pod_name: Option<String>,
    /// Image of the agent that admission adds to pods.
    pub agent_image: String,
    /// Where admission is served (TLS).
    pub webhook_address: SocketAddr,
    /// Where releases are served (TLS).
    pub broker_address: SocketAddr,
    /// Where readiness, liveness and metrics are served (plain).
    pub admin_address: SocketAddr,
    /// Directory of audit records.
    pub audit_directory: PathBuf,
    /// What lies under that directory.
    pub audit_volume: AuditVolume,
    /// File with the controller's token for the broker (audience `broker.kustody.dev`).
    pub broker_token: PathBuf,
    /// Where the controller reaches the broker; absent: the Service `<name>-broker` of the namespace.
    pub broker_url: Option<String>,
    /// What the controller does about live pods that should have secrets and lack them.
    pub pods_without_secrets: PodsWithoutSecrets,
    /// Who issues the certificates of webhook and broker.
    pub certificates: Certificates,
}

/// One of the operator's roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Reconciles the kinds and keeps the certificates; one replica acts.
    Controller,
    /// Admission of pods.
    Webhook,
    /// Releases values to agents.
    Broker,
}

/// What the audit directory survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AuditVolume {
    /// A claim of the broker's StatefulSet.
    PersistentVolumeClaim,
    /// An emptyDir: gone with the pod.
    EmptyDir,
}

/// What is done about live pods that should have secrets and lack them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PodsWithoutSecrets {
    /// A metric, an event of the pod and a condition of the binding.
    Report,
    /// That, and eviction where another pod takes its place and is served.
    Evict,
}

/// Who issues the certificates of webhook and broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Certificates {
    /// The controller, with an authority of its own.
    Controller,
    /// cert-manager, into Secrets of its own names: the controller reads them, and writes none.
    CertManager,
}

impl Certificates {
    /// Of the Secrets' names: each source has its own, because cert-manager takes what it finds for its own and issues nothing.
    fn suffix(self) -> &'static str {
        match self {
            Self::Controller => "tls",
            Self::CertManager => "cert-manager",
        }
    }
}

impl Config {
    /// Whether this process plays `role`.
    pub fn plays(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Secret of the certificate authority: `ca.crt`, `ca.key`; the controller alone reads it.
    pub fn ca_secret(&self) -> String {
        format!("{}-ca", self.name)
    }

    /// Secret of the webhook's certificate: `tls.crt`, `tls.key`, `ca.crt`.
    pub fn webhook_secret(&self) -> String {
        format!("{}-webhook-{}", self.name, self.certificates.suffix())
    }

    /// Secret of the broker's certificate: `tls.crt`, `tls.key`, `ca.crt`.
    pub fn broker_secret(&self) -> String {
        format!("{}-broker-{}", self.name, self.certificates.suffix())
    }

    /// Service of the webhook.
    pub fn webhook_service(&self) -> String {
        format!("{}-webhook", self.name)
    }

    /// Service of the webhook's standby, which admits what no other replica answered.
    pub fn standby_service(&self) -> String {
        format!("{}-webhook-standby", self.name)
    }

    /// Names that the webhook answers to: of its own Service, and of its standby's.
    pub fn webhook_names(&self) -> Vec<String> {
        [self.webhook_service(), self.standby_service()].iter().flat_map(|service| self.names(service)).collect()
    }

    /// Names that the broker answers to: what agents check, whatever address they use, and those of its Service.
    pub fn broker_names(&self) -> Vec<String> {
        [BROKER_NAME.to_owned()].into_iter().chain(self.names(&self.broker_service())).collect()
    }

    fn names(&self, service: &str) -> [String; 2] {
        ["svc", "svc.cluster.local"].map(|end| format!("{service}.{}.{end}", self.namespace))
    }

    /// Service of the broker.
    pub fn broker_service(&self) -> String {
        format!("{}-broker", self.name)
    }

    /// Service account of the controller: the only one that may ask the broker to inspect.
    pub fn controller_service_account(&self) -> String {
        format!("{}-controller", self.name)
    }

    /// The chart's `MutatingWebhookConfiguration`; sorts after the meshes' and KServe's.
    pub fn webhook_configuration(&self) -> String {
        format!("zz-{}", self.name)
    }

    /// The chart's `ValidatingWebhookConfiguration`: the gate before our own kinds.
    pub fn gates_configuration(&self) -> String {
        format!("{}-gates", self.name)
    }
}
