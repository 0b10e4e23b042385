//! The program as the kubelet starts it.

use std::process::{Command, Output};

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
    for arguments in [&["--frobnicate"][..], &["watch"], &[], &["init", "init"]] {
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
