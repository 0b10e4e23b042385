//! Leader election: one replica acts.

use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Seconds after which a leader that renews no more has lost the lease.
const DURATION: u64 = 15;
/// Seconds before that at which the leader renews.
const GRACE: u64 = 5;

/// A lease that is held, or waited for.
///
/// Requires in its namespace: `leases.coordination.k8s.io: get, create, patch, update`.
pub struct Lease {
    held: watch::Receiver<bool>,
    manager: JoinHandle<Result<kube_lease_manager::LeaseManager, LeaseManagerError>>,
}

impl Lease {
    /// Takes part in the election for the lease of this name. `identity` is the pod's name: a container that is started
    /// again need not wait until the lease runs out of the one before it, which has ended.
    pub async fn campaign(client: Client, namespace: &str, name: &str, identity: Option<&str>) -> Result<Self, LeaseManagerError> {
        let mut manager = LeaseManagerBuilder::new(client, name).with_namespace(namespace).with_duration(DURATION).with_grace(GRACE);
        if let Some(identity) = identity {
            manager = manager.with_identity(identity);
        }
        let manager = manager.build().await?;
        let (held, manager) = manager.watch().await;
        Ok(Self { held, manager })
    }

    /// Waits until this process holds the lease; `false` when the election ended without it.
    pub async fn acquired(&mut self) -> bool {
        self.held.wait_for(|held| *held).await.is_ok()
    }

    /// Waits until the lease is lost.
    pub async fn lost(&mut self) {
        // An error says that the manager ended: nobody renews any more.
        let _ = self.held.wait_for(|held| !*held).await;
    }

    /// Gives the lease back, so that the next leader need not wait for it to run out.
    pub async fn release(self) {
        drop(self.held);
        match self.manager.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "unable to give the lease back"),
            Err(error) => tracing::warn!(%error, "the election ended early"),
        }
    }
}
