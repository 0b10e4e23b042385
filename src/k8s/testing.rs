//! An API server in this process, for tests.

use hyper::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::Value;

/// A client of a server that answers method, path with query, and body with a status code and an object.
pub(crate) fn client(server: impl Fn(&Method, &str, Value) -> (u16, Value) + Clone + Send + 'static) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = server.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
            let (code, answer) = server(&parts.method, &parts.uri.to_string(), body);
            Ok::<_, std::convert::Infallible>(Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
        }
    });
    Client::new(service, "default")
}
