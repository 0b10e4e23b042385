//! Names as the API server accepts them, checked before something is sealed for a place that cannot exist.

use std::str::FromStr;

use kustody_api::names::RESERVED_BINDING_NAMES;

/// `NAMESPACE/NAME` of an `EncryptionKey`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyReference {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Name of a `SecretBinding`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BindingName(pub(crate) String);

/// Name of a secret in a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretName(pub(crate) String);

/// `NAME` or `NAMESPACE/NAME` of an object of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectName {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl FromStr for ObjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(self::namespace(namespace)?), name),
            None => (None, text),
        };
        check(name, 253, true)?;
        Ok(Self { namespace, name: name.to_owned() })
    }
}

/// Name of a namespace.
pub(crate) fn namespace(text: &str) -> Result<String, String> {
    check(text, 63, false)?;
    Ok(text.to_owned())
}

/// Name of an object of Kubernetes' own.
pub(crate) fn object(text: &str) -> Result<String, String> {
    check(text, 253, true)?;
    Ok(text.to_owned())
}

impl FromStr for KeyReference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = text.split_once('/').ok_or("write it as NAMESPACE/NAME, for example vision/team-key")?;
        check(namespace, 63, false)?;
        check(name, 253, true)?;
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl FromStr for BindingName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        check(text, 63, true)?;
        if RESERVED_BINDING_NAMES.contains(&text) {
            return Err(format!("a SecretBinding cannot be named {text}: the label kustody.dev/inject gives that word another meaning"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for SecretName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        check(text, 63, false)?;
        Ok(Self(text.to_owned()))
    }
}

fn check(name: &str, most: usize, dots: bool) -> Result<(), String> {
    if name.is_empty() || name.len() > most {
        return Err(format!("a name has 1 to {most} characters"));
    }
    let end = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let labels_hold = name.split('.').all(|label| {
        let bytes = label.as_bytes();
        bytes.iter().all(|c| end(*c) || *c == b'-') && bytes.first().is_some_and(|c| end(*c)) && bytes.last().is_some_and(|c| end(*c))
    });
    if !labels_hold || (!dots && name.contains('.')) {
        let more = if dots { ", - and ." } else { " and -" };
        return Err(format!("a name consists of lower-case letters, digits{more}, and begins and ends with a letter or digit"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BindingName, KeyReference, ObjectName, SecretName};

    #[test]
    fn a_name_that_the_api_server_would_refuse_is_refused() {
        for name in ["", "A", "-a", "a-", "a_b", "a/b", &"x".repeat(64), "true", "required", "a..b", ".a"] {
            assert!(name.parse::<BindingName>().is_err(), "{name}");
        }
        for name in ["", "a.b", "A", "a-", &"x".repeat(64)] {
            assert!(name.parse::<SecretName>().is_err(), "{name}");
        }
        for name in ["", "/", "vision/", "/team-key", "a/b/c", "a.b/key"] {
            assert!(name.parse::<ObjectName>().is_err(), "{name}");
        }
        for key in ["team-key", "/team-key", "vision/", "a.b/key", "vision/team/key"] {
            assert!(key.parse::<KeyReference>().is_err(), "{key}");
        }
    }

    #[test]
    fn names_that_objects_have_are_taken() {
        assert_eq!("trainer.v2".parse(), Ok(BindingName("trainer.v2".into())));
        assert_eq!("hf".parse(), Ok(SecretName("hf".into())));
        assert_eq!("team-key".parse(), Ok(ObjectName { namespace: None, name: "team-key".into() }));
        assert_eq!("vision/team-key".parse(), Ok(ObjectName { namespace: Some("vision".into()), name: "team-key".into() }));
        assert_eq!("vision/team-key".parse(), Ok(KeyReference { namespace: "vision".into(), name: "team-key".into() }));
    }
}
