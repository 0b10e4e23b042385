//! What the broker asks the API server itself: signing keys, and pods that the caches do not know yet.

use async_trait::async_trait;
use axum::http::Request;
use jsonwebtoken::jwk::JwkSet;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use kustody_core::wire::AUDIENCE;
use serde::Deserialize;

use super::caches::trim_pod;
use super::token::Keys;

/// Live answers of the API server.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Issuer and keys of service accounts' tokens.
    async fn keys(&self) -> Result<Keys, kube::Error>;
    /// Whether the token is good now; asked only of tokens whose signature and audience are right.
    async fn review(&self, token: &str) -> Result<bool, kube::Error>;
    /// The pod of this name.
    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, kube::Error>;
    /// The service account of this name.
    async fn account(&self, namespace: &str, name: &str) -> Result<Option<ServiceAccount>, kube::Error>;
}

/// The API server.
///
/// Requires: non-resource URLs `/openid/v1/jwks`, `/.well-known/openid-configuration`: get (every service account has that by
/// default); `tokenreviews.authentication.k8s.io: create`; `pods, serviceaccounts: get`.
pub struct Live(pub Client);

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

#[async_trait]
impl Cluster for Live {
    async fn keys(&self) -> Result<Keys, kube::Error> {
        let get = |path: &str| Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError);
        let discovery: Discovery = self.0.request(get("/.well-known/openid-configuration")?).await?;
        let set: JwkSet = self.0.request(get("/openid/v1/jwks")?).await?;
        Ok(Keys::new(discovery.issuer, &set))
    }

    async fn review(&self, token: &str) -> Result<bool, kube::Error> {
        let spec = TokenReviewSpec { audiences: Some(vec![AUDIENCE.to_owned()]), token: Some(token.to_owned()) };
        let review = TokenReview { metadata: ObjectMeta::default(), spec, status: None };
        let status = Api::all(self.0.clone()).create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let audience = status.audiences.iter().flatten().any(|audience| audience == AUDIENCE);
        Ok(status.authenticated == Some(true) && audience)
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, kube::Error> {
        let mut pod = Api::<Pod>::namespaced(self.0.clone(), namespace).get_opt(name).await?;
        pod.iter_mut().for_each(trim_pod);
        Ok(pod)
    }

    async fn account(&self, namespace: &str, name: &str) -> Result<Option<ServiceAccount>, kube::Error> {
        Api::namespaced(self.0.clone(), namespace).get_opt(name).await
    }
}
