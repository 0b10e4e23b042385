//! Who is asking: a token that is right by itself, and a pod and a service account that are alive.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::caches::Caches;
use super::cluster::Cluster;
use super::refusal::Refused;
use super::token::{Identity, Invalid, Keys};
use crate::runtime::clock::Clock;

/// A token of a service account is about one KiB.
const MAX_TOKEN: usize = 16 * 1024;
/// Signing keys are not fetched more often than this, whatever key ids tokens name.
const REFETCH: Duration = Duration::from_secs(10);
/// After this long without a word of the API server, to its keys or to any one watch, what was withdrawn since is not known here.
pub const STALE: Duration = Duration::from_mins(1);
/// How many pods are asked after at the API server at the same time.
const LIVE: usize = 16;

/// Checks callers; keeps the cluster's signing keys.
pub struct Authenticator {
    caches: Caches,
    cluster: Arc<dyn Cluster>,
    clock: Arc<dyn Clock>,
    /// The signing keys, and when the API server last confirmed them.
    keys: ArcSwapOption<(Keys, Instant)>,
    stale: Duration,
    fetched: Mutex<Option<Instant>>,
    live: Semaphore,
}

/// What of a pod that was looked for is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It is there and may have its secrets.
    Alive,
    /// It is there and may not.
    Dead(&'static str),
    /// Something else is there, or nothing: a cache may be behind.
    Unknown,
}

impl Authenticator {
    /// Without keys: nobody is let in before [`Authenticator::refresh`], nor `stale` after the last one.
    pub fn new(caches: Caches, cluster: Arc<dyn Cluster>, clock: Arc<dyn Clock>, stale: Duration) -> Self {
        let (keys, fetched, live) = (ArcSwapOption::empty(), Mutex::default(), Semaphore::new(LIVE));
        Self { caches, cluster, clock, keys, stale, fetched, live }
    }

    /// Fetches the signing keys: those that were withdrawn are trusted no longer, and the API server is there.
    pub async fn refresh(&self) -> Result<(), kube::Error> {
        self.fetch(Duration::ZERO).await
    }

    async fn fetch(&self, at_least: Duration) -> Result<(), kube::Error> {
        let mut fetched = self.fetched.lock().await;
        if fetched.is_some_and(|at| at.elapsed() < at_least) {
            return Ok(());
        }
        let begun = Instant::now();
        *fetched = Some(begun);
        let keys = self.cluster.keys().await?;
        if keys.is_empty() {
            tracing::error!("the API server publishes no signing key of service accounts that the broker can use (RS256, ES256, ES384)");
        }
        self.keys.store(Some(Arc::new((keys, begun))));
        Ok(())
    }

    /// The identity of a token that is right by itself; the API server is never asked about one that is not.
    pub async fn token<'a>(&self, headers: &'a HeaderMap) -> Result<(Identity, &'a str), Refused> {
        let token = bearer(headers).ok_or_else(Refused::anonymous)?;
        let mut result = self.verify(token);
        if result == Err(Invalid::UnknownKey) {
            if let Err(error) = self.fetch(REFETCH).await {
                tracing::warn!(%error, "unable to fetch the signing keys of service accounts");
                return Err(Refused::later("KeysUnavailable", "the broker cannot fetch the cluster's signing keys at the moment"));
            }
            result = self.verify(token);
        }
        let identity = result.map_err(|cause| {
            tracing::info!(%cause, "a token was refused");
            // A new signing key may be published a moment before it can be fetched again.
            Refused { retry: cause == Invalid::UnknownKey, ..Refused::anonymous() }
        })?;
        if self.keys.load().as_ref().is_none_or(|keys| keys.1.elapsed() > self.stale) {
            let seconds = self.stale.as_secs();
            let message = format!("the broker has not reached the API server for {seconds} s and cannot know what was withdrawn since");
            return Err(Refused::later("ClusterUnavailable", message));
        }
        if let Some(watch) = self.caches.confirmed.stale(Instant::now(), self.stale) {
            let seconds = self.stale.as_secs();
            let message = format!(
                "the API server has not taken up the broker's watch of {watch} for {seconds} s; what was withdrawn since is not known"
            );
            return Err(Refused::later("ClusterUnavailable", message));
        }
        Ok((identity, token))
    }

    fn verify(&self, token: &str) -> Result<Identity, Invalid> {
        self.keys.load().as_ref().ok_or(Invalid::UnknownKey)?.0.verify(token, self.clock.now())
    }

    /// Whether pod and service account of the token are still there; from the caches, else live.
    pub async fn alive(&self, identity: &Identity, token: &str) -> Result<(), Refused> {
        let subject = &identity.subject;
        let pod = self.caches.pods.get(&ObjectRef::new(&subject.pod).within(&subject.namespace));
        let account = self.caches.accounts.get(&ObjectRef::new(&subject.service_account).within(&subject.namespace));
        match (see_pod(pod.as_deref(), identity), has_uid(account.as_deref(), identity)) {
            (Seen::Alive, true) => Ok(()),
            (Seen::Dead(why), _) => Err(gone(identity, why)),
            // Agents ask within milliseconds of their pod's creation: the watch may bring it only now.
            _ => self.alive_live(identity, token).await,
        }
    }

    async fn alive_live(&self, identity: &Identity, token: &str) -> Result<(), Refused> {
        let unavailable = |error: kube::Error| {
            tracing::warn!(%error, "unable to ask the API server about a pod");
            Refused::later("ClusterUnavailable", "the broker does not know the pod yet and cannot ask the API server at the moment")
        };
        let Ok(_permit) = self.live.acquire().await else { return Err(Refused::later("Stopping", "the broker is stopping")) };
        if !self.cluster.review(token).await.map_err(unavailable)? {
            return Err(gone(identity, "the API server does not accept its token any more"));
        }
        let subject = &identity.subject;
        let pod = self.cluster.pod(&subject.namespace, &subject.pod).await.map_err(unavailable)?;
        match see_pod(pod.as_ref(), identity) {
            Seen::Alive => {}
            Seen::Dead(why) => return Err(gone(identity, why)),
            Seen::Unknown => return Err(gone(identity, "it does not exist any more")),
        }
        let account = self.cluster.account(&subject.namespace, &subject.service_account).await.map_err(unavailable)?;
        if has_uid(account.as_ref(), identity) {
            Ok(())
        } else {
            Err(gone(identity, "its service account was deleted or made anew; recreate the pod"))
        }
    }
}

fn see_pod(pod: Option<&Pod>, identity: &Identity) -> Seen {
    let Some(pod) = pod.filter(|pod| pod.uid().as_deref() == Some(&identity.subject.pod_uid)) else { return Seen::Unknown };
    if pod.metadata.deletion_timestamp.is_some() {
        return Seen::Dead("it is being deleted");
    }
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Pending" | "Running") => {}
        _ => return Seen::Dead("it has ended"),
    }
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    if account == Some(identity.subject.service_account.as_str()) { Seen::Alive } else { Seen::Dead("it has another service account") }
}

fn has_uid(account: Option<&ServiceAccount>, identity: &Identity) -> bool {
    account.is_some_and(|account| account.uid().as_deref() == Some(&identity.account_uid))
}

fn gone(identity: &Identity, why: &str) -> Refused {
    let subject = &identity.subject;
    let message = format!("pod {}/{} (UID {}): {why}", subject.namespace, subject.pod, subject.pod_uid);
    Refused::denied(StatusCode::FORBIDDEN, "PodNotAlive", message)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && token.len() <= MAX_TOKEN).then_some(token.trim())
}
