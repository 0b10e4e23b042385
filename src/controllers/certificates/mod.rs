//! Our own certificate authority, the certificates of webhook and broker, and the webhook's `caBundle`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use kustody_core::wire::BROKER_NAME;
use thiserror::Error;
use zeroize::Zeroizing;

use super::context::Context;
use crate::k8s::backoff::{Backoff, jittered};

pub mod issue;

use issue::{Issued, Pair};

/// When certificates are looked at though nothing changed.
const AGAIN: Duration = Duration::from_mins(10);
const NOT_AFTER: &str = "kustody.dev/not-after";
const FINGERPRINT: &str = "kustody.dev/certificate-fingerprint";

/// Why certificates are not as they should be. No error holds a key.
#[derive(Debug, Error)]
pub enum Error {
    /// The API server.
    #[error("failed to {action} {object}")]
    Kubernetes {
        /// What was tried.
        action: &'static str,
        /// On what.
        object: String,
        /// Why it failed.
        #[source]
        source: kube::Error,
    },
    /// The authority's Secret is damaged; a new authority would cut off every pod that waits for the broker.
    #[error("Secret {name}: {entry} is missing or unreadable; restore it, or delete the Secret to have a new authority made")]
    Damaged {
        /// Which Secret.
        name: String,
        /// Which entry.
        entry: &'static str,
    },
    /// A certificate could not be made.
    #[error("failed to make a certificate")]
    Issue(#[from] rcgen::Error),
}

/// Keeps authority, certificates and `caBundle` until the process stops.
///
/// Requires in our namespace: `secrets: create`, and by name for the three Secrets `secrets: get, list, watch, update`; for the
/// one webhook configuration, by name, `mutatingwebhookconfigurations: get, list, watch, patch`.
pub async fn run(context: Arc<Context>) {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &context.config.namespace);
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(context.client.clone());
    let by_name = |name: String| watcher::Config::default().fields(&format!("metadata.name={name}"));
    let config = &context.config;
    let mut changes = stream::select_all(
        [config.ca_secret(), config.webhook_secret(), config.broker_secret()]
            .map(|name| watcher(secrets.clone(), by_name(name)).default_backoff().touched_objects().map(drop).boxed()),
    );
    // A Helm upgrade resets caBundle: it is healed as soon as it is seen.
    changes.push(watcher(webhooks.clone(), by_name(config.webhook_configuration())).default_backoff().touched_objects().map(drop).boxed());

