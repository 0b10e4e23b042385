//! From when to when a certificate holds, read from the certificate itself: what is said beside it may be wrong.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Before this no client takes the certificate.
    pub begins: Timestamp,
    /// After this no client takes it any more.
    pub ends: Timestamp,
}

impl Validity {
    /// Of the first certificate in a PEM text; `None` when it cannot be read.
    pub fn of_pem(pem: &[u8]) -> Option<Self> {
        Self::of_der(&CertificateDer::pem_slice_iter(pem).next()?.ok()?)
    }

    /// Of an X.509 certificate (RFC 5280, 4.1); `None` when it cannot be read.
    pub fn of_der(mut der: &[u8]) -> Option<Self> {
        let mut certificate = element(&mut der, SEQUENCE)?;
        let mut body = element(&mut certificate, SEQUENCE)?;
        if body.first() == Some(&VERSION) {
            element(&mut body, VERSION)?;
        }
        element(&mut body, INTEGER)?; // serial number
        element(&mut body, SEQUENCE)?; // algorithm
        element(&mut body, SEQUENCE)?; // issuer
        let mut validity = element(&mut body, SEQUENCE)?;
        Some(Self { begins: time(&mut validity)?, ends: time(&mut validity)? })
    }

    /// Whether `now` lies within.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.begins <= now && now <= self.ends
    }
}

/// Takes one element of DER, which must have this tag, off `input`; answers with its content.
fn element<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, rest) = input.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let length = match *first {
        short @ 0..0x80 => usize::from(short),
        long => {
            // Four bytes say any length that a certificate has.
            let (length, after) = rest.split_at_checked(usize::from(long & 0x7f)).filter(|(length, _)| (1..=4).contains(&length.len()))?;
            rest = after;
            length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *input = rest;
    (*found == tag).then_some(content)
}

fn time(input: &mut &[u8]) -> Option<Timestamp> {
    let tag = *input.first()?;
    let text = std::str::from_utf8(element(input, tag)?).ok()?;
    let full = match tag {
        // Two digits of a year are of this century or, from 50 on, of the last.
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let digits = full.strip_suffix('Z').filter(|digits| digits.len() == 14 && digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let part = |from: usize, to: usize| digits.get(from..to)?.parse::<i8>().ok();
    let year = digits.get(..4)?.parse().ok()?;
    let civil = DateTime::new(year, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?, 0).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::Validity;

    fn made(from: (i32, u8, u8), to: (i32, u8, u8)) -> String {
        let mut parameters = CertificateParams::new(vec!["a".to_owned()]).unwrap();
        (parameters.not_before, parameters.not_after) = (date_time_ymd(from.0, from.1, from.2), date_time_ymd(to.0, to.1, to.2));
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn both_ends_are_read_in_either_form_of_time() {
        for (from, to) in [((1999, 12, 31), (2049, 12, 31)), ((2026, 3, 1), (2026, 5, 30)), ((2050, 1, 1), (2999, 2, 28))] {
            let validity = Validity::of_pem(made(from, to).as_bytes()).unwrap();
            let text = |(year, month, day): (i32, u8, u8)| format!("{year:04}-{month:02}-{day:02}T00:00:00Z");
            assert_eq!((validity.begins.to_string(), validity.ends.to_string()), (text(from), text(to)));
            assert!(validity.holds(validity.begins) && validity.holds(validity.ends));
            let second = jiff::SignedDuration::from_secs(1);
            assert!(!validity.holds(validity.begins - second) && !validity.holds(validity.ends + second));
        }
        assert_eq!(Validity::of_pem(b"nothing"), None);
    }

    proptest! {
        #[test]
        fn no_input_is_read_past_its_end(at in 0usize..200, byte: u8, cut in 0usize..400, noise: Vec<u8>) {
            let pem = made((2026, 3, 1), (2036, 3, 1));
            let mut der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
            der[at] = byte;
            let _ = Validity::of_der(&der);
            der.truncate(cut);
            let _ = Validity::of_der(&der);
            let _ = Validity::of_der(&noise);
        }
    }
}
