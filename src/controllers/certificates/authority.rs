//! The authority's Secret: who signs, who will, and who is still trusted.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use zeroize::Zeroizing;

use super::issue::Pair;
use super::roll::{Roll, Step};
use super::{Error, issue};
use crate::runtime::tls::Certificate;
use crate::runtime::validity::Validity;

/// On the authority's Secret: any new value asks for a new authority.
pub const ROLL: &str = "kustody.dev/roll";
/// The value of [`ROLL`] that was acted on.
const ROLLED: &str = "kustody.dev/rolled";
/// The value of [`ROLL`] that the roll which goes on acts on: a later one is a request of its own.
const ROLLING: &str = "kustody.dev/rolling";
/// Since when certificates and bundles have been what the Secret says.
const SINCE: &str = "kustody.dev/in-place-since";
const SIGNER: (&str, &str) = ("ca.crt", "ca.key");
const NEXT: (&str, &str) = ("next.crt", "next.key");
const OLD: &str = "old.crt";

/// One root.
pub struct Root {
    /// Its certificate, as PEM.
    pub certificate: String,
    /// Its key, as PEM.
    pub key: Zeroizing<String>,
    /// Its validity.
    pub validity: Validity,
}

/// What the Secret holds.
pub struct Authority {
    /// Who signs.
    pub signer: Root,
    /// Who will.
    pub next: Option<Root>,
    old: Option<String>,
    secret: Secret,
}

impl Authority {
    /// Reads the Secret. A signer that cannot be used is an error; a successor that cannot be used is none: nothing depends on it.
    pub fn parse(secret: Secret) -> Result<Self, Error> {
        let name = secret.name_any();
        let signer = root(&secret, SIGNER).map_err(|entry| Error::Damaged { name: name.clone(), entry })?;
        let has = |entry: &str| secret.data.as_ref().is_some_and(|data| data.contains_key(entry));
        let next = root(&secret, NEXT).ok();
        if next.is_none() && has(NEXT.0) {
            tracing::warn!(secret = name, "the successor of the authority is damaged, and will be made anew when it is due");
        }
        let old = text(&secret, OLD).filter(|pem| Validity::of_pem(pem.as_bytes()).is_some()).map(str::to_owned);
        Ok(Self { signer, next, old, secret })
    }

    /// Whether this is what the Secret holds.
    pub fn is_of(&self, secret: &Secret) -> bool {
        let of = |secret: &Secret| (secret.uid(), secret.resource_version());
        of(&self.secret) == of(secret)
    }

    /// Whether the signer holds now: nothing is done by a clock that says otherwise.
    pub fn check(&self, now: Timestamp) -> Result<(), Error> {
        let validity = self.signer.validity;
        if validity.holds(now) {
            return Ok(());
        }
        Err(Error::Validity { name: self.secret.name_any(), begins: validity.begins, ends: validity.ends, now })
    }

    /// Everybody who may vouch for a server of ours, as PEM.
    pub fn bundle(&self) -> String {
        let all = [Some(&self.signer.certificate), self.next.as_ref().map(|root| &root.certificate), self.old.as_ref()];
        all.into_iter().flatten().flat_map(|pem| [pem.trim_end(), "\n"]).collect()
    }

    /// The root that pods must have been given before the next step.
    pub fn newest(&self) -> &str {
        &self.next.as_ref().unwrap_or(&self.signer).certificate
    }

    /// Where a roll stands.
    pub fn roll(&self) -> Roll {
        let annotations = self.secret.annotations();
        Roll {
            signer: self.signer.validity,
            next: self.next.is_some(),
            old: self.old.as_ref().and_then(|pem| Validity::of_pem(pem.as_bytes())).map(|validity| validity.ends),
            requested: annotations.get(ROLL) != annotations.get(ROLLED) && annotations.contains_key(ROLL),
            since: annotations.get(SINCE).and_then(|text| text.parse().ok()),
        }
    }

    /// The Secret after this step; `None` when it stays as it is.
    pub fn after(&self, step: Step, common_name: &str, now: Timestamp) -> Result<Option<Secret>, Error> {
        let mut secret = self.secret.clone();
        let annotations = secret.metadata.annotations.get_or_insert_default();
        let data = secret.data.get_or_insert_default();
        match step {
            Step::Wait(_) | Step::Count => return Ok(None),
            Step::Stamp => {
                annotations.insert(SINCE.to_owned(), now.to_string());
            }
            Step::Unstamp => {
                annotations.remove(SINCE);
            }
            Step::Begin => {
                let pair = issue::authority(common_name, Some(self.signer.validity.begins), now)?;
                annotations.remove(SINCE);
                if let Some(asked) = annotations.get(ROLL).cloned() {
                    annotations.insert(ROLLING.to_owned(), asked);
                }
                data.insert(NEXT.0.to_owned(), bytes(&pair.certificate));
                data.insert(NEXT.1.to_owned(), bytes(&pair.key));
            }
            Step::Switch => {
                annotations.remove(SINCE);
                if let Some(asked) = annotations.remove(ROLLING) {
                    annotations.insert(ROLLED.to_owned(), asked);
                }
                for (from, to) in [(SIGNER.0, OLD), (NEXT.0, SIGNER.0), (NEXT.1, SIGNER.1)] {
                    if let Some(bytes) = data.remove(from) {
                        data.insert(to.to_owned(), bytes);
                    }
                }
            }
            Step::Retire => {
                annotations.remove(SINCE);
                data.remove(OLD);
            }
        }
        Ok(Some(secret))
    }
}

/// The Secret of a first authority.
pub fn first(name: &str, pair: &Pair) -> Secret {
    let data = [(SIGNER.0, pair.certificate.as_str()), (SIGNER.1, &pair.key)];
    super::secret(name, "kustody.dev/authority", data)
}

fn text<'a>(secret: &'a Secret, entry: &str) -> Option<&'a str> {
    secret.data.as_ref()?.get(entry).and_then(|ByteString(bytes)| std::str::from_utf8(bytes).ok())
}

fn root(secret: &Secret, (crt, key): (&'static str, &'static str)) -> Result<Root, &'static str> {
    let certificate = text(secret, crt).ok_or(crt)?;
    let validity = Validity::of_pem(certificate.as_bytes()).ok_or(crt)?;
    let pem = text(secret, key).ok_or(key)?;
    Certificate::default().replace(certificate.as_bytes(), pem.as_bytes()).map_err(|_| key)?;
    Ok(Root { certificate: certificate.to_owned(), key: Zeroizing::new(pem.to_owned()), validity })
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}
