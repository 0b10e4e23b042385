//! What an admission review of our kinds asks: who writes, and what the spec names. Pure.

use k8s_openapi::api::authentication::v1::UserInfo;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;

/// Why a review cannot be read.
#[derive(Debug, Error)]
#[error("the admission review cannot be read")]
pub struct Error(#[source] serde_json::Error);

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
struct Review<'a> {
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
        let Review { request } = serde_json::from_slice(body).map_err(Error)?;
        let Request { uid, kind: Kind { kind }, namespace, name, user_info, object, old_object } = request;
        let spec = object.and_then(|object| object.spec);
        let before = old_object.and_then(|object| object.spec);
        let named = match spec {
            Some(spec) if !same(spec, before)? => named(&serde_json::from_str(spec.get()).map_err(Error)?, &namespace),
            _ => Vec::new(),
        };
        let object = [kind.as_str(), " ", &namespace, if namespace.is_empty() { "" } else { "/" }, &name].concat();
        Ok(Self { uid, user: user_info, object, named })
    }
}

fn same(spec: &RawValue, before: Option<&RawValue>) -> Result<bool, Error> {
    let Some(before) = before else { return Ok(false) };
    let parsed = |text: &RawValue| serde_json::from_str::<Value>(text.get()).map_err(Error);
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
    let mut once: Vec<Named> = Vec::new();
    for named in all {
        if !once.iter().any(|known| known.what == named.what && known.name == named.name) {
            once.push(named);
        }
    }
    once
}
