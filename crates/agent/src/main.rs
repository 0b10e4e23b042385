//! The agent's edge: arguments, environment, clock, termination log.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use kustody_agent::failure::{Failure, GivenUp};
use kustody_agent::retry::Host;
use kustody_agent::{Delivered, Options};
use serde_json::{Value, json};

const HELP: &str = "\
Fetches what a pod was promised from Kustody's broker and delivers it.

Usage: kustody-agent init [--termination-log PATH]

Options:
      --termination-log PATH  where the cause of a failure is written [default: /dev/termination-log]
      --version               print the version
      --help                  print this help

Variables of init, set by admission: KUSTODY_PLAN, KUSTODY_BROKER (https://IP:PORT), KUSTODY_CA (PEM),
KUSTODY_DEADLINE_SECONDS (default 120).
";

enum Command {
    Init { termination_log: PathBuf },
    Print(String),
}

fn main() -> ExitCode {
    match command(lexopt::Parser::from_env()) {
        Ok(Command::Print(text)) => {
            // Whoever closed the output does not want to read it.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Command::Init { termination_log }) => init(&termination_log),
        Err(error) => {
            let _ = writeln!(io::stderr(), "kustody-agent: {error}; see kustody-agent --help");
            ExitCode::from(2)
        }
    }
}

fn command(mut arguments: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let mut subcommand: Option<OsString> = None;
    let mut termination_log = PathBuf::from("/dev/termination-log");
    while let Some(argument) = arguments.next()? {
        match argument {
            lexopt::Arg::Long("version") => {
                return Ok(Command::Print(concat!("kustody-agent ", env!("CARGO_PKG_VERSION"), "\n").to_owned()));
            }
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => return Ok(Command::Print(HELP.to_owned())),
            lexopt::Arg::Long("termination-log") => termination_log = arguments.value()?.into(),
            lexopt::Arg::Value(value) if subcommand.is_none() && value == "init" => subcommand = Some(value),
            other => return Err(other.unexpected()),
        }
    }
    subcommand.map(|_| Command::Init { termination_log }).ok_or_else(|| "a command is missing".into())
}

fn init(termination_log: &Path) -> ExitCode {
    match run() {
        Ok(Delivered { bindings, files, variables }) => {
            say(&json!({"level": "info", "message": "delivered", "bindings": bindings, "files": files, "variables": variables}));
            ExitCode::SUCCESS
        }
        Err(given_up) => {
            let message = given_up.message();
            say(&json!({"level": "error", "message": message}));
            // Absent outside of a container, and then standard error has said it.
            let _ = fs::write(termination_log, message);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place of the agent that reads the environment")]
fn run() -> Result<Delivered, GivenUp> {
    let options = Options::from_variables(|name| std::env::var(name).ok()).map_err(GivenUp::at_once)?;
    kustody_agent::init(&options, &mut Machine { start: Instant::now(), said: String::new() })
}

fn say(line: &Value) {
    let _ = writeln!(io::stderr(), "{line}");
}

struct Machine {
    start: Instant,
    said: String,
}

impl Host for Machine {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&mut self, pause: Duration) {
        thread::sleep(pause);
    }

    fn random(&mut self) -> u64 {
        // The standard library's hash keys are the one randomness that needs no package.
        RandomState::new().build_hasher().finish()
    }

    fn waiting(&mut self, failure: &Failure) {
        let cause = failure.to_string();
        if self.said != cause {
            say(&json!({"level": "warn", "message": "waiting", "cause": cause}));
            self.said = cause;
        }
    }
}
