//! Follows the Secret of a role's own certificate and puts each renewal in force.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};

use crate::runtime::process::Process;
use crate::runtime::readiness::Token;
use crate::runtime::tls::Certificate;

/// What the Secret holds, always the newest.
#[derive(Clone)]
pub struct Followed {
    /// For the server; serves nothing until there is one.
    pub certificate: Certificate,
    /// PEM of the authority that signs it.
    pub authority: Arc<ArcSwapOption<String>>,
}

/// Follows Secret `name`; the process is not ready before its first usable content.
///
/// A pair that cannot be used leaves the one in force. Requires in `namespace`, by that one name: `secrets: get, list, watch`.
pub fn follow(client: Client, namespace: &str, name: &str, process: &Process) -> Followed {
    let followed = Followed { certificate: Certificate::default(), authority: Arc::default() };
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let changes = watcher(Api::<Secret>::namespaced(client, namespace), config)
        .default_backoff()
        .applied_objects()
        .take_until(process.stop.clone().cancelled_owned());
    let mut waiting = Some(process.readiness.register(format!("certificate in Secret {name}")));
    let target = followed.clone();
    let name = name.to_owned();
    process.tasks.spawn(async move {
        tokio::pin!(changes);
        while let Some(change) = changes.next().await {
            match change {
                Ok(secret) => put_in_force(&secret, &name, &target, &mut waiting),
                Err(error) => tracing::warn!(%error, secret = name, "watch of the certificate failed, retrying"),
            }
        }
        // Ended before there was one: the process stops, and was never ready.
        std::mem::forget(waiting);
    });
    followed
}

fn put_in_force(secret: &Secret, name: &str, target: &Followed, waiting: &mut Option<Token>) {
    let entry = |entry| secret.data.as_ref().and_then(|data| data.get(entry)).map(|ByteString(bytes)| bytes.as_slice());
    let (Some(certificate), Some(key), Some(authority)) = (entry("tls.crt"), entry("tls.key"), entry("ca.crt")) else {
        tracing::warn!(secret = name, "the Secret lacks tls.crt, tls.key or ca.crt; the certificate in force stays");
        return;
    };
    if let Err(error) = target.certificate.replace(certificate, key) {
        tracing::warn!(%error, secret = name, "the Secret holds no usable certificate; the one in force stays");
        return;
    }
    target.authority.store(Some(Arc::new(String::from_utf8_lossy(authority).into_owned())));
    if waiting.take().is_some() {
        tracing::info!(secret = name, "serving with the certificate");
    }
}
