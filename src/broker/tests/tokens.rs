//! Tests of what a token can show by itself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::signer::{NOW, Signer, claims, keys, now};
use crate::broker::token::Invalid;

fn base64(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn a_pod_s_token_says_which_pod_and_which_service_account() {
    for signer in [Signer::es256("a"), Signer::rs256("b")] {
        let identity = keys(&[&signer]).verify(&signer.sign(&claims("vision", "trainer", "pod-1")), now()).unwrap();
        let subject = identity.subject;
        assert_eq!((subject.namespace.as_str(), subject.service_account.as_str()), ("vision", "trainer"));
        assert_eq!((subject.pod.as_str(), subject.pod_uid.as_str()), ("pod-1", "pod-1-uid"));
        assert_eq!(identity.account_uid, "trainer-uid");
    }
}

#[test]
fn a_token_for_another_audience_issuer_or_time_is_refused() {
    let signer = Signer::es256("a");
    let keys = keys(&[&signer]);
    let with = |field: &str, value: Value| {
        let mut claims = claims("vision", "trainer", "pod-1");
        claims[field] = value;
        keys.verify(&signer.sign(&claims), now())
    };
    assert_eq!(with("aud", json!(["https://kubernetes.default.svc"])), Err(Invalid::Audience));
    assert_eq!(with("aud", json!([])), Err(Invalid::Audience));
    assert_eq!(with("aud", Value::Null), Err(Invalid::Rejected));
    assert_eq!(with("iss", json!("https://elsewhere")), Err(Invalid::Issuer));
    assert_eq!(with("iss", Value::Null), Err(Invalid::Rejected));
    assert_eq!(with("exp", Value::Null), Err(Invalid::Rejected));
    assert_eq!(with("exp", json!(NOW - 60)), Err(Invalid::Expired));
    assert!(with("exp", json!(NOW - 10)).is_ok(), "clocks differ");
    assert_eq!(with("nbf", json!(NOW + 60)), Err(Invalid::Expired));
    assert!(with("aud", json!(["other", "broker.kustody.dev"])).is_ok());
}

#[test]
fn a_token_that_is_bound_to_no_pod_is_refused() {
    let signer = Signer::es256("a");
    let mut claims = claims("vision", "trainer", "pod-1");
    claims["kubernetes.io"].as_object_mut().unwrap().remove("pod");
    assert_eq!(keys(&[&signer]).verify(&signer.sign(&claims), now()), Err(Invalid::Unbound));
}

#[test]
fn a_token_of_another_key_or_algorithm_is_refused() {
    let (rsa, ec, stranger) = (Signer::rs256("a"), Signer::es256("b"), Signer::es256("b"));
    let keys = keys(&[&rsa, &ec]);
    let claims = claims("vision", "trainer", "pod-1");
    assert_eq!(keys.verify(&stranger.sign(&claims), now()), Err(Invalid::Signature), "another key of the same id");
    assert_eq!(keys.verify(&Signer { kid: "c", ..stranger }.sign(&claims), now()), Err(Invalid::UnknownKey));

    let none = format!("{}.{}.", base64(&json!({"alg": "none", "kid": "a"})), base64(&claims));
    assert_eq!(keys.verify(&none, now()), Err(Invalid::Malformed));

    // The classic confusion: the public key, which everybody knows, as the secret of an HMAC.
    let public = serde_json::to_vec(&rsa.jwk()).unwrap();
    for secret in [public.as_slice(), b""] {
        let confused = Signer { kid: "a", algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret) };
        assert_eq!(keys.verify(&confused.sign(&claims), now()), Err(Invalid::Rejected));
    }
    let longer = Signer { algorithm: Algorithm::RS512, ..rsa };
    assert_eq!(keys.verify(&longer.sign(&claims), now()), Err(Invalid::Rejected), "the key signs with RS256 alone");
    for token in ["", "a", "a.b", "a.b.c", "....", "é.é.é"] {
        assert_eq!(keys.verify(token, now()), Err(Invalid::Malformed), "{token}");
    }
}

#[test]
fn an_altered_token_is_refused() {
    let signer = Signer::es256("a");
    let keys = keys(&[&signer]);
    let token = signer.sign(&claims("vision", "trainer", "pod-1"));
    let parts: Vec<&str> = token.split('.').collect();
    let forged = format!("{}.{}.{}", parts[0], base64(&claims("vision", "admin", "pod-1")), parts[2]);
    assert_eq!(keys.verify(&forged, now()), Err(Invalid::Signature));
}

#[test]
fn a_clock_that_jumps_refuses_every_token_and_the_cause_names_the_clocks() {
    let signer = Signer::es256("a");
    let (keys, token) = (keys(&[&signer]), signer.sign(&claims("vision", "trainer", "pod-1")));
    for (seconds, right) in [(0, true), (629, true), (-39, true), (630, false), (-41, false), (i64::from(i32::MAX), false), (-NOW, false)] {
        let verified = keys.verify(&token, Timestamp::from_second(NOW + seconds).unwrap());
        assert_eq!(verified.is_ok(), right, "{seconds}");
        if let Err(cause) = verified {
            let said = cause.to_string();
            assert!(said.starts_with("its time is over or has not come") && said.contains("the clocks of broker and API server"), "{said}");
        }
    }
}

#[test]
fn a_symmetric_key_in_the_set_is_never_used() {
    let symmetric = Signer { kid: "a", algorithm: Algorithm::HS256, key: EncodingKey::from_secret(b"known") };
    let keys = keys(&[&symmetric]);
    assert!(keys.is_empty());
    assert_eq!(keys.verify(&symmetric.sign(&claims("vision", "trainer", "pod-1")), now()), Err(Invalid::UnknownKey));
}
