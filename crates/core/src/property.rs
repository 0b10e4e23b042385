//! One member of a secret whose value is a JSON object.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use thiserror::Error;

use crate::secret::SecretBytes;

/// Why a member cannot be had; never says anything of the value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The value is no JSON object.
    #[error("property {property:?}: the secret's value is not a JSON object; remove the property to deliver the whole value")]
    NotAnObject {
        /// What was asked for.
        property: String,
    },
    /// The object has no such member.
    #[error(
        "property {property:?}: the secret's value has no such member at its top level; correct the property, or seal a value that has it"
    )]
    Absent {
        /// What was asked for.
        property: String,
    },
}

/// The member, a string as it is and anything else as JSON; without a property the whole value.
#[expect(clippy::disallowed_methods, reason = "taking a member out of a value needs the value")]
pub fn extract(value: &SecretBytes, property: Option<&str>) -> Result<SecretBytes, Error> {
    let Some(property) = property else { return Ok(SecretBytes::new(value.expose().to_vec())) };
    let members: BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(value.expose()).map_err(|_| Error::NotAnObject { property: property.to_owned() })?;
    let raw = members.get(property).map(|raw| raw.get()).ok_or_else(|| Error::Absent { property: property.to_owned() })?;
    Ok(SecretBytes::new(match serde_json::from_str::<String>(raw) {
        Ok(text) => text.into_bytes(),
        Err(_) => raw.as_bytes().to_vec(),
    }))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at what they made")]
mod tests {
    use super::{Error, extract};
    use crate::secret::SecretBytes;

    fn of(json: &str, property: Option<&str>) -> Result<String, Error> {
        extract(&SecretBytes::new(json.as_bytes().to_vec()), property).map(|found| String::from_utf8_lossy(found.expose()).into_owned())
    }

    #[test]
    fn a_string_arrives_as_it_is_and_anything_else_as_json() {
        let json = r#"{"user": "u", "pass": "p\"w\u00fc", "port": 5432, "tls": {"on": true}, "n": null}"#;
        assert_eq!(of(json, Some("user")).unwrap(), "u");
        assert_eq!(of(json, Some("pass")).unwrap(), "p\"wü");
        assert_eq!(of(json, Some("port")).unwrap(), "5432");
        assert_eq!(of(json, Some("tls")).unwrap(), r#"{"on": true}"#);
        assert_eq!(of(json, Some("n")).unwrap(), "null");
        assert_eq!(of(json, None).unwrap(), json);
    }

    #[test]
    fn what_is_not_there_is_named_and_the_value_is_not() {
        let error = of(r#"{"a": "canary"}"#, Some("b")).unwrap_err();
        let rule = "the secret's value has no such member at its top level; correct the property, or seal a value that has it";
        assert_eq!(error.to_string(), format!("property \"b\": {rule}"));
        for text in ["canary", "[1]", "\"canary\"", ""] {
            let error = of(text, Some("b")).unwrap_err();
            assert_eq!(error, Error::NotAnObject { property: "b".into() });
            let said = "property \"b\": the secret's value is not a JSON object; remove the property to deliver the whole value";
            assert_eq!(error.to_string(), said);
        }
    }
}
