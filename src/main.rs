//! The operator's binary: parses the command line, installs what is global, and hands over.

use std::process::ExitCode;

use clap::Parser;
use kustody::args::{Args, Command};
use kustody::runtime::log;
use kustody::runtime::unsaid::Unsaid;
use kustody::{app, check, root_key};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    let unsaid = Unsaid::default();
    // Its own errors would be written past us, with the fields of the event.
    let layer = tracing_subscriber::fmt::layer().json().log_internal_errors(false).with_writer(log::to(std::io::stdout, &unsaid));
    tracing_subscriber::registry().with(filter).with(layer).init();
    std::panic::set_hook(Box::new(log::panicked));
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::error!("a crypto provider was installed before main began");
        return ExitCode::FAILURE;
    }
    let result: Result<(), Box<dyn std::error::Error>> = match args.command {
        Command::Run(run) => app::run(run.into_config(), unsaid).await.map_err(Into::into),
        Command::InstallRootKey(args) => root_key::install(&args.from, &args.to).map_err(Into::into),
        Command::Check(args) => check::run(&args).await.map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %Chain(error.as_ref()), "ended");
            ExitCode::FAILURE
        }
    }
}

/// An error with all its causes in one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(next) = cause {
            write!(f, ": {next}")?;
            cause = next.source();
        }
        Ok(())
    }
}
