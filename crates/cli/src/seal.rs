//! `seal`: one value for one secret of one binding.

use std::io::{self, Write as _};

use kustody_core::sealing::{self, KeyDocument, Place, SealedValue};
use serde_json::json;
use thiserror::Error;

use crate::args::{Output, SealArgs};
use crate::value::Treatment;
use crate::{key_document, value};

/// Why nothing was sealed.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error(transparent)]
    KeyDocument(#[from] key_document::Error),
    #[error(transparent)]
    Value(#[from] value::Error),
    #[error("the value cannot be sealed")]
    Seal(#[source] sealing::Error),
    #[error("name the key to seal for: --key NAMESPACE/NAME, or --key-document FILE")]
    NoKey,
    #[error("the sealed value cannot be written to standard output")]
    Write(#[source] io::Error),
}

impl Error {
    /// The exit code that the help promises.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NoKey => 2,
            Self::KeyDocument(error) if error.of_cluster() => 3,
            Self::KeyDocument(_) | Self::Value(_) | Self::Seal(_) | Self::Write(_) => 1,
        }
    }
}

/// Seals and prints. The key document comes first, so that a key that cannot be used is told before a value is asked for.
pub(crate) async fn run(options: &SealArgs) -> Result<(), Error> {
    let document = match (&options.key, &options.key_document) {
        (Some(key), _) => key_document::from_cluster(key, options.kubeconfig.as_deref(), options.context.as_deref()).await?,
        (None, Some(path)) => key_document::from_file(path)?,
        (None, None) => return Err(Error::NoKey),
    };
    let treatment = Treatment { strip_newline: options.strip_newline, allow_empty: options.allow_empty };
    let value = value::read(options.file.as_deref(), treatment)?;
    if value.ends_with_newline {
        // A remark: where standard error is closed, sealing goes on.
        let _ = writeln!(io::stderr(), "warning: the value ends with a line end, which is sealed with it; --strip-newline removes it");
    }
    let place = Place { namespace: &document.namespace, binding: &options.binding.0, secret: &options.secret.0 };
    let sealed = sealing::seal(&document, &place, &value.bytes).map_err(Error::Seal)?;
    print(&document, &sealed, options).map_err(Error::Write)
}

fn print(document: &KeyDocument, sealed: &SealedValue, options: &SealArgs) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (secret, key) = (&options.secret.0, &document.key);
    match options.output {
        Output::Value => writeln!(out, "{sealed}")?,
        // Quoted: names such as `on` or `1` would be read as something else than text.
        Output::Yaml => writeln!(out, "- name: \"{secret}\"\n  sealed:\n    key: \"{key}\"\n    value: \"{sealed}\"")?,
        Output::Json => {
            let entry = json!({"name": secret, "sealed": {"key": key, "value": sealed.to_string()}});
            writeln!(out, "{entry:#}")?;
        }
    }
    out.flush()
}
