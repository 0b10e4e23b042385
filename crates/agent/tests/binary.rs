//! The program as the kubelet starts it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

fn agent(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_kustody-agent")).args(arguments).env_clear().output();
    output.unwrap_or_else(|error| unreachable!("cargo builds the agent before this test: {error}"))
}

#[test]
fn version_and_help_are_printed() {
    let version = agent(&["--version"]);
    assert!(version.status.success());
    assert_eq!(version.stdout, concat!("kustody-agent ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
    let help = agent(&["--help"]);
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("--termination-log"));
}

#[test]
fn an_unknown_argument_is_an_error_of_usage() {
    for arguments in [&["--frobnicate"][..], &["serve"], &[], &["init", "init"], &["watch", "init"]] {
        assert_eq!(agent(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_malformed_environment_fails_at_once_with_a_termination_message() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("termination-log");
    let output = agent(&["init", "--termination-log", log.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let message = std::fs::read_to_string(log).unwrap();
    assert!(message.contains("variable KUSTODY_PLAN of the agent container is not set"), "{message}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1);
    assert!(stderr.contains("KUSTODY_PLAN"));
}

#[test]
fn a_watch_that_has_nothing_to_do_waits_and_ends_with_success_as_soon_as_it_is_told() {
    let mut watch = Command::new(env!("CARGO_BIN_EXE_kustody-agent")).arg("watch").env_clear().stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    // The variables are missing: it says so and goes on, for the pod's sake.
    BufReader::new(watch.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("KUSTODY_PLAN") && watch.try_wait().unwrap().is_none(), "{line}");
    assert!(Command::new("kill").args(["-TERM", &watch.id().to_string()]).status().unwrap().success());
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}
