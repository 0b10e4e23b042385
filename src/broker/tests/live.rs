//! Tests of what is asked of the API server, and how its answers are read.

use std::sync::{Arc, Mutex};

use axum::body::to_bytes;
use axum::http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::signer::{ISSUER, Signer, claims, now};
use crate::broker::cluster::{Cluster, Live};

/// An API server of canned answers, by path; remembers what was sent.
fn answering(answers: Value) -> (Live, Arc<Mutex<Vec<Value>>>) {
    let sent: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = Arc::clone(&sent);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answer, kept) = (answers[request.uri().path()].clone(), Arc::clone(&kept));
        async move {
            let body = to_bytes(axum::body::Body::new(request.into_body()), 1 << 16).await.unwrap();
            kept.lock().unwrap().push(serde_json::from_slice(&body).unwrap_or_default());
            Ok::<_, std::convert::Infallible>(Response::new(Body::from(answer.to_string().into_bytes())))
        }
    });
    (Live(Client::new(service, "default")), sent)
}

#[tokio::test]
async fn signing_keys_are_read_as_the_api_server_publishes_them() {
    let (rsa, ec) = (Signer::rs256("first"), Signer::es256("second"));
    let published = |signer: &Signer| {
        let mut key = serde_json::to_value(signer.jwk()).unwrap();
        key["use"] = json!("sig");
        key
    };
    let unknown = json!({"use": "sig", "kty": "EC", "kid": "third", "alg": "ES512", "crv": "P-521", "x": "AA", "y": "AA"});
    let (live, _) = answering(json!({
        "/.well-known/openid-configuration": {
            "issuer": ISSUER, "jwks_uri": "https://10.0.0.1/openid/v1/jwks", "response_types_supported": ["id_token"],
        },
        "/openid/v1/jwks": {"keys": [published(&rsa), published(&ec), unknown]},
    }));
    let keys = live.keys().await.unwrap();
    for signer in [rsa, ec] {
        assert!(keys.verify(&signer.sign(&claims("vision", "trainer", "pod-1")), now()).is_ok(), "{}", signer.kid);
    }
}

#[tokio::test]
async fn a_review_is_of_our_audience_alone() {
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    for (status, good) in [
        (json!({"authenticated": true, "audiences": ["broker.kustody.dev"]}), true),
        (json!({"authenticated": true, "audiences": ["https://kubernetes.default.svc"]}), false),
        (json!({"authenticated": true}), false),
        (json!({"authenticated": false, "error": "the pod is gone"}), false),
    ] {
        let answer = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {}, "status": status});
        let (live, sent) = answering(json!({path: answer}));
        assert_eq!(live.review("a-token").await.unwrap(), good, "{status}");
        let sent = sent.lock().unwrap();
        assert_eq!(sent[0]["spec"], json!({"token": "a-token", "audiences": ["broker.kustody.dev"]}));
    }
}
