//! Our own certificate authority, the certificates of webhook and broker, and the `caBundle` of the webhook configurations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll, select_all};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};

use super::context::Context;
use crate::config::{Certificates, Config};
use crate::k8s::backoff::{Backoff, jittered, of_watches};
use crate::runtime::expiry::{Expiries, Source};

pub mod authority;
pub mod bundle;
pub mod cert_manager;
mod error;
pub mod issue;
pub mod leaf;
pub mod roll;
#[cfg(test)]
mod tests;

use authority::Authority;
pub use error::Error;
use leaf::Wanted;
use roll::Step;

/// When certificates are looked at though nothing changed.
const AGAIN: Duration = Duration::from_mins(10);

/// Everything that is kept.
struct Kept<'a> {
    context: &'a Context,
    secrets: Api<Secret>,
    mutating: Api<MutatingWebhookConfiguration>,
    validating: Api<ValidatingWebhookConfiguration>,
}

/// Keeps authority, certificates and `caBundle` until the process stops; where cert-manager issues, `caBundle` alone.
///
/// Requires in our namespace: `secrets: create`, and by name for the three Secrets `secrets: get, list, watch, update`; for the
/// two webhook configurations, by name, `get, list, watch, patch`; `pods: list` while an authority takes over from another.
pub async fn run(context: Arc<Context>) {
    let client = &context.client;
    let secrets = Api::namespaced(client.clone(), &context.config.namespace);
    let kept = Kept { context: &context, secrets, mutating: Api::all(client.clone()), validating: Api::all(client.clone()) };
    let mut changes = kept.changes();
    let backoff = Backoff::default();
    loop {
        let kept = match context.config.certificates {
            Certificates::Controller => kept.ensure().await,
            Certificates::CertManager => kept.take().await,
        };
        let wait = match kept {
            Ok(wait) => {
                backoff.forget(&());
                wait
            }
            Err(error) => {
                tracing::warn!(%error, cause = std::error::Error::source(&error).map(tracing::field::display), "certificates are not as they should be, retrying");
                backoff.next(())
            }
        };
        tokio::select! {
            () = context.process.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            _ = changes.next() => {}
        }
    }
}

