//! Makes authorities and the certificates that they sign: pure, but for randomness.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use kustody_core::sealing::format::hex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::runtime::validity::Validity;

/// How long an authority lives: ten years.
const AUTHORITY: SignedDuration = SignedDuration::from_hours(3652 * 24);
/// How long a certificate lives.
const LEAF: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long before its end it is made anew: a third of its life.
const RENEW: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Clocks differ.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A certificate and its private key, as PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key; overwritten when dropped.
    pub key: Zeroizing<String>,
    /// From when to when the certificate holds.
    pub validity: Validity,
}

/// A new authority; one that takes over from another holds from when that one did, see [`leaf`].
pub fn authority(common_name: &str, begins: Option<Timestamp>, now: Timestamp) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut parameters = authority_parameters(common_name);
    let validity = live(&mut parameters, begins.unwrap_or(now - DAY), now + AUTHORITY);
    let certificate = parameters.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()), validity })
}

/// A certificate for servers of these names, signed by the authority whose key is given.
///
/// It holds from when its authority does: one that is issued while the clock is ahead is good for those whose clock is not.
pub fn leaf(common_name: &str, signer_key: &str, signer: &Validity, names: &[String], now: Timestamp) -> Result<Pair, rcgen::Error> {
    let issuer = Issuer::new(authority_parameters(common_name), KeyPair::from_pem(signer_key)?);
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(names.to_vec())?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let validity = live(&mut parameters, signer.begins, leaf_end(signer, now));
    let certificate = parameters.signed_by(&key, &issuer)?;
    Ok(Pair { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()), validity })
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

/// Whether a certificate of this validity must be made anew: nobody takes it now, or its end is near and a new one ends later.
pub fn is_due(leaf: &Validity, signer: &Validity, now: Timestamp) -> bool {
    now < leaf.begins || (now >= leaf.ends - RENEW && midnight(leaf_end(signer, now)) > leaf.ends)
}

/// None outlives its authority.
fn leaf_end(signer: &Validity, now: Timestamp) -> Timestamp {
    signer.ends.min(now + LEAF)
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

/// Sets the validity, in whole days; answers with what it became.
fn live(parameters: &mut CertificateParams, begins: Timestamp, ends: Timestamp) -> Validity {
    let date = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (parameters.not_before, parameters.not_after) = (date(begins), date(ends));
    Validity { begins: midnight(begins), ends: midnight(ends) }
}

/// When the day of `at` begins.
fn midnight(at: Timestamp) -> Timestamp {
    at - SignedDuration::from_secs(at.as_second().rem_euclid(DAY.as_secs())) - SignedDuration::from_nanos(at.subsec_nanosecond().into())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::{Pair, authority, fingerprint, is_due, leaf};
    use crate::runtime::validity::Validity;

    fn now() -> jiff::Timestamp {
        "2026-03-01T12:00:00.5Z".parse().unwrap()
    }

    fn days(days: i64) -> SignedDuration {
        SignedDuration::from_hours(days * 24)
    }

    /// Whether a client that trusts `roots` takes the certificate for this name at this time.
    fn takes(roots: &[&Pair], pair: &Pair, name: &str, at: jiff::Timestamp) -> bool {
        let bundle: String = roots.iter().map(|root| root.certificate.as_str()).collect();
        super::super::tests::takes(&bundle, &pair.certificate, name, at)
    }

    #[test]
    fn a_client_that_trusts_the_authority_takes_the_certificate_for_its_names_alone() {
        let ca = authority("kustody", None, now()).unwrap();
        let names = ["broker.kustody.dev".to_owned(), "kustody-broker.kustody-system.svc".to_owned()];
        let pair = leaf("kustody", &ca.key, &ca.validity, &names, now()).unwrap();
        crate::runtime::tls::Certificate::default().replace(pair.certificate.as_bytes(), pair.key.as_bytes()).unwrap();
        for name in &names {
            assert!(takes(&[&ca], &pair, name, now()));
        }
        assert!(!takes(&[&ca], &pair, "kubernetes.default.svc", now()));
        assert!(!takes(&[&ca], &pair, &names[0], now() + days(91)));
        assert!(takes(&[&ca], &pair, &names[0], pair.validity.ends - SignedDuration::from_secs(1)));
    }

    #[test]
    fn what_is_told_of_a_certificate_is_what_stands_in_it() {
        let ca = authority("kustody", None, now()).unwrap();
        let pair = leaf("kustody", &ca.key, &ca.validity, &["a".to_owned()], now()).unwrap();
        for made in [&ca, &pair] {
            assert_eq!(Validity::of_pem(made.certificate.as_bytes()), Some(made.validity));
        }
    }

    #[test]
    fn two_authorities_of_one_name_are_told_apart_and_trusted_together() {
        let (old, new) = (authority("kustody", None, now()).unwrap(), authority("kustody", None, now()).unwrap());
        let names = ["a".to_owned()];
        let signed = leaf("kustody", &new.key, &new.validity, &names, now()).unwrap();
        assert!(
            takes(&[&old, &new], &signed, "a", now()) && takes(&[&new, &old], &signed, "a", now()) && !takes(&[&old], &signed, "a", now())
        );
    }

    #[test]
    fn a_clock_that_is_years_ahead_issues_what_everybody_takes_today() {
        let ca = authority("kustody", None, now()).unwrap();
        let ahead = now() + days(3000);
        let next = authority("kustody", Some(ca.validity.begins), ahead).unwrap();
        let pair = leaf("kustody", &next.key, &next.validity, &["a".to_owned()], ahead).unwrap();
        assert!(takes(&[&next], &pair, "a", now()));
    }

    #[test]
    fn a_certificate_is_due_at_a_third_left_and_never_outlives_its_authority() {
        let ca = authority("kustody", None, now()).unwrap();
        let due = |leaf: &Validity, at| is_due(leaf, &ca.validity, at);
        let first = leaf("kustody", &ca.key, &ca.validity, &["a".to_owned()], now()).unwrap().validity;
        assert!(!due(&first, now()) && !due(&first, now() + days(59)) && due(&first, now() + days(60)) && due(&first, now() + days(900)));
        let future = Validity { begins: now() + days(1), ..first };
        assert!(due(&future, now()), "nobody takes it now");
        let late = ca.validity.ends - days(40);
        let last = leaf("kustody", &ca.key, &ca.validity, &["a".to_owned()], late).unwrap().validity;
        assert_eq!(last.ends, ca.validity.ends);
        assert!(!due(&last, late + days(39)), "a new one would end no later");
    }

    #[test]
    fn a_fingerprint_tells_of_all_that_a_certificate_was_made_of() {
        let same = fingerprint("ca", &["a".into()], "c");
        for other in
            [fingerprint("other", &["a".into()], "c"), fingerprint("ca", &["b".into()], "c"), fingerprint("ca", &["a".into()], "d")]
        {
            assert_ne!(other, same);
        }
    }
}
