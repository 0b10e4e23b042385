//! Makes the authority and the certificates that it signs: pure, but for randomness.

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use kustody_core::sealing::format::hex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Days that the authority lives: ten years.
const AUTHORITY_DAYS: i64 = 3652;
/// Days that a certificate lives.
const LEAF_DAYS: i64 = 90;
/// Days before its end at which it is made anew: a third of its life.
const RENEW_DAYS: i64 = LEAF_DAYS / 3;

/// A certificate and its private key, as PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key; overwritten when dropped.
    pub key: Zeroizing<String>,
    /// Since when no client takes the certificate any more.
    pub not_after: Timestamp,
}

/// What is told of an issued certificate beside it, so that nobody has to parse it to know whether it is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its end.
    pub not_after: Timestamp,
    /// SHA-256 of all that it was made of: authority, names, and the certificate itself.
    pub fingerprint: String,
}

/// A new authority.
pub fn authority(common_name: &str, now: Timestamp) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut parameters = authority_parameters(common_name);
    let not_after = live(&mut parameters, now, AUTHORITY_DAYS);
    let certificate = parameters.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()), not_after })
}

/// A certificate for servers of these names, signed by the authority whose key is given.
pub fn leaf(common_name: &str, authority_key: &str, names: &[String], now: Timestamp) -> Result<Pair, rcgen::Error> {
    let issuer = Issuer::new(authority_parameters(common_name), KeyPair::from_pem(authority_key)?);
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(names.to_vec())?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let not_after = live(&mut parameters, now, LEAF_DAYS);
    let certificate = parameters.signed_by(&key, &issuer)?;
    Ok(Pair { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()), not_after })
}

/// Tells a certificate from one of another authority, of other names, or altered.
pub fn fingerprint(authority: &str, names: &[String], certificate: &str) -> String {
    let mut digest = Sha256::new();
    for part in [authority, &names.join(","), certificate] {
        digest.update(part.len().to_be_bytes());
        digest.update(part.as_bytes());
    }
    hex(&digest.finalize())
}

/// Whether a certificate that was issued so must be made anew.
pub fn is_due(issued: &Issued, fingerprint: &str, now: Timestamp) -> bool {
    issued.fingerprint != fingerprint || now >= issued.not_after - (RENEW_DAYS * 24).hours()
}

/// The same for the same name, always: an issuer is known by its name and key alone.
fn authority_parameters(common_name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

/// Sets the validity, from the day before (clocks differ) to `days` later; answers with its end.
fn live(parameters: &mut CertificateParams, now: Timestamp, days: i64) -> Timestamp {
    let (from, to) = (now - 24.hours(), now + (days * 24).hours());
    let date = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (parameters.not_before, parameters.not_after) = (date(from), date(to));
    // The day begins at midnight: the end is never later than what is told of it.
    to - 24.hours()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::{Issued, authority, fingerprint, is_due, leaf};

    fn now() -> jiff::Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_client_that_trusts_the_authority_takes_the_certificate_for_its_names_alone() {
        let ca = authority("kustody", now()).unwrap();
        let names = ["broker.kustody.dev".to_owned(), "kustody-broker.kustody-system.svc".to_owned()];
        let pair = leaf("kustody", &ca.key, &names, now()).unwrap();
        crate::runtime::tls::Certificate::default().replace(pair.certificate.as_bytes(), pair.key.as_bytes()).unwrap();

        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.certificate.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let seconds = u64::try_from(now().as_second()).unwrap();
        let verify = |name: &str, at: u64| {
            let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at));
            verifier.verify_server_cert(&certificate, &[], &ServerName::try_from(name.to_owned()).unwrap(), &[], at)
        };
        for name in &names {
            verify(name, seconds).unwrap();
        }
        assert!(verify("kubernetes.default.svc", seconds).is_err());
        assert!(verify(&names[0], seconds + 91 * 86400).is_err());
        let told = u64::try_from(pair.not_after.as_second()).unwrap();
        verify(&names[0], told - 1).unwrap();
    }

    #[test]
    fn a_certificate_is_due_at_a_third_left_and_when_what_it_was_made_of_changes() {
        let issued =
            Issued { not_after: now() + jiff::SignedDuration::from_hours(90 * 24), fingerprint: fingerprint("ca", &["a".into()], "c") };
        let same = fingerprint("ca", &["a".into()], "c");
        assert!(!is_due(&issued, &same, now()));
        assert!(!is_due(&issued, &same, now() + jiff::SignedDuration::from_hours(59 * 24)));
        assert!(is_due(&issued, &same, now() + jiff::SignedDuration::from_hours(60 * 24)));
        assert!(is_due(&issued, &fingerprint("other", &["a".into()], "c"), now()));
        assert!(is_due(&issued, &fingerprint("ca", &["b".into()], "c"), now()));
        assert!(is_due(&issued, &fingerprint("ca", &["a".into()], "d"), now()));
    }
}
