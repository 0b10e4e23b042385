//! Completion and help: what a person finds without a manual.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::run;

#[test]
fn each_shell_has_a_script_and_kubectl_has_its_own() {
    for (shell, part) in [("bash", "complete -F"), ("zsh", "#compdef kubectl-kustody"), ("fish", "complete -c kubectl-kustody")] {
        let script = run(&["completion", shell], "").good();
        assert!(script.contains(part) && script.contains("rotate"), "{shell}");
    }
    let script = run(&["completion", "kubectl"], "").good();
    assert!(script.starts_with("#!/bin/sh\n") && script.ends_with("exec kubectl-kustody __complete -- \"$@\"\n"), "{script}");
}

#[test]
fn kubectl_is_answered_by_its_own_protocol() {
    let answer = run(&["__complete", "--", "re"], "").good();
    let lines: Vec<&str> = answer.lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("refresh\tHave every secret")), "{answer}");
    assert_eq!(lines.last(), Some(&":4"));
    assert!(run(&["__complete", "--", "inject", "-f", ""], "").good().ends_with(":0\n"), "files are offered");
    let flags = run(&["__complete", "--", "explain", "--"], "").good();
    assert!(flags.contains("--namespace\t"), "{flags}");
}

#[test]
fn help_has_an_example_and_the_exit_codes_of_each_subcommand() {
    for command in ["seal", "reseal", "rotate", "refresh", "inject", "explain", "export-keys", "import-keys"] {
        let help = run(&[command, "--help"], "").good();
        for part in ["Examples:", "Exit codes:", &format!("kubectl kustody {command}")] {
            assert!(help.contains(part), "{part:?} in {help}");
        }
    }
    assert!(run(&["completion", "--help"], "").good().contains("kubectl_complete-kustody"));
}
