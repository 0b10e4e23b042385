//! `kubectl kustody`: what people do with keys and sealed values from their own machine.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::failure::Exit;

mod agent;
mod args;
mod cluster;
mod completion;
mod explain;
mod failure;
mod key_document;
mod manifests;
mod names;
mod output;
mod preview;
mod recovery;
mod refresh;
mod report;
mod request;
mod reseal;
mod rotate;
mod seal;
mod value;
mod world;

/// One request at a time: a single thread is enough.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        let _ = writeln!(std::io::stderr(), "error: a crypto provider was installed before main began");
        return ExitCode::FAILURE;
    }
    match &args.command {
        Command::Seal(options) => ended(seal::run(options).await),
        Command::Reseal(options) => ended(reseal::run(options).await),
        Command::Rotate(options) => ended(rotate::run(options).await),
        Command::Refresh(options) => ended(refresh::run(options).await),
        Command::Inject(options) => ended(preview::run(options).await),
        Command::Explain(options) => ended(explain::run(options).await),
        Command::ExportKeys(options) => ended(recovery::export(options).await),
        Command::ImportKeys(options) => ended(recovery::import(options).await),
        Command::Completion(options) => ended(completion::run(options)),
        Command::Complete(options) => ended(completion::complete(options)),
    }
}

fn ended(result: Result<(), impl Exit>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed, the exit code still speaks.
            let _ = writeln!(std::io::stderr(), "error: {}", Chain(&error));
            ExitCode::from(error.exit_code())
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
            let told = next.downcast_ref().map_or_else(|| next.to_string(), failure::fault);
            if !text.contains(&told) {
                text = format!("{text}: {told}");
            }
            cause = next.source();
        }
        f.write_str(&text)
    }
}
