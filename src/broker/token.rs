//! Tokens of service accounts, checked against the cluster's published keys; pure, time is an argument.

use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use kustody_core::audit::Subject;
use kustody_core::wire::AUDIENCE;
use serde::Deserialize;
use thiserror::Error;

/// Clocks of two machines differ by this many seconds at most.
const LEEWAY: i64 = 30;

/// Who signs tokens, and with which keys.
#[derive(Clone, Debug)]
pub struct Keys {
    issuer: String,
    keys: Vec<(String, Algorithm, DecodingKey)>,
}

/// Why a token says nothing. The caller is told none of this: it is for the log of whoever runs the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    /// No token of a service account at all.
    #[error("it is no token of a service account")]
    Malformed,
    /// Signed with a key that is not published, or not yet known.
    #[error("it names a signing key that the API server does not publish: it is of another cluster, or that key is new or was withdrawn")]
    UnknownKey,
    /// The signature is wrong.
    #[error("it was not signed with the key that it names: it was altered or forged")]
    Signature,
    /// Made for somebody else.
    #[error("its audience is not {AUDIENCE}: take the token of the volume that admission adds")]
    Audience,
    /// Made by somebody else.
    #[error("its issuer is not this cluster's")]
    Issuer,
    /// Its algorithm or claims are not those of such a token.
    #[error("its algorithm or claims are not those of a token of a service account")]
    Rejected,
    /// Its time is over, or has not come.
    #[error(
        "its time is over or has not come: the pod kept an old token, or the clocks of broker and API server are more than {LEEWAY} s apart"
    )]
    Expired,
    /// It is bound to no pod.
    #[error("it is bound to no pod: take the token of the volume that admission adds")]
    Unbound,
}

/// What a token says whose signature, issuer, audience and time are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The pod that it was made for.
    pub subject: Subject,
    /// UID of the service account.
    pub account_uid: String,
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
    nbf: Option<i64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bound,
}

#[derive(Deserialize)]
struct Bound {
    namespace: String,
    pod: Option<Named>,
    serviceaccount: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

impl Keys {
    /// Keeps the keys that a token of a service account can be signed with; a symmetric key is never one.
    pub fn new(issuer: String, set: &JwkSet) -> Self {
        let usable = |jwk: &Jwk| Some((jwk.common.key_id.clone()?, algorithm(jwk)?, DecodingKey::from_jwk(jwk).ok()?));
        Self { issuer, keys: set.keys.iter().filter_map(usable).collect() }
    }

    /// Whether there is any key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Checks everything that a token can show by itself.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Identity, Invalid> {
        let header = decode_header(token).map_err(|_| Invalid::Malformed)?;
        let kid = header.kid.ok_or(Invalid::Malformed)?;
        let (_, algorithm, key) = self.keys.iter().find(|(id, _, _)| *id == kid).ok_or(Invalid::UnknownKey)?;
        // The algorithm is the key's: what the token's header says can only agree.
        let mut validation = Validation::new(*algorithm);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        let claims = decode::<Claims>(token, key, &validation).map_err(|error| cause(error.kind()))?.claims;
        let now = now.as_second();
        if claims.exp.saturating_add(LEEWAY) <= now || claims.nbf.is_some_and(|nbf| nbf.saturating_sub(LEEWAY) > now) {
            return Err(Invalid::Expired);
        }
        let Bound { namespace, pod, serviceaccount } = claims.kubernetes;
        let pod = pod.ok_or(Invalid::Unbound)?;
        let subject = Subject { namespace, service_account: serviceaccount.name, pod: pod.name, pod_uid: pod.uid };
        Ok(Identity { subject, account_uid: serviceaccount.uid })
    }
}

fn cause(kind: &ErrorKind) -> Invalid {
    match kind {
        ErrorKind::InvalidSignature => Invalid::Signature,
        ErrorKind::InvalidAudience => Invalid::Audience,
        ErrorKind::InvalidIssuer => Invalid::Issuer,
        _ => Invalid::Rejected,
    }
}

/// What the key signs with, by its own word or else by its type.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    match (&jwk.algorithm, jwk.common.key_algorithm) {
        (AlgorithmParameters::RSA(_), None | Some(KeyAlgorithm::RS256)) => Some(Algorithm::RS256),
        (AlgorithmParameters::EllipticCurve(curve), said) => match (&curve.curve, said) {
            (EllipticCurve::P256, None | Some(KeyAlgorithm::ES256)) => Some(Algorithm::ES256),
            (EllipticCurve::P384, None | Some(KeyAlgorithm::ES384)) => Some(Algorithm::ES384),
            _ => None,
        },
        _ => None,
    }
}
