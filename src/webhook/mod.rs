//! The webhook role: admission of pods from caches alone, and the gate before our own kinds, which asks the API server; it can
//! reach no provider and open no value.

use std::net::SocketAddr;
use std::sync::Arc;

use kube::Client;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::k8s::cache::Watches;
use crate::k8s::certificate;
use crate::runtime::process::Process;
use crate::runtime::server;

pub mod caches;
pub mod gates;
pub mod index;
pub mod pods;

use caches::Caches;
use gates::Gate;
use pods::Admission;

/// Why the webhook cannot start.
#[derive(Debug, Error)]
pub enum Error {
    /// The port is taken or not ours.
    #[error("failed to listen on {address} for admission")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Serves admission until the process stops; ready when caches and certificate are there.
///
/// Requires what [`Caches::start`], [`gates::ask::Live`] and [`certificate::follow`] require.
pub async fn start(client: Client, config: Arc<Config>, process: &Process) -> Result<(), Error> {
    let address = config.webhook_address;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    let (secret, names) = (config.webhook_secret(), config.webhook_names());
    let followed = certificate::follow(client.clone(), &config.namespace, "webhook", &secret, names, process);
    let watches = Watches { readiness: process.readiness.clone(), tasks: process.tasks.clone(), stop: process.stop.clone() };
    let caches = Caches::start(&client, &watches, &config, Arc::clone(&followed.authority));
    let settings = kustody_inject::Config { agent_image: config.agent_image.clone(), namespace: config.namespace.clone() };
    let admission = Admission::new(Arc::new(move |namespace| caches.facts(namespace)), settings, &process.metrics);
    let gate = Gate::new(Arc::new(gates::ask::Live(client)), &process.metrics);
    let tls = followed.certificate.server_config();
    process.tasks.spawn(server::serve(listener, Some(tls), admission.router().merge(gate.router()), process.ending()));
    Ok(())
}
