//! The broker role: the only one that opens values.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use kube::Client;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::audit::{Log, OpenError};
use crate::config::Config;
use crate::k8s::cache::Watches;
use crate::k8s::certificate;
use crate::k8s::providers::Providers;
use crate::runtime::clock::Clock;
use crate::runtime::process::Process;
use crate::runtime::server;

pub mod authenticate;
pub mod authorize;
pub mod caches;
pub mod changes;
pub mod cluster;
pub mod inspect;
pub mod limits;
pub mod metrics;
pub mod open;
pub mod opened;
pub mod refusal;
pub mod release;
pub mod reports;
mod reseal;
pub mod revision;
pub mod routes;
#[cfg(test)]
pub(crate) mod tests;
pub mod token;
pub mod turns;
pub mod watch;

use authenticate::Authenticator;
use caches::Caches;
use changes::Changes;

/// Why the broker cannot start.
#[derive(Debug, Error)]
pub enum Error {
    /// The port is taken or not ours.
    #[error("failed to listen on {address} for releases")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No audit, no release.
    #[error(transparent)]
    Audit(#[from] OpenError),
    /// Ended before it began.
    #[error("the audit log was not opened before the process ended")]
    Ended(#[from] tokio::task::JoinError),
}

/// What every request is handed.
pub struct Broker {
    config: Arc<Config>,
    caches: Caches,
    authority: Arc<ArcSwapOption<String>>,
    authenticator: Authenticator,
    opener: open::Opener,
    limits: limits::Limits,
    watch: watch::Watch,
    log: Log,
    counts: metrics::Counts,
    clock: Arc<dyn Clock>,
}

/// Serves releases until the process stops; ready when caches, certificate and signing keys are there.
///
/// Requires what [`Caches::start`], [`cluster::Live`], [`Providers`] and [`certificate::follow`] require.
pub async fn start(client: Client, config: Arc<Config>, process: &Process) -> Result<(), Error> {
    let address = config.broker_address;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    let log = {
        let (directory, process) = (config.audit_directory.clone(), process.clone());
        tokio::task::spawn_blocking(move || Log::open(&directory, &process)).await??
    };
    let watches = Watches { readiness: process.readiness.clone(), tasks: process.tasks.clone(), stop: process.stop.clone() };
    let changes = Changes::default();
    let caches = Caches::start(&client, &watches, &changes);
    let (secret, names) = (config.broker_secret(), config.broker_names());
    let followed = certificate::follow(client.clone(), &config.namespace, "broker", &secret, names, process);
    let connect = Arc::new(Providers::new(client.clone(), &config.namespace, Arc::clone(&process.clock)));
    let counts = metrics::Counts::new(&process.metrics);
    let broker = Arc::new(Broker {
        authenticator: Authenticator::new(caches.clone(), Arc::new(cluster::Live(client)), Arc::clone(&process.clock), authenticate::STALE),
        opener: open::Opener::new(connect, counts.clone(), process.unsaid.clone()),
        limits: limits::Limits::default(),
        watch: watch::Watch::new(changes, &process.metrics, process.stop.clone()),
        clock: Arc::clone(&process.clock),
        config,
        caches,
        authority: followed.authority,
        log,
        counts,
    });
    routes::keep(&broker, process);
    let router = routes::router(broker);
    process.tasks.spawn(server::serve(listener, Some(followed.certificate.server_config()), router, process.ending()));
    Ok(())
}
