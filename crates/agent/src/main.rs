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
use kustody_agent::watch::{Change, Listener};
use kustody_agent::{Delivered, Options, Watch};
use serde_json::{Value, json};

const HELP: &str = "\
Fetches what a pod was promised from Kustody's broker and delivers it.

Usage: kustody-agent init [--termination-log PATH]
       kustody-agent watch

init delivers everything once and ends. watch runs beside the pod's containers, replaces files when their values change,
and ends with the pod.

Options:
      --termination-log PATH  where init writes the cause of a failure [default: /dev/termination-log]
      --version               print the version
      --help                  print this help

Variables, set by admission: KUSTODY_PLAN, KUSTODY_BROKER (https://IP:PORT), KUSTODY_CA (PEM); of init also
KUSTODY_DEADLINE_SECONDS (default 120).
";

enum Command {
    Init { termination_log: PathBuf },
    Watch,
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
        Ok(Command::Watch) => watch(),
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
            lexopt::Arg::Value(value) if subcommand.is_none() && (value == "init" || value == "watch") => subcommand = Some(value),
            other => return Err(other.unexpected()),
        }
    }
    match subcommand {
        Some(subcommand) if subcommand == "watch" => Ok(Command::Watch),
        Some(_) => Ok(Command::Init { termination_log }),
        None => Err("a command is missing".into()),
    }
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

fn run() -> Result<Delivered, GivenUp> {
    let options = options().map_err(GivenUp::at_once)?;
    kustody_agent::init(&options, &mut Machine::new())
}

/// Never ends by itself: what cannot be watched is no reason to disturb a pod that runs.
fn watch() -> ExitCode {
    kustody_agent::signal::end_on_terminate();
    if let Err(failure) = follow() {
        say(&json!({"level": "error", "message": "nothing is watched", "cause": failure.to_string()}));
    }
    loop {
        thread::sleep(Duration::from_hours(1));
    }
}

fn follow() -> Result<(), Failure> {
    let options = options()?;
    let mut watch = Watch::new(&options)?;
    say(&json!({"level": "info", "message": "watching", "bindings": watch.bindings()}));
    let mut machine = Machine::new();
    while watch.bindings() > 0 {
        watch.turn(&mut machine);
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the one place of the agent that reads the environment")]
fn options() -> Result<Options, Failure> {
    Options::from_variables(|name| std::env::var(name).ok())
}

fn say(line: &Value) {
    let _ = writeln!(io::stderr(), "{line}");
}

struct Machine {
    start: Instant,
    said: String,
}

impl Machine {
    fn new() -> Self {
        Self { start: Instant::now(), said: String::new() }
    }
}

impl Listener for Machine {
    fn changed(&mut self, Change { binding, files, withdrawn }: &Change<'_>) {
        if withdrawn.is_empty() {
            say(&json!({"level": "info", "message": "updated", "binding": binding, "files": files}));
        } else {
            let cause = Failure::Withdrawn(withdrawn.to_vec()).to_string();
            let message = "withdrawn: what is not given stays as it is";
            say(&json!({"level": "warn", "message": message, "binding": binding, "files": files, "cause": cause}));
        }
    }

    fn answering(&mut self) {
        say(&json!({"level": "info", "message": "the broker answers"}));
        self.said.clear();
    }

    fn trusting(&mut self, authorities: usize) {
        say(&json!({"level": "info", "message": "the broker named its authorities anew", "authorities": authorities}));
    }
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
