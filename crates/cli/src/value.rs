//! The value to seal: read once, bounded, never in an argument.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use kustody_core::sealing::MAX_PLAINTEXT;
use kustody_core::secret::SecretBytes;
use thiserror::Error;
use zeroize::Zeroizing;

/// Why there is no value to seal.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("the value would be read from standard input, which is a terminal; pipe it in (printf %s \"$TOKEN\" | ...) or name a --file")]
    Terminal,
    #[error("the value cannot be read from {from}")]
    Read {
        from: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "the value has more than {MAX_PLAINTEXT} bytes, the most that can be sealed; seal a key for the data and keep the data elsewhere"
    )]
    TooLarge,
    #[error("the value is empty, which mostly means that the command before the pipe failed; --allow-empty seals it nevertheless")]
    Empty,
}

/// What was read.
pub(crate) struct Value {
    pub(crate) bytes: SecretBytes,
    /// A last line end that stays part of the value.
    pub(crate) ends_with_newline: bool,
}

/// What to do with what was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Treatment {
    pub(crate) strip_newline: bool,
    pub(crate) allow_empty: bool,
}

/// Reads from `file`, else from standard input.
pub(crate) fn read(file: Option<&Path>, treatment: Treatment) -> Result<Value, Error> {
    match file {
        Some(path) => {
            let from = || PathBuf::from(path).display().to_string();
            let opened = File::open(path).map_err(|source| Error::Read { from: from(), source })?;
            take(opened, from, treatment)
        }
        None if io::stdin().is_terminal() => Err(Error::Terminal),
        None => take(io::stdin().lock(), || "standard input".to_owned(), treatment),
    }
}

fn take(source: impl Read, from: impl Fn() -> String, treatment: Treatment) -> Result<Value, Error> {
    // Reserved at once: a vector that grows leaves copies of what it held behind. Wiped also where reading fails half-way.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PLAINTEXT + 64));
    let limit = u64::try_from(MAX_PLAINTEXT).unwrap_or(u64::MAX) + 1;
    source.take(limit).read_to_end(&mut bytes).map_err(|source| Error::Read { from: from(), source })?;
    if bytes.len() > MAX_PLAINTEXT {
        return Err(Error::TooLarge);
    }
    if treatment.strip_newline && bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.is_empty() && !treatment.allow_empty {
        return Err(Error::Empty);
    }
    let ends_with_newline = bytes.last() == Some(&b'\n');
    Ok(Value { bytes: SecretBytes::new(std::mem::take(&mut *bytes)), ends_with_newline })
}

#[cfg(test)]
mod tests {
    use kustody_core::sealing::MAX_PLAINTEXT;

    use super::{Error, Treatment, Value, take};

    const AS_IT_IS: Treatment = Treatment { strip_newline: false, allow_empty: false };

    fn of(bytes: &[u8], treatment: Treatment) -> Result<Value, Error> {
        take(bytes, || "here".to_owned(), treatment)
    }

    #[test]
    fn bytes_stay_as_they_are_and_a_last_line_end_is_noticed() {
        let value = of(b"a\r\n", AS_IT_IS).unwrap();
        assert_eq!((value.bytes.len(), value.ends_with_newline), (3, true));
        let value = of(b"a\nb", AS_IT_IS).unwrap();
        assert_eq!((value.bytes.len(), value.ends_with_newline), (3, false));
    }

    #[test]
    fn one_line_end_is_removed_when_asked() {
        for (given, length) in [(&b"a\n"[..], 1), (b"a\r\n", 1), (b"a\n\n", 2), (b"a\r", 2), (b"a", 1)] {
            assert_eq!(of(given, Treatment { strip_newline: true, ..AS_IT_IS }).unwrap().bytes.len(), length);
        }
    }

    #[test]
    fn an_empty_value_is_refused_unless_allowed() {
        assert!(matches!(of(b"", AS_IT_IS), Err(Error::Empty)));
        assert!(matches!(of(b"\n", Treatment { strip_newline: true, ..AS_IT_IS }), Err(Error::Empty)));
        assert!(of(b"", Treatment { allow_empty: true, ..AS_IT_IS }).unwrap().bytes.is_empty());
    }

    #[test]
    fn a_value_at_the_limit_is_taken_and_one_over_it_refused() {
        assert_eq!(of(&vec![b'x'; MAX_PLAINTEXT], AS_IT_IS).unwrap().bytes.len(), MAX_PLAINTEXT);
        assert!(matches!(of(&vec![b'x'; MAX_PLAINTEXT + 1], AS_IT_IS), Err(Error::TooLarge)));
    }
}
