//! The environment file that the kubelet reads for `fileKeyRef` (KEP-3721): what it can carry, and its text.
//!
//! The kubelet takes `NAME='value'` with everything between the quotes as it is; it knows no escape. What was measured
//! against a kubelet of 1.36 is the rule here: a file that breaks one of them is lost as a whole.

use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret::SecretBytes;

/// A line of the file ends at this many bytes.
const MAX_LINE: usize = 64 * 1024;

/// Why a value cannot stand in an environment file. Says nothing of the value but the rule that it breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("variable {name}: its value {rule}, which an environment file cannot carry; deliver it as a file")]
pub struct Unrepresentable {
    /// Which variable.
    pub name: String,
    /// Which rule.
    pub rule: &'static str,
}

/// Whether `value` can be carried.
pub fn check(name: &str, value: &[u8]) -> Result<(), Unrepresentable> {
    let refuse = |rule| Err(Unrepresentable { name: name.to_owned(), rule });
    if value.is_empty() {
        return refuse("is empty");
    }
    if std::str::from_utf8(value).is_err() {
        return refuse("is not UTF-8 text");
    }
    if value.contains(&b'\'') {
        return refuse("contains a single quote");
    }
    if value.contains(&b'\r') {
        return refuse("contains a carriage return");
    }
    if value.contains(&0) {
        return refuse("contains a NUL byte");
    }
    // The name, `='` and `'` stand on the first and last line.
    let longest = value.split(|b| *b == b'\n').map(<[u8]>::len).max().unwrap_or(0);
    if longest + name.len() + 4 >= MAX_LINE {
        return refuse("has a line of 64 KiB or more");
    }
    Ok(())
}

/// The file's text; everything or nothing.
#[expect(clippy::disallowed_methods, reason = "this is one of the two forms in which values are delivered")]
pub fn render(variables: &[(&str, &SecretBytes)]) -> Result<Zeroizing<Vec<u8>>, Unrepresentable> {
    let size: usize = variables.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(size));
    for (name, value) in variables {
        check(name, value.expose())?;
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b"='");
        text.extend_from_slice(value.expose());
        text.extend_from_slice(b"'\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{check, render};
    use crate::secret::SecretBytes;

    #[test]
    fn values_that_would_lose_the_whole_file_are_refused() {
        let long = "x".repeat(64 * 1024);
        for (value, rule) in [
            (&b""[..], "is empty"),
            (b"it's", "contains a single quote"),
            (b"a\r\nb", "contains a carriage return"),
            (b"a\0b", "contains a NUL byte"),
            (&[0xff], "is not UTF-8 text"),
            (long.as_bytes(), "has a line of 64 KiB or more"),
        ] {
            let said = check("A", value).unwrap_err().to_string();
            assert_eq!(said, format!("variable A: its value {rule}, which an environment file cannot carry; deliver it as a file"));
        }
        for value in ["abc", "a b # c", "$HOME ${X} \\n", "{\"a\": \"b\"}", "two\nlines", "ü"] {
            assert_eq!(check("A", value.as_bytes()), Ok(()), "{value:?}");
        }
    }

    /// What the kubelet does, reduced to single quotes.
    fn parse(mut text: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        while let Some((name, rest)) = text.split_once("='") {
            let (value, rest) = rest.split_once('\'').expect("a closing quote");
            found.push((name.to_owned(), value.to_owned()));
            text = rest.strip_prefix('\n').expect("a line end");
        }
        assert!(text.is_empty());
        found
    }

    proptest! {
        #[test]
        fn what_is_rendered_reads_back_as_it_was(values in prop::collection::vec(("[A-Z_][A-Z0-9_]{0,8}", any::<String>()), 0..6)) {
            let secrets: Vec<_> = values.iter().map(|(n, v)| (n.clone(), SecretBytes::new(v.clone().into_bytes()))).collect();
            let borrowed: Vec<_> = secrets.iter().map(|(n, v)| (n.as_str(), v)).collect();
            let carried = values.iter().all(|(n, v)| check(n, v.as_bytes()).is_ok());
            match render(&borrowed) {
                Ok(text) => {
                    prop_assert!(carried);
                    prop_assert_eq!(parse(std::str::from_utf8(&text).unwrap()), values);
                }
                Err(_) => prop_assert!(!carried),
            }
        }
    }
}