    let backoff = Backoff::default();
    loop {
        let wait = match ensure(&context, &secrets, &webhooks).await {
            Ok(()) => {
                backoff.forget(&());
                jittered(AGAIN)
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

async fn ensure(context: &Context, secrets: &Api<Secret>, webhooks: &Api<MutatingWebhookConfiguration>) -> Result<(), Error> {
    let config = &context.config;
    let now = context.timestamp();
    let common_name = format!("{}.{}", config.name, config.namespace);
    let authority = authority(secrets, &config.ca_secret(), &common_name, now).await?;
    context.authority.store(Some(Arc::new(authority.certificate.clone())));

    let service = |name: String| [format!("{name}.{}.svc", config.namespace), format!("{name}.{}.svc.cluster.local", config.namespace)];
    let broker_names: Vec<String> = [BROKER_NAME.to_owned()].into_iter().chain(service(config.broker_service())).collect();
    leaf(secrets, &config.broker_secret(), &broker_names, &common_name, &authority, now).await?;
    leaf(secrets, &config.webhook_secret(), &service(config.webhook_service()), &common_name, &authority, now).await?;
    publish(webhooks, &config.webhook_configuration(), &authority.certificate).await
}

struct Authority {
    certificate: String,
    key: Zeroizing<String>,
}

/// The authority, made if there is none; of two that are made at once, the first one counts.
async fn authority(secrets: &Api<Secret>, name: &str, common_name: &str, now: Timestamp) -> Result<Authority, Error> {
    if let Some(found) = read(secrets, name).await? {
        return parse(found, name);
    }
    let pair = issue::authority(common_name, now)?;
    let secret = secret(name, "kustody.dev/authority", BTreeMap::new(), [("ca.crt", pair.certificate.as_str()), ("ca.key", &pair.key)]);
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => {
            tracing::info!(secret = name, not_after = %pair.not_after, "made a certificate authority");
            Ok(Authority { certificate: pair.certificate, key: pair.key })
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let found = read(secrets, name).await?;
            parse(found.unwrap_or_default(), name)
        }
        Err(source) => Err(Error::Kubernetes { action: "create", object: format!("Secret {name}"), source }),
    }
}

fn parse(secret: Secret, name: &str) -> Result<Authority, Error> {
    let mut data = secret.data.unwrap_or_default();
    let mut entry = |entry: &'static str| {
        let text = data.remove(entry).and_then(|ByteString(bytes)| String::from_utf8(bytes).ok());
        text.filter(|text| text.contains("-----BEGIN")).ok_or_else(|| Error::Damaged { name: name.to_owned(), entry })
    };
    Ok(Authority { certificate: entry("ca.crt")?, key: Zeroizing::new(entry("ca.key")?) })
}

/// A certificate that is not due; written only if nobody wrote it since.
async fn leaf(
    secrets: &Api<Secret>,
    name: &str,
    names: &[String],
    common_name: &str,
    authority: &Authority,
    now: Timestamp,
) -> Result<(), Error> {
    let found = read(secrets, name).await?;
    if found.as_ref().is_some_and(|secret| is_current(secret, names, authority, now)) {
        return Ok(());
    }
    let Pair { certificate, key, not_after } = issue::leaf(common_name, &authority.key, names, now)?;
    let annotations = BTreeMap::from([
        (NOT_AFTER.to_owned(), not_after.to_string()),
        (FINGERPRINT.to_owned(), issue::fingerprint(&authority.certificate, names, &certificate)),
    ]);
    let data = [("tls.crt", certificate.as_str()), ("tls.key", &key), ("ca.crt", &authority.certificate)];
    let mut secret = secret(name, "kubernetes.io/tls", annotations, data);
    let written = match found {
        Some(found) => {
            secret.metadata.resource_version = found.resource_version();
            secrets.replace(name, &PostParams::default(), &secret).await
        }
        None => secrets.create(&PostParams::default(), &secret).await,
    };
    written.map_err(|source| Error::Kubernetes { action: "write", object: format!("Secret {name}"), source })?;
    tracing::info!(secret = name, %not_after, "issued a certificate");
    Ok(())
}

fn is_current(secret: &Secret, names: &[String], authority: &Authority, now: Timestamp) -> bool {
    let annotations = secret.annotations();
    let not_after = annotations.get(NOT_AFTER).and_then(|text| text.parse().ok());
    let text = |entry| secret.data.as_ref()?.get(entry).and_then(|ByteString(bytes)| std::str::from_utf8(bytes).ok());
    let (Some(not_after), Some(fingerprint), Some(certificate), Some(key)) =
        (not_after, annotations.get(FINGERPRINT), text("tls.crt"), text("tls.key"))
    else {
        return false;
    };
    let issued = Issued { not_after, fingerprint: fingerprint.clone() };
    text("ca.crt") == Some(&authority.certificate)
        && crate::runtime::tls::Certificate::default().replace(certificate.as_bytes(), key.as_bytes()).is_ok()
        && !issue::is_due(&issued, &issue::fingerprint(&authority.certificate, names, certificate), now)
}

/// Puts the authority into every webhook of the configuration and touches nothing else.
async fn publish(webhooks: &Api<MutatingWebhookConfiguration>, name: &str, certificate: &str) -> Result<(), Error> {
    let failed = |action| move |source| Error::Kubernetes { action, object: format!("MutatingWebhookConfiguration {name}"), source };
    let Some(found) = webhooks.get_opt(name).await.map_err(failed("read"))? else { return Ok(()) };
    let stale: Vec<&str> = found
        .webhooks
        .iter()
        .flatten()
        .filter(|webhook| webhook.client_config.ca_bundle.as_ref().is_none_or(|bundle| bundle.0 != certificate.as_bytes()))
        .map(|webhook| webhook.name.as_str())
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    // Lists of webhooks merge by name; the resource version refuses it when the list itself was changed meanwhile.
    let bundle = serde_json::to_value(ByteString(certificate.as_bytes().to_vec())).unwrap_or_default();
    let patch = serde_json::json!({
        "metadata": {"resourceVersion": found.resource_version()},
        "webhooks": stale.iter().map(|name| serde_json::json!({"name": name, "clientConfig": {"caBundle": bundle}})).collect::<Vec<_>>(),
    });
    webhooks.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await.map_err(failed("patch"))?;
    tracing::info!(configuration = name, webhooks = stale.len(), "put the authority into the webhook configuration");
    Ok(())
}

async fn read(secrets: &Api<Secret>, name: &str) -> Result<Option<Secret>, Error> {
    let found = secrets.get_opt(name).await;
    found.map_err(|source| Error::Kubernetes { action: "read", object: format!("Secret {name}"), source })
}

fn secret<const N: usize>(name: &str, type_: &str, annotations: BTreeMap<String, String>, data: [(&str, &str); N]) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "kustody".to_owned())])),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        type_: Some(type_.to_owned()),
        data: Some(data.map(|(entry, text)| (entry.to_owned(), ByteString(text.as_bytes().to_vec()))).into()),
        ..Secret::default()
    }
}
