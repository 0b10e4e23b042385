//! From a `KeyProvider` object to the connection that it describes.

use std::collections::HashMap;
use std::sync::Arc;

use kube::{Client, ResourceExt};
use kustody_api::KeyProvider;
use kustody_providers::{Error, Provider};
use tokio::sync::Mutex;

use crate::runtime::clock::Clock;

/// Makes providers and keeps them as long as their object does not change.
///
/// Requires what [`super::key_store::Secrets`] requires, for `local`.
#[cfg_attr(not(feature = "local"), expect(dead_code, reason = "what the embedded KMS alone needs"))]
pub struct Providers {
    client: Client,
    namespace: String,
    clock: Arc<dyn Clock>,
    made: Mutex<HashMap<String, Made>>,
}

/// A provider, and which state of which object it was made of.
struct Made {
    uid: Option<String>,
    generation: Option<i64>,
    provider: Arc<dyn Provider>,
}

impl Providers {
    /// Providers whose local records lie in `namespace`.
    pub fn new(client: Client, namespace: &str, clock: Arc<dyn Clock>) -> Self {
        Self { client, namespace: namespace.to_owned(), clock, made: Mutex::default() }
    }

    /// The connection that `object` describes.
    pub async fn get(&self, object: &KeyProvider) -> Result<Arc<dyn Provider>, Error> {
        let (name, uid, generation) = (object.name_any(), object.uid(), object.metadata.generation);
        let mut made = self.made.lock().await;
        if let Some(known) = made.get(&name).filter(|known| known.uid == uid && known.generation == generation) {
            return Ok(Arc::clone(&known.provider));
        }
        let provider = self.make(object)?;
        made.insert(name, Made { uid, generation, provider: Arc::clone(&provider) });
        Ok(provider)
    }

    #[cfg(feature = "local")]
    fn make(&self, object: &KeyProvider) -> Result<Arc<dyn Provider>, Error> {
        use kustody_api::key_provider::{Derivation as Wanted, RootKey};
        use kustody_providers::local::{Derivation, Local, RootKeySource};

        use super::key_store::Secrets;

        let Some(local) = &object.spec.local else { return Err(unavailable(object)) };
        let source = match &local.root_key {
            None | Some(RootKey { generated: Some(_), .. }) => RootKeySource::Generated,
            Some(RootKey { file: Some(file), .. }) => RootKeySource::File(file.path.clone().into()),
            Some(RootKey { passphrase: Some(passphrase), .. }) => RootKeySource::Passphrase {
                path: passphrase.path.clone().into(),
                derivation: passphrase.derivation.map(|derivation| match derivation {
                    Wanted::Argon2id => Derivation::Argon2id,
                    Wanted::Pbkdf2HmacSha256 => Derivation::Pbkdf2HmacSha256,
                }),
            },
            Some(_) => {
                return Err(Error::Configuration {
                    detail: format!(
                        "KeyProvider {}: spec.local.rootKey names none of generated, file and passphrase; name one of them",
                        object.name_any()
                    ),
                });
            }
        };
        let store = Arc::new(Secrets::new(self.client.clone(), &self.namespace));
        let clock = Arc::clone(&self.clock);
        Ok(Arc::new(Local::new(store, &object.name_any(), source, Arc::new(move || clock.now()))))
    }

    #[cfg(not(feature = "local"))]
    fn make(&self, object: &KeyProvider) -> Result<Arc<dyn Provider>, Error> {
        Err(unavailable(object))
    }
}

fn unavailable(object: &KeyProvider) -> Error {
    Error::Configuration {
        detail: format!(
            "KeyProvider {}: spec names a provider that this build of the operator does not have; it has: {}",
            object.name_any(),
            if cfg!(feature = "local") { "local" } else { "none" },
        ),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Response;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::runtime::clock::SystemClock;

    fn providers() -> Providers {
        let nowhere = tower::service_fn(|_| async {
            Ok::<_, std::convert::Infallible>(Response::builder().status(500).body(Body::empty()).unwrap())
        });
        Providers::new(Client::new(nowhere, "default"), "kustody-system", Arc::new(SystemClock))
    }

    fn object(uid: &str, generation: i64, spec: Value) -> KeyProvider {
        let mut object = KeyProvider::new("main", serde_json::from_value(spec).unwrap());
        object.metadata.uid = Some(uid.to_owned());
        object.metadata.generation = Some(generation);
        object
    }

    #[cfg(feature = "local")]
    #[tokio::test]
    async fn a_provider_is_made_anew_when_its_object_changes_or_is_another() {
        let local = || json!({"local": {}});
        let providers = providers();
        let first = providers.get(&object("a", 1, local())).await.unwrap();
        assert!(Arc::ptr_eq(&first, &providers.get(&object("a", 1, local())).await.unwrap()));
        let second = providers.get(&object("a", 2, local())).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&second, &providers.get(&object("b", 2, local())).await.unwrap()));
    }

    #[tokio::test]
    async fn a_provider_that_this_build_does_not_have_is_refused_by_name() {
        let spec = json!({"aws": {}});
        let error = providers().get(&object("a", 1, spec)).await.err().unwrap().to_string();
        assert!(error.contains("KeyProvider main") && error.contains("it has:"), "{error}");
    }

    #[cfg(feature = "local")]
    #[tokio::test]
    async fn a_root_key_of_no_source_is_refused_with_the_choices() {
        let spec = json!({"local": {"rootKey": {}}});
        let error = providers().get(&object("a", 1, spec)).await.err().unwrap().to_string();
        assert!(error.contains("spec.local.rootKey names none of generated, file and passphrase"), "{error}");
    }
}
