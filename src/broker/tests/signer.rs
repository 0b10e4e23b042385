//! Makes tokens as the API server makes them, and as an attacker would.

use aws_lc_rs::encoding::AsDer as _;
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::broker::token::Keys;

pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
pub const NOW: i64 = 1_800_000_000;

/// A signing key of the cluster.
pub struct Signer {
    pub kid: &'static str,
    pub algorithm: Algorithm,
    pub key: EncodingKey,
}

impl Signer {
    pub fn es256(kid: &'static str) -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self { kid, algorithm: Algorithm::ES256, key: EncodingKey::from_ec_der(&key.serialize_der()) }
    }

    pub fn rs256(kid: &'static str) -> Self {
        let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        // PKCS#8 is 26 bytes about the kind of key, then the PKCS#1 that jsonwebtoken takes.
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
        Self { kid, algorithm: Algorithm::RS256, key: EncodingKey::from_rsa_der(&der.as_ref()[26..]) }
    }

    pub fn jwk(&self) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.to_owned());
        jwk
    }

    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).unwrap()
    }
}

pub fn keys(signers: &[&Signer]) -> Keys {
    Keys::new(ISSUER.to_owned(), &JwkSet { keys: signers.iter().map(|signer| signer.jwk()).collect() })
}

pub fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// Claims of the token of a pod.
pub fn claims(namespace: &str, account: &str, pod: &str) -> Value {
    json!({
        "iss": ISSUER,
        "aud": ["broker.kustody.dev"],
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 600,
        "kubernetes.io": {
            "namespace": namespace,
            "node": {"name": "node-1", "uid": "node-uid"},
            "pod": {"name": pod, "uid": format!("{pod}-uid")},
            "serviceaccount": {"name": account, "uid": format!("{account}-uid")},
        },
    })
}
