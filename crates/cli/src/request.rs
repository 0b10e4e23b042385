//! Asking the controller for something once: a fresh token, in the place where the controller looks for one.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::names::ObjectName;

/// How long `--wait` waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Duration);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || "write it as 90s, 5m or 1h".to_owned();
        let digits = text.trim_end_matches(['s', 'm', 'h']);
        let number: u64 = digits.parse().map_err(|_| rule())?;
        let seconds = match &text[digits.len()..] {
            "s" => Some(number),
            "m" => number.checked_mul(60),
            "h" => number.checked_mul(3600),
            _ => None,
        };
        seconds.map(|seconds| Self(Duration::from_secs(seconds))).ok_or_else(rule)
    }
}

/// A token that no request had before.
pub(crate) fn token() -> Result<String, Failure> {
    let mut bytes = [0; 10];
    rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes).map_err(|_| Failure::Randomness)?;
    let mut text = String::new();
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// The namespace that is meant: the one before the name, else that of the flags.
pub(crate) fn namespace(object: &ObjectName, flag: Option<&str>, cluster: &Cluster) -> Result<String, Failure> {
    match (&object.namespace, flag) {
        (Some(said), Some(wanted)) if said != wanted => {
            Err(Failure::Usage(format!("{said}/{} and --namespace {wanted} name two namespaces; leave one of them out", object.name)))
        }
        (Some(said), _) => Ok(said.clone()),
        (None, _) => Ok(cluster.namespace().to_owned()),
    }
}

/// `False (Reason): message` of the condition `Ready`, for those who wait.
pub(crate) fn readiness(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array();
    match conditions.and_then(|all| all.iter().find(|condition| condition["type"] == "Ready")) {
        None => "its controller has not looked at it yet".to_owned(),
        Some(ready) => {
            let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
            format!("Ready is {} ({}): {}", text("status"), text("reason"), text("message"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{Limit, readiness, token};

    #[test]
    fn a_limit_is_a_number_with_a_unit() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("1h", 3600)] {
            assert_eq!(text.parse(), Ok(Limit(Duration::from_secs(seconds))));
        }
        for text in ["", "s", "5", "5d", "5ms", "-1s", "1.5h", "99999999999999999999h", "18446744073709551615h"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_two_tokens_are_the_same() {
        let (a, b) = (token().unwrap(), token().unwrap());
        assert_ne!(a, b);
        assert!(a.len() == 20 && a.bytes().all(|c| c.is_ascii_hexdigit()));
    }

    #[test]
    fn those_who_wait_are_told_what_the_controller_says() {
        let object =
            json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "KeyNotFound", "message": "restore it"}]}});
        assert_eq!(readiness(&object), "Ready is False (KeyNotFound): restore it");
        assert!(readiness(&json!({})).contains("not looked at it"));
    }
}
