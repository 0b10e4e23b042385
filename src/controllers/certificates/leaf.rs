//! The certificate of one role in its Secret.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use zeroize::Zeroizing;

use super::authority::Root;
use super::{Error, issue};
use crate::runtime::tls::Certificate;
use crate::runtime::validity::Validity;

const NOT_AFTER: &str = "kustody.dev/not-after";
const FINGERPRINT: &str = "kustody.dev/certificate-fingerprint";

/// What a Secret of a role should hold.
pub struct Wanted<'a> {
    /// Names that the server answers to.
    pub names: &'a [String],
    /// Who signs.
    pub signer: &'a Root,
    /// The common name of authorities.
    pub common_name: &'a str,
    /// Everybody who is trusted.
    pub bundle: &'a str,
}

/// A Secret as it should be, and when its certificate ends.
pub struct Leaf {
    /// To write; `None` when what is there is right.
    pub write: Option<Secret>,
    /// When the certificate ends.
    pub ends: Timestamp,
}

impl Wanted<'_> {
    /// What becomes of what was found: a pair that is good stays when the bundle alone changes.
    pub fn over(&self, found: Option<&Secret>, name: &str, now: Timestamp) -> Result<Leaf, Error> {
        if let Some((secret, validity)) = found.and_then(|secret| Some((secret, self.good(secret, now)?))) {
            let write = (text(secret, "ca.crt") != Some(self.bundle)).then(|| {
                let mut secret = secret.clone();
                secret.data.get_or_insert_default().insert("ca.crt".to_owned(), ByteString(self.bundle.as_bytes().to_vec()));
                secret
            });
            return Ok(Leaf { write, ends: validity.ends });
        }
        let made = issue::leaf(self.common_name, &self.signer.key, &self.signer.validity, self.names, now)?;
        let data = [("tls.crt", made.certificate.as_str()), ("tls.key", &made.key), ("ca.crt", self.bundle)];
        let mut secret = super::secret(name, "kubernetes.io/tls", data);
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(NOT_AFTER.to_owned(), made.validity.ends.to_string());
        annotations.insert(FINGERPRINT.to_owned(), self.fingerprint(&made.certificate));
        // Written only if nobody wrote it since.
        secret.metadata.resource_version = found.and_then(ResourceExt::resource_version);
        Ok(Leaf { write: Some(secret), ends: made.validity.ends })
    }

    /// The validity of what the Secret holds, when it can be served, is of this signer and these names, and is not due.
    fn good(&self, secret: &Secret, now: Timestamp) -> Option<Validity> {
        let (certificate, key) = (text(secret, "tls.crt")?, Zeroizing::new(text(secret, "tls.key")?.to_owned()));
        let validity = Validity::of_pem(certificate.as_bytes())?;
        let good = secret.annotations().get(FINGERPRINT) == Some(&self.fingerprint(certificate))
            && Certificate::default().replace(certificate.as_bytes(), key.as_bytes()).is_ok()
            && !issue::is_due(&validity, &self.signer.validity, now);
        good.then_some(validity)
    }

    fn fingerprint(&self, certificate: &str) -> String {
        issue::fingerprint(&self.signer.certificate, self.names, certificate)
    }
}

fn text<'a>(secret: &'a Secret, entry: &str) -> Option<&'a str> {
    secret.data.as_ref()?.get(entry).and_then(|ByteString(bytes)| std::str::from_utf8(bytes).ok())
}
