//! Asks the API server who may use what.

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use kustody_api::names::{GROUP, USE_VERB, VERSION};

use super::question::Named;

/// Whoever knows the cluster's rules.
#[async_trait]
pub trait Reviewer: Send + Sync {
    /// Whether `user` has the verb `use` on this object.
    async fn may_use(&self, user: &UserInfo, named: &Named) -> Result<bool, kube::Error>;
}

/// The API server. Requires: `subjectaccessreviews.authorization.k8s.io: create`.
pub struct Live(pub Client);

#[async_trait]
impl Reviewer for Live {
    async fn may_use(&self, user: &UserInfo, named: &Named) -> Result<bool, kube::Error> {
        let review = SubjectAccessReview { metadata: ObjectMeta::default(), spec: spec(user, named), status: None };
        let answered = Api::all(self.0.clone()).create(&PostParams::default(), &review).await?;
        Ok(answered.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}

/// The review: the user as the API server told us, with all that its authorizers look at.
pub fn spec(user: &UserInfo, named: &Named) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        user: user.username.clone(),
        groups: user.groups.clone(),
        uid: user.uid.clone(),
        extra: user.extra.clone(),
        resource_attributes: Some(ResourceAttributes {
            group: Some(GROUP.to_owned()),
            version: Some(VERSION.to_owned()),
            resource: Some(named.what.resource().to_owned()),
            namespace: named.namespace.clone(),
            name: Some(named.name.clone()),
            verb: Some(USE_VERB.to_owned()),
            ..ResourceAttributes::default()
        }),
        non_resource_attributes: None,
    }
}