impl Kept<'_> {
    /// Whatever happens to what is kept; a Helm upgrade resets `caBundle`, which is healed as soon as it is seen.
    fn changes(&self) -> SelectAll<BoxStream<'static, ()>> {
        let by_name = |name: String| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let config = &self.context.config;
        let ca = (config.certificates == Certificates::Controller).then(|| config.ca_secret());
        let mut changes = select_all(
            ca.into_iter()
                .chain([config.webhook_secret(), config.broker_secret()])
                .map(|name| watcher(self.secrets.clone(), by_name(name)).backoff(of_watches()).touched_objects().map(drop).boxed()),
        );
        let mutating = watcher(self.mutating.clone(), by_name(config.webhook_configuration()));
        changes.push(mutating.backoff(of_watches()).touched_objects().map(drop).boxed());
        let validating = watcher(self.validating.clone(), by_name(config.gates_configuration()));
        changes.push(validating.backoff(of_watches()).touched_objects().map(drop).boxed());
        changes
    }

    /// Makes everything what the authority's Secret says, and then takes at most one step of a roll; answers when to look again.
    async fn ensure(&self) -> Result<Duration, Error> {
        let config = &self.context.config;
        let now = self.context.timestamp();
        let common_name = format!("{}.{}", config.name, config.namespace);
        let authority = self.authority(&common_name, now).await?;
        let expiries = &self.context.process.expiries;
        usable(&authority, expiries, now)?;
        let bundle = authority.bundle();
        self.context.authority.store(Some(Arc::new(bundle.clone())));

        let mut written = false;
        for (role, secret, names) in servers(config) {
            let wanted = Wanted { names: &names, signer: &authority.signer, common_name: &common_name, bundle: &bundle };
            let found = self.read(&secret).await?;
            let leaf = wanted.over(found.as_ref(), &secret, now)?;
            expiries.set(role, Source::Issued, Some(leaf.ends));
            if let Some(write) = leaf.write {
                self.stands(&authority).await?;
                self.write(&secret, write, found.is_some()).await?;
                tracing::info!(secret, ends = %leaf.ends, "wrote a certificate and the authorities that are trusted");
                written = true;
            }
        }
        written |= bundle::publish(&self.mutating, &config.webhook_configuration(), &bundle, self.stands(&authority)).await?;
        written |= bundle::publish(&self.validating, &config.gates_configuration(), &bundle, self.stands(&authority)).await?;
        self.advance(&authority, &common_name, now, !written).await
    }

    /// One step of a roll.
    async fn advance(&self, authority: &Authority, common_name: &str, now: Timestamp, in_place: bool) -> Result<Duration, Error> {
        let roll = authority.roll();
        let mut step = roll::step(&roll, now, in_place, None);
        if step == Step::Count {
            let lagging = bundle::lagging(&self.context.client, authority.newest()).await?;
            if lagging > 0 {
                tracing::info!(pods = lagging, "a new authority waits for live pods that were given the old one alone");
            }
            step = roll::step(&roll, now, in_place, Some(lagging));
        }
        if let Some(secret) = authority.after(step, common_name, now)? {
            let name = self.context.config.ca_secret();
            self.write(&name, secret, true).await?;
            tracing::info!(?step, secret = name, "a step of the roll to a new authority");
            return Ok(Duration::ZERO);
        }
        Ok(match step {
            Step::Wait(Some(wait)) => wait.unsigned_abs(),
            _ => jittered(AGAIN),
        })
    }

    /// The authority, made if there is none; of two that are made at once, the first one counts.
    async fn authority(&self, common_name: &str, now: Timestamp) -> Result<Authority, Error> {
        let name = self.context.config.ca_secret();
        if let Some(found) = self.read(&name).await? {
            return Authority::parse(found);
        }
        let pair = issue::authority(common_name, None, now)?;
        match self.secrets.create(&PostParams::default(), &authority::first(&name, &pair)).await {
            Ok(made) => {
                tracing::info!(secret = name, ends = %pair.validity.ends, "made a certificate authority");
                Authority::parse(made)
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let found = self.read(&name).await?;
                Authority::parse(found.unwrap_or_default())
            }
            Err(source) => Err(Error::Kubernetes { action: "create", object: format!("Secret {name}"), source }),
        }
    }

    async fn read(&self, name: &str) -> Result<Option<Secret>, Error> {
        let found = self.secrets.get_opt(name).await;
        found.map_err(|source| Error::Kubernetes { action: "read", object: format!("Secret {name}"), source })
    }

    /// Whether the authority is still what was read. Whoever slept meanwhile, and leads no more, would sign by one that was retired:
    /// asked between the reading of what is to be written and its writing, which refuses what was written since.
    async fn stands(&self, authority: &Authority) -> Result<(), Error> {
        let name = self.context.config.ca_secret();
        let found = self.read(&name).await?;
        if found.is_some_and(|found| authority.is_of(&found)) { Ok(()) } else { Err(Error::Moved { name }) }
    }

    /// Replaces only what was read: its resource version goes with it.
    async fn write(&self, name: &str, secret: Secret, exists: bool) -> Result<(), Error> {
        let parameters = PostParams::default();
        let written =
            if exists { self.secrets.replace(name, &parameters, &secret).await } else { self.secrets.create(&parameters, &secret).await };
        written.map(drop).map_err(|source| Error::Kubernetes { action: "write", object: format!("Secret {name}"), source })
    }
}

/// Who serves: the role, the Secret of its certificate, and the names that it answers to.
pub fn servers(config: &Config) -> [(&'static str, String, Vec<String>); 2] {
    [("broker", config.broker_secret(), config.broker_names()), ("webhook", config.webhook_secret(), config.webhook_names())]
}

/// Says when the authority ends, and only then whether it holds: an alert of one that has ended reads the former.
fn usable(authority: &Authority, expiries: &Expiries, now: Timestamp) -> Result<(), Error> {
    expiries.set("authority", Source::Issued, Some(authority.signer.validity.ends));
    expiries.set("next-authority", Source::Issued, authority.next.as_ref().map(|next| next.validity.ends));
    authority.check(now)
}

fn secret<const N: usize>(name: &str, type_: &str, data: [(&str, &str); N]) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "kustody".to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some(type_.to_owned()),
        data: Some(data.map(|(entry, text)| (entry.to_owned(), ByteString(text.as_bytes().to_vec()))).into()),
        ..Secret::default()
    }
}
