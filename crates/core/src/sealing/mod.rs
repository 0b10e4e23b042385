//! Sealed values: HPKE (RFC 9180, base mode) with X-Wing, HKDF-SHA256 and AES-256-GCM.
//!
//! The format is described byte by byte in `docs/concepts/sealed-values.md`; [`format`] holds its code.

use std::collections::BTreeMap;

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::secret::SecretBytes;

pub mod format;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at what they made")]
mod tests;

pub use format::{Header, KeyDocument, SealedValue};

/// The largest value that can be sealed.
pub const MAX_PLAINTEXT: usize = 256 * 1024;
/// Bytes of a seed, the private half of a sealing key.
pub const SEED_LENGTH: usize = 32;

/// Why something cannot be sealed, opened or read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Not base64url, or not in the format.
    #[error("{what} cannot be read: {rule}")]
    Format {
        /// `the key document` or `the sealed value`.
        what: &'static str,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// The value is too large.
    #[error("the value has {length} bytes; at most {MAX_PLAINTEXT} can be sealed")]
    TooLarge {
        /// Its size.
        length: usize,
    },
    /// The public key is no X-Wing key.
    #[error("the public key of the key document is not a valid X-Wing key")]
    PublicKey,
    /// The seed is not of 32 bytes.
    #[error("the seed of a sealing key has {SEED_LENGTH} bytes")]
    Seed,
    /// The seed is not the one of the public key that the value was sealed for.
    #[error("the value was sealed for another sealing key than the one that was unwrapped")]
    OtherKey,
    /// Authentication failed; the algorithm cannot tell these cases apart.
    #[error(
        "the value does not open here: it was sealed for another namespace, binding or secret name, or was altered; seal it again for this place"
    )]
    DoesNotOpen,
    /// Sealing failed.
    #[error("sealing failed")]
    Seal,
}

/// The public half of a sealing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Bytes of a public key: ML-KEM-768 and X25519.
    pub const LENGTH: usize = 1216;

    /// Reads a public key and checks that it is one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        <XWing as Kem>::PublicKey::from_bytes(bytes).map_err(|_| Error::PublicKey)?;
        Ok(Self(bytes.to_vec()))
    }

    /// The public half that belongs to `seed`.
    pub fn from_seed(seed: &SecretBytes) -> Result<Self, Error> {
        Ok(Self(XWing::sk_to_pk(&private(seed)?).to_bytes().to_vec()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its SHA-256, by which headers and status name it.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

/// Where a value may be opened; taken from the live objects, so that a copied ciphertext opens nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Namespace of the binding.
    pub namespace: &'a str,
    /// Name of the binding.
    pub binding: &'a str,
    /// Name of the secret in it.
    pub secret: &'a str,
}

impl Place<'_> {
    fn associated_data(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in ["kustody.dev/sealed-value/v1", self.namespace, self.binding, self.secret] {
            format::put(&mut bytes, part.as_bytes());
        }
        bytes
    }
}

/// A new sealing key: its seed, which is to be wrapped at once, and its public half.
pub fn generate() -> Result<(SecretBytes, PublicKey), Error> {
    let (private, public) = XWing::gen_keypair();
    let seed = SecretBytes::new(private.to_bytes().to_vec());
    Ok((seed, PublicKey(public.to_bytes().to_vec())))
}

/// What a seed's wrapping is bound to.
pub fn wrap_context(namespace: &str, key: &str, version: u32, public_key_sha256: &[u8; 32]) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("label", "kustody.dev/sealing-key/v1".to_owned()),
        ("namespace", namespace.to_owned()),
        ("key", key.to_owned()),
        ("version", version.to_string()),
        ("publicKeySha256", format::hex(public_key_sha256)),
    ])
}

/// Seals `plaintext` so that it opens at `place` alone, under the key of `document`. Needs no right to the key.
#[expect(clippy::disallowed_methods, reason = "sealing encrypts the value")]
pub fn seal(document: &KeyDocument, place: &Place<'_>, plaintext: &SecretBytes) -> Result<SealedValue, Error> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(Error::TooLarge { length: plaintext.len() });
    }
    let public = <XWing as Kem>::PublicKey::from_bytes(document.public_key.as_bytes()).map_err(|_| Error::PublicKey)?;
    let (encapsulated, ciphertext) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, XWing>(
        &OpModeS::Base,
        &public,
        &document.header.to_bytes(),
        plaintext.expose(),
        &place.associated_data(),
    )
    .map_err(|_| Error::Seal)?;
    Ok(SealedValue { header: document.header.clone(), encapsulated: encapsulated.to_bytes().to_vec(), ciphertext })
}

/// Opens `sealed` at `place` with the seed that its header's wrapped seed holds.
pub fn open(seed: &SecretBytes, sealed: &SealedValue, place: &Place<'_>) -> Result<SecretBytes, Error> {
    let private = private(seed)?;
    let public = PublicKey(XWing::sk_to_pk(&private).to_bytes().to_vec());
    if public.sha256() != sealed.header.public_key_sha256 {
        return Err(Error::OtherKey);
    }
    let encapsulated = <XWing as Kem>::EncappedKey::from_bytes(&sealed.encapsulated).map_err(|_| Error::DoesNotOpen)?;
    hpke::single_shot_open::<AesGcm256, HkdfSha256, XWing>(
        &OpModeR::Base,
        &private,
        &encapsulated,
        &sealed.header.to_bytes(),
        &sealed.ciphertext,
        &place.associated_data(),
    )
    .map(SecretBytes::new)
    .map_err(|_| Error::DoesNotOpen)
}

#[expect(clippy::disallowed_methods, reason = "the seed is the private key")]
fn private(seed: &SecretBytes) -> Result<<XWing as Kem>::PrivateKey, Error> {
    <XWing as Kem>::PrivateKey::from_bytes(seed.expose()).map_err(|_| Error::Seed)
}
