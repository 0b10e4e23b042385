//! From a passphrase to a key: Argon2id, or PBKDF2-HMAC-SHA256 where Argon2 is not allowed.
//!
//! Salt and parameters are kept beside what the key protects, so that a later release with other defaults derives the
//! same key. They are public; a changed one gives another key, which its check value tells.

use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kustody_core::secret::SecretBytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::crypto;
use crate::Error;

/// How a key is derived from a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Derivation {
    /// Argon2id (RFC 9106) with 64 MiB, 3 passes and 4 lanes, the RFC's choice where memory is scarce.
    Argon2id,
    /// PBKDF2-HMAC-SHA256 (RFC 8018) with 600,000 iterations.
    Pbkdf2HmacSha256,
}

/// A way of deriving with all that it takes but the passphrase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "algorithm", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(super) enum Parameters {
    Argon2id { memory_kib: u32, passes: u32, lanes: u32, salt: String },
    Pbkdf2HmacSha256 { iterations: u32, salt: String },
}

/// Bytes of a new salt, as RFC 9106 recommends.
const SALT: usize = 16;
/// Most memory of a derivation: twice today's, half the limit of the operator's containers.
const MAX_MEMORY_KIB: u32 = 128 * 1024;
/// One derivation at a time in a process: each takes 64 MiB, and the operator's containers have a limit.
static TURN: Mutex<()> = Mutex::const_new(());

impl Parameters {
    /// Today's parameters with a fresh salt.
    pub(super) fn new(derivation: Derivation) -> Result<Self, Error> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt).map_err(|_| crypto::broken("the system's random generator failed"))?;
        let salt = STANDARD.encode(salt);
        Ok(match derivation {
            Derivation::Argon2id => Self::Argon2id { memory_kib: 64 * 1024, passes: 3, lanes: 4, salt },
            Derivation::Pbkdf2HmacSha256 => Self::Pbkdf2HmacSha256 { iterations: 600_000, salt },
        })
    }

    /// Which way it is.
    pub(super) fn derivation(&self) -> Derivation {
        match self {
            Self::Argon2id { .. } => Derivation::Argon2id,
            Self::Pbkdf2HmacSha256 { .. } => Derivation::Pbkdf2HmacSha256,
        }
    }

    /// The passphrase again, and the key of 32 bytes; takes a good part of a second, off the async threads.
    pub(super) async fn derive(&self, passphrase: SecretBytes) -> Result<(SecretBytes, SecretBytes), Error> {
        let turn = TURN.lock().await;
        let parameters = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            // Until the work ends, not the wait for it: a caller that gives up does not stop it, and its memory is still taken.
            let _turn = turn;
            let key = parameters.key(&passphrase)?;
            Ok((passphrase, key))
        });
        work.await.map_err(|_| crypto::broken("the derivation of a key from a passphrase was interrupted"))?
    }

    #[expect(clippy::disallowed_methods, reason = "deriving needs the passphrase")]
    fn key(&self, passphrase: &SecretBytes) -> Result<SecretBytes, Error> {
        let refuse = || Error::Configuration {
            detail: format!("the parameters of the derivation ({self:?}) are out of bounds: they were altered; restore them from a backup"),
        };
        let mut key = vec![0; crypto::KEY];
        match self {
            Self::Argon2id { memory_kib, passes, lanes, salt } => {
                let salt = decode(salt).ok_or_else(refuse)?;
                // Bounds, so that an altered record cannot take all memory or time of the operator.
                if *memory_kib > MAX_MEMORY_KIB || *passes > 16 || *lanes > 16 {
                    return Err(refuse());
                }
                let parameters = Params::new(*memory_kib, *passes, *lanes, Some(crypto::KEY)).map_err(|_| refuse())?;
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
                argon2.hash_password_into(passphrase.expose(), &salt, &mut key).map_err(|_| refuse())?;
            }
            Self::Pbkdf2HmacSha256 { iterations, salt } => {
                let salt = decode(salt).ok_or_else(refuse)?;
                let iterations = NonZeroU32::new(*iterations).filter(|n| n.get() <= 10_000_000).ok_or_else(refuse)?;
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, passphrase.expose(), &mut key);
            }
        }
        Ok(SecretBytes::new(key))
    }
}

fn decode(salt: &str) -> Option<Vec<u8>> {
    STANDARD.decode(salt).ok().filter(|salt| salt.len() <= 64)
}

#[cfg(test)]
mod tests {
    use argon2::{AssociatedData, ParamsBuilder};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test vector's key is compared")]
    fn hex(parameters: &Parameters, passphrase: &[u8]) -> String {
        kustody_core::hex::hex(parameters.key(&SecretBytes::new(passphrase.to_vec())).unwrap().expose())
    }

