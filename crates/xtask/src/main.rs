//! Generates files, checks them, and searches what a test run left behind; never shipped.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a tool for developers speaks on the terminal")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod generate;
mod leak_scan;
mod reference;
mod roles;
mod values;

/// Tasks of developers.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Writes every generated file.
    Generate {
        /// Writes nothing; fails when a file is stale, and names it.
        #[arg(long)]
        check: bool,
    },
    /// Searches places for values that must not be there.
    LeakScan(leak_scan::Options),
}

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Generate { check } => generate::run(check),
        Task::LeakScan(options) => leak_scan::run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
