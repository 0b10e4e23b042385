//! The composition root: the only file that knows every role.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker;
use crate::config::{Config, Role};
use crate::controllers;
use crate::runtime::clock::SystemClock;
use crate::runtime::process::Process;
use crate::runtime::unsaid::Unsaid;
use crate::runtime::{admin, server};
use crate::webhook;

/// How long servers go on after the end was announced: until every node's routes lead elsewhere.
const ANNOUNCED: Duration = Duration::from_secs(5);
/// How long the background may take to end; with [`ANNOUNCED`] below the chart's grace period of 30 s.
const SHUTDOWN: Duration = Duration::from_secs(20);

/// Why the process could not start or go on.
#[derive(Debug, Error)]
pub enum Error {
    /// No way to the API server.
    #[error("no configuration of the API server's address and credentials was found")]
    Kubeconfig(#[source] kube::config::InferConfigError),
    /// A client could not be made of it.
    #[error("failed to make a client for the API server")]
    Client(#[source] kube::Error),
    /// A port is taken or not ours.
    #[error("failed to listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("failed to listen for signals")]
    Signal(#[source] std::io::Error),
    /// The webhook could not start.
    #[error("failed to start the webhook")]
    Webhook(#[from] webhook::Error),
    /// The broker could not start.
    #[error("failed to start the broker")]
    Broker(#[from] broker::Error),
    /// Something could not go on.
    #[error("{0}")]
    Failed(String),
}

/// Plays the roles of `config` until a signal or a failure; what they open is told to `unsaid`, which the log asks.
pub async fn run(config: Config, unsaid: Unsaid) -> Result<(), Error> {
    let process = Process::new(Arc::new(SystemClock)).telling(unsaid);
    let kubernetes = kube::Config::infer().await.map_err(Error::Kubeconfig)?;
    let client = kube::Client::try_from(kubernetes).map_err(Error::Client)?;
    let config = Arc::new(config);

    let address = config.admin_address;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    // The admin endpoints answer until the very end, so that a drain is visible as "stopping".
    let (admin_stop, admin_tasks) = (CancellationToken::new(), TaskTracker::new());
    admin_tasks.spawn(server::serve(listener, None, admin::router(&process), admin_stop.clone()));

    start_roles(&client, &config, &process).await?;
    tracing::info!(roles = ?config.roles, "started");

    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("ending on SIGTERM"),
        _ = interrupt.recv() => tracing::info!("ending on SIGINT"),
        () = process.stop.cancelled() => {}
    }
    process.draining.cancel();
    // Others learn of the end a moment later, and until then they come here.
    if config.plays(Role::Webhook) || config.plays(Role::Broker) {
        let _ = process.stop.run_until_cancelled(tokio::time::sleep(ANNOUNCED)).await;
    }
    process.stop.cancel();
    process.tasks.close();
    if tokio::time::timeout(SHUTDOWN, process.tasks.wait()).await.is_err() {
        tracing::warn!("not everything ended in time");
    }
    // Whatever connection of a scraper idles: nobody waits for it.
    admin_stop.cancel();
    admin_tasks.close();
    process.failure().map_or(Ok(()), |why| Err(Error::Failed(why.to_owned())))
}

async fn start_roles(client: &kube::Client, config: &Arc<Config>, process: &Process) -> Result<(), Error> {
    if config.plays(Role::Controller) {
        match controllers::start(client.clone(), Arc::clone(config), process).await {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }
    if config.plays(Role::Webhook) {
        webhook::start(client.clone(), Arc::clone(config), process).await?;
    }
    if config.plays(Role::Broker) {
        broker::start(client.clone(), Arc::clone(config), process).await?;
    }
    Ok(())
}
