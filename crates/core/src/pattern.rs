//! Patterns of `KeyProvider.access`: which ids of a provider a namespace may name.

use std::fmt;

use thiserror::Error;

/// A parsed pattern such as `prod/{namespace}/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    segments: Vec<Segment>,
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Namespace,
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("pattern {pattern:?}: {rule}")]
pub struct Error {
    pattern: String,
    rule: &'static str,
}

impl Pattern {
    /// Parses `{namespace}` as a whole segment and `*` as the whole last segment; everything else is literal.
    pub fn parse(pattern: &str) -> Result<Self, Error> {
        let refuse = |rule| Err(Error { pattern: pattern.to_owned(), rule });
        let (head, open) = match pattern.strip_suffix("/*") {
            Some(head) => (head, true),
            None => (pattern, false),
        };
        let mut segments = Vec::new();
        for segment in head.split('/') {
            segments.push(match segment {
                "" => return refuse("a segment is empty"),
                "." | ".." => return refuse("a segment is . or .."),
                "{namespace}" => Segment::Namespace,
                s if s.contains(['{', '}']) => return refuse("{namespace} must be a whole segment, and nothing else stands in braces"),
                s if s.contains('*') => return refuse("* stands only at the end, as a segment of its own"),
                s => Segment::Literal(s.to_owned()),
            });
        }
        Ok(Self { segments, open })
    }

    /// Whether a namespace may name this id. An id with an empty, `.` or `..` segment never matches.
    pub fn matches(&self, namespace: &str, id: &str) -> bool {
        let parts: Vec<&str> = id.split('/').collect();
        if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
            return false;
        }
        let long_enough = if self.open { parts.len() > self.segments.len() } else { parts.len() == self.segments.len() };
        long_enough
            && self.segments.iter().zip(&parts).all(|(segment, part)| match segment {
                Segment::Literal(literal) => literal == part,
                Segment::Namespace => namespace == *part,
            })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments.iter().enumerate() {
            let slash = if i == 0 { "" } else { "/" };
            match segment {
                Segment::Literal(literal) => write!(f, "{slash}{literal}")?,
                Segment::Namespace => write!(f, "{slash}{{namespace}}")?,
            }
        }
        if self.open { f.write_str("/*") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Pattern;

    fn matches(pattern: &str, namespace: &str, id: &str) -> bool {
        Pattern::parse(pattern).expect(pattern).matches(namespace, id)
    }

    #[test]
    fn a_namespace_reaches_only_what_its_own_name_spells() {
        assert!(matches("prod/{namespace}/*", "vision", "prod/vision/db"));
        assert!(matches("prod/{namespace}/*", "vision", "prod/vision/a/b"));
        assert!(!matches("prod/{namespace}/*", "vision", "prod/vision"));
        assert!(!matches("prod/{namespace}/*", "vision", "prod/vision-two/db"));
        assert!(!matches("prod/{namespace}/*", "vision", "prod/vision/../other/db"));
        assert!(!matches("prod/{namespace}/*", "vision", "prod/vision//db"));
        assert!(matches("alias/shared", "vision", "alias/shared"));
        assert!(!matches("alias/shared", "vision", "alias/shared/more"));
    }

    #[test]
    fn a_pattern_that_says_more_than_it_may_is_refused() {
        for pattern in ["", "/a", "a/", "a//b", "*", "a*", "a/*/b", "a/{namespace}x", "{other}/a", "a/../b"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn parse_and_display_are_each_other_s_inverse(
            segments in prop::collection::vec("[a-z0-9_:-]{1,8}|\\{namespace\\}", 1..5), open: bool
        ) {
            let text = segments.join("/") + if open { "/*" } else { "" };
            prop_assert_eq!(Pattern::parse(&text).unwrap().to_string(), text);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".*", id in ".*") {
            if let Ok(pattern) = Pattern::parse(&text) {
                pattern.matches("ns", &id);
            }
        }
    }
}
