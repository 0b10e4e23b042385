//! What is printed, for people or for programs.

use std::fmt::Display;
use std::io::{self, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// In words.
    Text,
    /// Indented JSON.
    Json,
    /// One YAML document.
    Yaml,
}

/// Prints `value`, or what a person would rather read.
pub(crate) fn print<T: Serialize + Display>(format: Format, value: &T) -> Result<(), Failure> {
    let text = match format {
        Format::Text => value.to_string(),
        Format::Json => json(value)?,
        Format::Yaml => yaml(value)?,
    };
    say(&text)
}

/// `value` as indented JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    Ok(serde_json::to_string_pretty(value).map_err(|error| Failure::Write(Box::new(error)))? + "\n")
}

/// `value` as one YAML document.
pub(crate) fn yaml<T: Serialize>(value: &T) -> Result<String, Failure> {
    let text = serde_saphyr::to_string(value).map_err(|error| Failure::Write(Box::new(error)))?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

/// Writes to standard output.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A remark beside what is printed: where standard error is closed, work goes on.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "note: {text}");
}
