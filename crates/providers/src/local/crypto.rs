//! AES-256-GCM with associated data: how material is wrapped by the root key, and values by the material.
//!
//! Nonces are random, 96 bits: up to 2^32 wraps under one key version keep the chance of a repeated nonce below 2^-32
//! (NIST SP 800-38D §8.3). A version wraps seeds of sealing keys, a handful in its life.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use kustody_core::secret::SecretBytes;

use crate::{Context, Error};

const MAGIC: &[u8; 3] = b"KL1";
const NONCE: usize = 12;
/// Bytes of every key here.
pub(super) const KEY: usize = 32;

/// Fresh key material.
pub(super) fn random_key() -> Result<SecretBytes, Error> {
    let mut bytes = vec![0; KEY];
    rand::fill(&mut bytes).map_err(|_| broken("the system's random generator failed"))?;
    Ok(SecretBytes::new(bytes))
}

/// Wraps `plaintext` under `material`; the ciphertext names the version.
pub(super) fn wrap(material: &SecretBytes, id: &str, version: &str, plaintext: &SecretBytes, context: &Context) -> Result<Vec<u8>, Error> {
    let mut bytes = MAGIC.to_vec();
    put(&mut bytes, version.as_bytes());
    bytes.extend_from_slice(&seal(material, &associated_data("value", id, version, context), plaintext)?);
    Ok(bytes)
}

/// The version that a ciphertext of [`wrap`] names.
pub(super) fn version_of(ciphertext: &[u8]) -> Option<String> {
    parts(ciphertext).and_then(|(version, _)| String::from_utf8(version.to_vec()).ok())
}

/// Opens what [`wrap`] made.
pub(super) fn unwrap(material: &SecretBytes, id: &str, version: &str, ciphertext: &[u8], context: &Context) -> Result<SecretBytes, Error> {
    let refuse = || Error::Ciphertext { id: id.to_owned() };
    let (_, sealed) = parts(ciphertext).ok_or_else(refuse)?;
    open(material, &associated_data("value", id, version, context), sealed).ok_or_else(refuse)
}

/// Nonce, ciphertext and tag of `plaintext`.
#[expect(clippy::disallowed_methods, reason = "wrapping encrypts")]
pub(super) fn seal(key: &SecretBytes, associated: &[u8], plaintext: &SecretBytes) -> Result<Vec<u8>, Error> {
    let key =
        RandomizedNonceKey::new(&AES_256_GCM, key.expose()).map_err(|_| broken("a key of the embedded KMS does not have 32 bytes"))?;
    let mut bytes = plaintext.expose().to_vec();
    let nonce = key.seal_in_place_append_tag(Aad::from(associated), &mut bytes).map_err(|_| broken("encryption failed"))?;
    let mut sealed = nonce.as_ref().to_vec();
    sealed.append(&mut bytes);
    Ok(sealed)
}

/// Opens what [`seal`] made, for the same associated data only.
#[expect(clippy::disallowed_methods, reason = "unwrapping decrypts")]
pub(super) fn open(key: &SecretBytes, associated: &[u8], sealed: &[u8]) -> Option<SecretBytes> {
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE)?;
    let key = RandomizedNonceKey::new(&AES_256_GCM, key.expose()).ok()?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut bytes = ciphertext.to_vec();
    let length = key.open_in_place(nonce, Aad::from(associated), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(SecretBytes::new(bytes))
}

/// Length-prefixed: label, id (its first segment is the namespace), version, then names and values of the context.
pub(super) fn associated_data(label: &str, id: &str, version: &str, context: &Context) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in ["kustody.dev/local/v1", label, id.split('/').next().unwrap_or_default(), id, version] {
        put(&mut bytes, part.as_bytes());
    }
    for (name, value) in context {
        put(&mut bytes, name.as_bytes());
        put(&mut bytes, value.as_bytes());
    }
    bytes
}

fn parts(ciphertext: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = ciphertext.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

pub(super) fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    // Parts are names and ids, bounded by the API server far below 4 GiB.
    bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(part);
}

pub(super) fn broken(detail: &str) -> Error {
    Error::Configuration { detail: detail.to_owned() }
}
