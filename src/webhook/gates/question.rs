//! What an admission review of our kinds asks: who writes, and what the spec names. Pure.

use std::collections::HashSet;

use k8s_openapi::api::authentication::v1::UserInfo;
use kustody_inject::answer::{VERSION, unreadable};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;

/// Why a review cannot be read.
#[derive(Debug, Error)]
pub enum Error {
    /// It is not what it should be.
    #[error("{}", unreadable(.0))]
    Unreadable(#[from] serde_json::Error),
    /// It may mean something else than we would read.
    #[error("apiVersion: the review is of {0:?}, and only {VERSION} is understood; admissionReviewVersions of the webhook must say v1")]
    Version(String),
}

/// As many secrets as the schema of a binding allows.
pub const MOST_SECRETS: usize = 64;

/// One write of one object.
#[derive(Debug)]
pub struct Question {
    /// Id of the review; the answer repeats it.
    pub uid: String,
    /// Who writes.
    pub user: UserInfo,
    /// Kind, namespace and name of what is written.
    pub object: String,
    /// What its spec names, each object once; empty when the spec stays what it was.
    pub named: Vec<Named>,
    /// How many secrets the spec has, when that is more than [`MOST_SECRETS`]; then `named` is empty.
    pub too_many: Option<usize>,
}

/// One object that a spec names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Which kind of object.
    pub what: What,
    /// Its namespace, when it has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Where it is named first.
    pub field: String,
}

/// Kinds that have the verb `use`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// `KeyProvider`.
    Provider,
    /// `EncryptionKey`.
    Key,
}

impl What {
    /// As people write it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Provider => "KeyProvider",
            Self::Key => "EncryptionKey",
        }
    }

    /// As RBAC writes it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Provider => "keyproviders",
            Self::Key => "encryptionkeys",
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: String,
    kind: Kind,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    user_info: UserInfo,
    #[serde(borrow, default)]
    object: Option<Object<'a>>,
    #[serde(borrow, default)]
    old_object: Option<Object<'a>>,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
}

/// The parts of both specs that name others.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    provider_ref: Option<ProviderRef>,
    secrets: Vec<Secret>,
}

#[derive(Deserialize)]
struct ProviderRef {
    name: String,
}

#[derive(Deserialize)]
struct Secret {
    name: String,
    sealed: Option<Sealed>,
    store: Option<Store>,
}

#[derive(Deserialize)]
struct Sealed {
    key: String,
}

#[derive(Deserialize)]
struct Store {
    provider: String,
}

impl Question {
    /// Reads a review; a spec that equals the one before asks nothing.
    pub fn read(body: &[u8]) -> Result<Self, Error> {
        let Review { api_version, request } = serde_json::from_slice(body)?;
        if api_version != VERSION {
            return Err(Error::Version(api_version));
        }
        let Request { uid, kind: Kind { kind }, namespace, name, user_info, object, old_object } = request;
        let spec = object.and_then(|object| object.spec);
        let before = old_object.and_then(|object| object.spec);
        let spec: Spec = match spec {
            Some(spec) if !same(spec, before)? => serde_json::from_str(spec.get())?,
            _ => Spec::default(),
        };
        let too_many = Some(spec.secrets.len()).filter(|count| *count > MOST_SECRETS);
        let named = if too_many.is_none() { named(&spec, &namespace) } else { Vec::new() };
        let object = [kind.as_str(), " ", &namespace, if namespace.is_empty() { "" } else { "/" }, &name].concat();
        Ok(Self { uid, user: user_info, object, named, too_many })
    }
}

fn same(spec: &RawValue, before: Option<&RawValue>) -> Result<bool, Error> {
    let Some(before) = before else { return Ok(false) };
    let parsed = |text: &RawValue| serde_json::from_str::<Value>(text.get());
    Ok(spec.get() == before.get() || parsed(spec)? == parsed(before)?)
}

fn named(spec: &Spec, namespace: &str) -> Vec<Named> {
    let provider = |name: &str, field: String| Named { what: What::Provider, namespace: None, name: name.to_owned(), field };
    let mut all = Vec::new();
    if let Some(ProviderRef { name }) = &spec.provider_ref {
        all.push(provider(name, "spec.providerRef.name".to_owned()));
    }
    for Secret { name, sealed, store } in &spec.secrets {
        if let Some(Sealed { key }) = sealed {
            let field = format!("spec.secrets[{name}].sealed.key");
            all.push(Named { what: What::Key, namespace: Some(namespace.to_owned()), name: key.clone(), field });
        }
        if let Some(Store { provider: name_of }) = store {
            all.push(provider(name_of, format!("spec.secrets[{name}].store.provider")));
        }
    }
    let mut known = HashSet::new();
    all.retain(|named| known.insert((named.what, named.name.clone())));
    all
}
