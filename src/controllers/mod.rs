//! The controller role: one replica acts, the others wait for its lease.

use std::convert::Infallible;
use std::sync::Arc;

use kube::Client;

use crate::config::Config;
use crate::runtime::lease::Lease;
use crate::runtime::process::Process;

pub mod certificates;
pub mod context;
pub mod encryption_key;
pub mod intent;
pub mod key_provider;
pub mod secret_binding;
#[cfg(test)]
mod tests;
pub mod uninjected;

use context::Context;

/// The role cannot fail to start: what it needs of the API server is retried.
pub type Error = Infallible;

/// Takes part in the election and, once elected, runs every controller until the process stops.
///
/// Losing the lease ends the process: what it was about to do belongs to the next leader.
#[expect(clippy::unused_async, reason = "every role starts the same way, and the others bind ports")]
pub async fn start(client: Client, config: Arc<Config>, process: &Process) -> Result<(), Error> {
    let context = Arc::new(Context::new(client, config, process));
    process.tasks.spawn(async move {
        let stop = context.process.stop.clone();
        let Some(mut lease) = stop.run_until_cancelled(elected(&context)).await else { return };
        tracing::info!("elected: the controllers act");
        let controllers = futures::future::join4(
            certificates::run(Arc::clone(&context)),
            key_provider::controller(Arc::clone(&context)),
            encryption_key::run(Arc::clone(&context)),
            secret_binding::run(Arc::clone(&context)),
        );
        tokio::pin!(controllers);
        tokio::select! {
            _ = &mut controllers => {}
            () = lease.lost() => {
                context.process.fail("the lease was lost to another replica, or could not be renewed");
                controllers.await;
            }
        }
        lease.release().await;
    });
    Ok(())
}

/// Waits for the lease `<name>-controller`, whatever fails on the way.
async fn elected(context: &Context) -> Lease {
    let config = &context.config;
    let name = config.controller_service_account();
    loop {
        match Lease::campaign(context.client.clone(), &config.namespace, &name, config.pod_name.as_deref()).await {
            Ok(mut lease) => {
                if lease.acquired().await {
                    return lease;
                }
            }
            Err(error) => tracing::warn!(%error, "unable to take part in the election, retrying"),
        }
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
}
