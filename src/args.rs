//! The command line: the only place of the operator that reads arguments and environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{AuditVolume, Certificates, Config, PodsWithoutSecrets, Role};

/// Custody of keys and secrets for machine-learning workloads on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "kustody", version, about)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Play one or more roles until ended.
    Run(Box<RunArgs>),
    /// Copy a mounted root key to a place where nobody else can read it (used by the chart's init container).
    InstallRootKey(InstallRootKeyArgs),
    /// Check that the webhook and the broker answer over TLS (used by `helm test`).
    Check(CheckArgs),
}

/// Settings of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Roles to play.
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    pub role: Vec<Role>,
    /// Namespace of the installation.
    #[arg(long, env = "KUSTODY_NAMESPACE")]
    pub namespace: String,
    /// Name of the installation.
    #[arg(long, default_value = "kustody")]
    pub name: String,
    /// Pod that this process runs in: who holds the lease.
    #[arg(long, env = "KUSTODY_POD_NAME")]
    pub pod_name: Option<String>,
    /// Image of the agent.
    #[arg(long)]
    pub agent_image: String,
    /// Where admission is served.
    #[arg(long, default_value = "[::]:8443")]
    pub webhook_address: SocketAddr,
    /// Where releases are served.
    #[arg(long, default_value = "[::]:8444")]
    pub broker_address: SocketAddr,
    /// Where readiness, liveness and metrics are served.
    #[arg(long, default_value = "[::]:8080")]
    pub admin_address: SocketAddr,
    /// Directory of audit records.
    #[arg(long, default_value = "/var/lib/kustody/audit")]
    pub audit_directory: PathBuf,
    /// What lies under that directory.
    #[arg(long, value_enum, default_value = "persistent-volume-claim")]
    pub audit_volume: AuditVolume,
    /// File with the controller's token for the broker.
    #[arg(long, default_value = "/var/run/secrets/kustody.dev/broker/token")]
    pub broker_token: PathBuf,
    /// Where the controller reaches the broker; absent: its Service.
    #[arg(long)]
    pub broker_url: Option<String>,
    /// What the controller does about live pods that should have secrets and lack them.
    #[arg(long, value_enum, default_value = "report")]
    pub pods_without_secrets: PodsWithoutSecrets,
    /// Who issues the certificates of webhook and broker.
    #[arg(long, value_enum, default_value = "controller")]
    pub certificates: Certificates,
}

/// Settings of `install-root-key`.
#[derive(Debug, clap::Args)]
pub struct InstallRootKeyArgs {
    /// The mounted file.
    #[arg(long)]
    pub from: PathBuf,
    /// Where it goes, mode 0400.
    #[arg(long)]
    pub to: PathBuf,
}

/// Settings of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// PEM file of the authority that signs both certificates.
    #[arg(long)]
    pub ca: PathBuf,
    /// `https://` URL of the webhook's Service.
    #[arg(long)]
    pub webhook: String,
    /// `https://` URL of the broker's Service.
    #[arg(long)]
    pub broker: String,
}

impl RunArgs {
    /// The settings as the roles take them.
    pub fn into_config(self) -> Config {
        let Self {
            role,
            namespace,
            pod_name,
            name,
            agent_image,
            webhook_address,
            broker_address,
            admin_address,
            audit_directory,
            audit_volume,
            broker_token,
            broker_url,
            pods_without_secrets,
            certificates,
        } = self;
        Config {
            roles: role,
            namespace,
            pod_name,
            name,
            agent_image,
            webhook_address,
            broker_address,
            admin_address,
            audit_directory,
            audit_volume,
            broker_token,
            broker_url,
            pods_without_secrets,
            certificates,
        }
    }
}
