//! What cert-manager issued: read, judged, told of, and trusted where the API server looks. Nothing here writes a Secret.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::{AGAIN, Error, Kept, bundle};
use crate::k8s::backoff::jittered;
use crate::runtime::expiry::Source;
use crate::runtime::tls;
use crate::runtime::validity::Validity;

/// The usable content of a role's Secret.
#[derive(Debug, PartialEq, Eq)]
pub struct Issued {
    /// Who vouches for it, as PEM.
    pub authority: String,
    /// The certificate, as PEM.
    pub certificate: String,
    /// When it ends.
    pub ends: Timestamp,
}

/// What the Secret holds, when whoever trusts its `ca.crt` takes its `tls.crt`.
pub fn issued(found: Option<&Secret>, name: &str, now: Timestamp) -> Result<Issued, Error> {
    let data = found.and_then(|secret| secret.data.as_ref());
    let text = |entry: &'static str| {
        let bytes = data.and_then(|data| data.get(entry)).map(|ByteString(bytes)| bytes.as_slice());
        let text = bytes.filter(|bytes| !bytes.is_empty()).and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.map(str::to_owned).ok_or_else(|| Error::Awaited { name: name.to_owned(), entry })
    };
    let (certificate, authority) = (text("tls.crt")?, text("ca.crt")?);
    let unusable = |source| Error::Unusable { name: name.to_owned(), source };
    tls::vouched(authority.as_bytes(), certificate.as_bytes(), now).map_err(unusable)?;
    let validity = Validity::of_pem(certificate.as_bytes());
    Ok(Issued { ends: validity.map_or(now, |validity| validity.ends), authority, certificate })
}

/// Whether pods, which are handed the webhook's `ca.crt`, take what the broker serves: the two are renewed apart.
pub fn agree(webhook: &Issued, broker: &Issued, name: &str, now: Timestamp) -> Result<(), Error> {
    let vouched = tls::vouched(webhook.authority.as_bytes(), broker.certificate.as_bytes(), now);
    vouched.map_err(|source| Error::Apart { name: name.to_owned(), source })
}

impl Kept<'_> {
    /// Puts what cert-manager issued where the API server and this controller look for it.
    pub(super) async fn take(&self) -> Result<Duration, Error> {
        let (config, now) = (&self.context.config, self.context.timestamp());
        let webhook = self.issued("webhook", &config.webhook_secret(), now).await;
        let broker = self.issued("broker", &config.broker_secret(), now).await;
        // Each for itself: what is wrong with one must not keep the other from serving.
        if let Ok(broker) = &broker {
            self.context.authority.store(Some(Arc::new(broker.authority.clone())));
        }
        if let Ok(webhook) = &webhook {
            bundle::publish(&self.mutating, &config.webhook_configuration(), &webhook.authority, ready(Ok(()))).await?;
            bundle::publish(&self.validating, &config.gates_configuration(), &webhook.authority, ready(Ok(()))).await?;
        }
        agree(&webhook?, &broker?, &config.broker_secret(), now)?;
        Ok(jittered(AGAIN))
    }

    async fn issued(&self, role: &'static str, name: &str, now: Timestamp) -> Result<Issued, Error> {
        let found = self.read(name).await?;
        let issued = issued(found.as_ref(), name, now);
        self.context.process.expiries.set(role, Source::Issued, issued.as_ref().ok().map(|issued| issued.ends));
        issued
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::api::core::v1::Secret;

    use super::super::issue::{self, Pair};
    use super::{agree, issued};

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn authority() -> Pair {
        issue::authority("corp", None, now()).unwrap()
    }

    /// A Secret with what `signer` signs and `trusted` as its `ca.crt`.
    fn secret(signer: &Pair, trusted: &str) -> Secret {
        let leaf = issue::leaf("corp", &signer.key, &signer.validity, &["a".to_owned()], now()).unwrap();
        super::super::secret(
            "a",
            "kubernetes.io/tls",
            [("tls.crt", leaf.certificate.as_str()), ("tls.key", &leaf.key), ("ca.crt", trusted)],
        )
    }

    #[test]
    fn what_cert_manager_issued_is_trusted_as_its_ca_crt_says() {
        let ca = authority();
        let found = issued(Some(&secret(&ca, &ca.certificate)), "kustody-webhook-tls", now()).unwrap();
        assert_eq!(found.authority, ca.certificate);
        assert!(found.ends > now() + SignedDuration::from_hours(89 * 24));
    }

    #[test]
    fn what_cannot_be_used_says_which_secret_and_where_to_look() {
        let (ca, other) = (authority(), authority());
        let of = |secret: &Secret, at| issued(Some(secret), "kustody-webhook-tls", at).unwrap_err().to_string();
        let good = secret(&ca, &ca.certificate);
        for (name, said, part) in [
            ("absent", issued(None, "kustody-webhook-tls", now()).unwrap_err().to_string(), "tls.crt"),
            ("an issuer that says no CA", of(&secret(&ca, ""), now()), "ca.crt"),
            ("of another authority", of(&secret(&ca, &other.certificate), now()), "vouches"),
            ("ended", of(&good, now() + SignedDuration::from_hours(91 * 24)), "vouches"),
        ] {
            for part in [part, "Secret kustody-webhook-tls", "kubectl describe certificate kustody-webhook-tls"] {
                assert!(said.contains(part), "{name}: {part}: {said}");
            }
        }
    }

    #[test]
    fn two_certificates_that_were_renewed_under_different_authorities_are_told_with_the_remedy() {
        let (old, new) = (authority(), authority());
        let both = format!("{}{}", new.certificate, old.certificate);
        let of = |secret: Secret| issued(Some(&secret), "a", now()).unwrap();
        let broker = of(secret(&old, &old.certificate));
        agree(&of(secret(&new, &both)), &broker, "kustody-broker-tls", now()).unwrap();
        let said = agree(&of(secret(&new, &new.certificate)), &broker, "kustody-broker-tls", now()).unwrap_err().to_string();
        assert!(said.contains("kustody-broker-tls") && said.contains("cmctl renew"), "{said}");
    }
}
