//! Bytes and text of key documents and sealed values, version 1.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Error, PublicKey};
pub use crate::hex::hex;

const VERSION: u8 = 1;
const DOCUMENT: u8 = b'K';
const SEALED: u8 = b'S';
/// KEM X-Wing 0x647a, KDF HKDF-SHA256 0x0001, AEAD AES-256-GCM 0x0002.
const SUITE: [u8; 6] = [0x64, 0x7a, 0x00, 0x01, 0x00, 0x02];
/// Bytes that X-Wing encapsulates a shared secret in.
const ENCAPSULATED: usize = 1120;
/// Somebody copied a part of a line.
const TRUNCATED: &str = "it is truncated; copy the whole line again";
const MAX_ID: usize = 2048;
const MAX_WRAPPED: usize = 8192;

/// What a value is sealed under; the whole of it is authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Id of the key at the provider. For people and recovery: the key that opens is the one that the `EncryptionKey` holds.
    pub provider_key_id: String,
    /// Version of the sealing key, from 1.
    pub version: u32,
    /// SHA-256 of the sealing key's public half.
    pub public_key_sha256: [u8; 32],
    /// The seed, wrapped by the provider's key.
    pub wrapped_seed: Vec<u8>,
}

/// All that offline sealing needs; public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDocument {
    /// The header that sealed values will carry.
    pub header: Header,
    /// Namespace of the `EncryptionKey`.
    pub namespace: String,
    /// Name of the `EncryptionKey`.
    pub key: String,
    /// The public half.
    pub public_key: PublicKey,
}

/// A sealed value; public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedValue {
    /// What it is sealed under.
    pub header: Header,
    /// The encapsulated key.
    pub encapsulated: Vec<u8>,
    /// Ciphertext and tag.
    pub ciphertext: Vec<u8>,
}

impl Header {
    /// The header's bytes: they are the `info` of HPKE.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&SUITE);
        put(&mut bytes, self.provider_key_id.as_bytes());
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.public_key_sha256);
        put(&mut bytes, &self.wrapped_seed);
        bytes
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        if reader.array::<1>()? != [VERSION] {
            return Err(reader.refuse("its format is of a version that this release does not know"));
        }
        if reader.array()? != SUITE {
            return Err(reader.refuse("its suite is not X-Wing with HKDF-SHA256 and AES-256-GCM"));
        }
        Ok(Self {
            provider_key_id: reader.text(MAX_ID)?,
            version: u32::from_be_bytes(reader.array()?),
            public_key_sha256: reader.array()?,
            wrapped_seed: reader.part(MAX_WRAPPED)?.to_vec(),
        })
    }
}

impl KeyDocument {
    /// Reads one base64url line.
    pub fn parse(line: &str) -> Result<Self, Error> {
        let bytes = decode(line, "the key document")?;
        let mut reader = Reader { rest: &bytes, what: "the key document" };
        if reader.array::<1>()? != [DOCUMENT] {
            return Err(reader.refuse("it is not a key document; take status.sealingKey.document of an EncryptionKey"));
        }
        let header = Header::read(&mut reader)?;
        let namespace = reader.text(MAX_ID)?;
        let key = reader.text(MAX_ID)?;
        let public_key = PublicKey::from_bytes(reader.take(PublicKey::LENGTH)?)?;
        reader.end()?;
        if public_key.sha256() != header.public_key_sha256 {
            return Err(reader.refuse("its header names another public key"));
        }
        Ok(Self { header, namespace, key, public_key })
    }
}

impl fmt::Display for KeyDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![DOCUMENT];
        bytes.extend_from_slice(&self.header.to_bytes());
        put(&mut bytes, self.namespace.as_bytes());
        put(&mut bytes, self.key.as_bytes());
        bytes.extend_from_slice(self.public_key.as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl SealedValue {
    /// Reads one base64url line.
    pub fn parse(line: &str) -> Result<Self, Error> {
        let bytes = decode(line, "the sealed value")?;
        let mut reader = Reader { rest: &bytes, what: "the sealed value" };
        if reader.array::<1>()? != [SEALED] {
            return Err(reader.refuse("it is not a sealed value; make one with kubectl kustody seal"));
        }
        let header = Header::read(&mut reader)?;
        let encapsulated = reader.take(ENCAPSULATED)?.to_vec();
        let ciphertext = reader.rest.to_vec();
        if ciphertext.len() < 16 {
            return Err(reader.refuse(TRUNCATED));
        }
        Ok(Self { header, encapsulated, ciphertext })
    }
}

impl fmt::Display for SealedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![SEALED];
        bytes.extend_from_slice(&self.header.to_bytes());
        bytes.extend_from_slice(&self.encapsulated);
        bytes.extend_from_slice(&self.ciphertext);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// Appends `part` behind its length (four bytes, big-endian).
pub(super) fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    // Parts are bounded far below 4 GiB by what made them; a larger one would be refused by every reader.
    bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(part);
}

fn decode(line: &str, what: &'static str) -> Result<Vec<u8>, Error> {
    URL_SAFE_NO_PAD
        .decode(line.trim_end())
        .map_err(|_| Error::Format { what, rule: "it is not one line of base64url without padding; copy the whole line again" })
}

struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    fn refuse(&self, rule: &'static str) -> Error {
        Error::Format { what: self.what, rule }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (part, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.refuse(TRUNCATED))?;
        self.rest = rest;
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N)?.try_into().map_err(|_| self.refuse(TRUNCATED))
    }

    fn part(&mut self, most: usize) -> Result<&'a [u8], Error> {
        let length = usize::try_from(u32::from_be_bytes(self.array()?)).unwrap_or(usize::MAX);
        if length > most {
            return Err(self.refuse("one of its parts is longer than allowed"));
        }
        self.take(length)
    }

    fn text(&mut self, most: usize) -> Result<String, Error> {
        let part = self.part(most)?.to_vec();
        String::from_utf8(part).map_err(|_| self.refuse("one of its names is not UTF-8"))
    }

    fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.refuse("something follows its end")) }
    }
}
