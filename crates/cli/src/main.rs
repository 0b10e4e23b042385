//! `kubectl kustody`: what people do with keys and sealed values from their own machine.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

mod args;
mod key_document;
mod names;
mod recovery;
mod seal;
mod value;

/// One request at a time: a single thread is enough.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        let _ = writeln!(std::io::stderr(), "error: a crypto provider was installed before main began");
        return ExitCode::FAILURE;
    }
    match &args.command {
        Command::Seal(options) => ended(seal::run(options).await, seal::Error::exit_code),
        Command::ExportKeys(options) => ended(recovery::export(options).await, recovery::Error::exit_code),
        Command::ImportKeys(options) => ended(recovery::import(options).await, recovery::Error::exit_code),
    }
}

fn ended<E: std::error::Error>(result: Result<(), E>, code: impl Fn(&E) -> u8) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed, the exit code still speaks.
            let _ = writeln!(std::io::stderr(), "error: {}", Chain(&error));
            ExitCode::from(code(&error))
        }
    }
}

/// An error with all its causes in one line; a cause that the text before it already tells is not told twice.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(next) = cause {
            let told = next.to_string();
            if !text.contains(&told) {
                text = format!("{text}: {told}");
            }
            cause = next.source();
        }
        f.write_str(&text)
    }
}