    fn pbkdf2(iterations: u32, salt: &[u8]) -> Parameters {
        Parameters::Pbkdf2HmacSha256 { iterations, salt: STANDARD.encode(salt) }
    }

    fn argon2id(memory_kib: u32, passes: u32, lanes: u32, salt: &[u8]) -> Parameters {
        Parameters::Argon2id { memory_kib, passes, lanes, salt: STANDARD.encode(salt) }
    }

    #[test]
    fn argon2id_is_that_of_rfc_9106() {
        // Section 5.3; it has a secret and associated data, which a derivation here does not.
        let data = AssociatedData::new(&[4; 12]).unwrap();
        let parameters = ParamsBuilder::new().m_cost(32).t_cost(3).p_cost(4).data(data).build().unwrap();
        let secret = [3; 8];
        let argon2 = Argon2::new_with_secret(&secret, Algorithm::Argon2id, Version::V0x13, parameters).unwrap();
        let mut tag = [0; 32];
        argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).unwrap();
        assert_eq!(kustody_core::hex::hex(&tag), "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659");
    }

    #[test]
    fn argon2id_without_a_secret_is_that_of_the_reference_implementation() {
        let expected = "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7";
        assert_eq!(hex(&argon2id(64 * 1024, 2, 1, b"somesalt"), b"password"), expected);
    }

    #[test]
    fn pbkdf2_is_that_of_rfc_7914() {
        // Section 11; the first block of each.
        for (passphrase, salt, iterations, expected) in [
            (&b"passwd"[..], &b"salt"[..], 1, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"),
            (b"Password", b"NaCl", 80_000, "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"),
        ] {
            assert_eq!(hex(&pbkdf2(iterations, salt), passphrase), expected);
        }
    }

    #[test]
    fn today_s_parameters_give_the_keys_that_other_libraries_give() {
        // Made with OpenSSL and with Python's hashlib.
        let salt: Vec<u8> = (0..16).collect();
        let set = |mut parameters: Parameters| {
            let (Parameters::Argon2id { salt: field, .. } | Parameters::Pbkdf2HmacSha256 { salt: field, .. }) = &mut parameters;
            *field = STANDARD.encode(&salt);
            parameters
        };
        for (derivation, expected) in [
            (Derivation::Argon2id, "853b272a44db1421c02962669a55eb0994f3cab385ed1c4c79253eee19bab49e"),
            (Derivation::Pbkdf2HmacSha256, "ef177144eec9420cbc1093d2a8b344a92bc506d0d4ec9c028dd19f8324d8c1e6"),
        ] {
            let parameters = set(Parameters::new(derivation).unwrap());
            assert_eq!(hex(&parameters, b"correct horse battery staple"), expected);
        }
    }

    #[test]
    fn parameters_come_back_from_their_text_as_they_were() {
        for derivation in [Derivation::Argon2id, Derivation::Pbkdf2HmacSha256] {
            let parameters = Parameters::new(derivation).unwrap();
            let text = serde_json::to_string(&parameters).unwrap();
            assert_eq!(serde_json::from_str::<Parameters>(&text).unwrap(), parameters);
            assert_ne!(Parameters::new(derivation).unwrap(), parameters, "each has a salt of its own");
        }
        assert!(serde_json::from_str::<Parameters>(r#"{"algorithm":"Md5","salt":""}"#).is_err());
    }

    #[test]
    fn altered_parameters_that_would_exhaust_the_operator_are_refused() {
        let salt = [0; 16];
        for parameters in [
            argon2id(4 * 1024 * 1024, 3, 4, &salt),
            argon2id(MAX_MEMORY_KIB + 1, 3, 4, &salt),
            argon2id(64 * 1024, 1000, 4, &salt),
            argon2id(64 * 1024, 3, 4, b"short"),
            pbkdf2(0, &salt),
            pbkdf2(u32::MAX, &salt),
        ] {
            let error = parameters.key(&SecretBytes::new(b"passphrase".to_vec())).err().unwrap().to_string();
            assert!(error.contains("out of bounds") && !error.contains("passphrase\""), "{error}");
        }
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_lets_no_second_derivation_in() {
        let parameters = pbkdf2(1_000_000, &[0; 16]);
        tokio::select! {
            biased;
            _ = parameters.derive(SecretBytes::new(b"passphrase".to_vec())) => panic!("it takes longer than one look"),
            () = std::future::ready(()) => {}
        }
        assert!(TURN.try_lock().is_err(), "the work goes on, and so its turn");
        drop(TURN.lock().await);
    }
}
