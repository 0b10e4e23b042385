//! Completion: scripts for shells, and what kubectl asks of a plugin.

use clap::{Command, CommandFactory as _, ValueEnum};
use clap_complete::{Generator, Shell, generate};

use crate::args::Args;
use crate::failure::Failure;
use crate::output;

const HELP: &str = "\
kubectl completes its plugins by a program of the name kubectl_complete-PLUGIN beside them. Once, wherever your PATH leads:
  kubectl kustody completion kubectl > ~/.local/bin/kubectl_complete-kustody
  chmod +x ~/.local/bin/kubectl_complete-kustody
From then on the completion of kubectl (kubectl completion --help) completes `kubectl kustody` too.

Who types kubectl-kustody, with the dash, has a script for the shell:
  bash   source <(kubectl-kustody completion bash)
  zsh    kubectl-kustody completion zsh > \"${fpath[1]}/_kubectl-kustody\"
  fish   kubectl-kustody completion fish > ~/.config/fish/completions/kubectl-kustody.fish";

/// What kubectl runs, by its own protocol.
const KUBECTL: &str =
    "#!/bin/sh\n# kubectl runs this for the completion of `kubectl kustody`.\nexec kubectl-kustody __complete -- \"$@\"\n";
/// Of that protocol: offer nothing besides, and offer files.
const NO_FILES: u8 = 4;
const FILES: u8 = 0;

/// Settings of `completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct CompletionArgs {
    /// The shell; or kubectl for its own way.
    #[arg(value_enum)]
    whose: Whose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Whose {
    /// Script for bash.
    Bash,
    /// Script for zsh.
    Zsh,
    /// Script for fish.
    Fish,
    /// Program kubectl_complete-kustody.
    Kubectl,
}

/// What kubectl asks: the words after `kubectl kustody`, the last of them not finished.
#[derive(Debug, clap::Args)]
pub(crate) struct CompleteArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionArgs) -> Result<(), Failure> {
    let script = |shell: Shell| {
        let mut script = Vec::new();
        generate_into(shell, &mut script);
        String::from_utf8_lossy(&script).into_owned()
    };
    output::say(&match args.whose {
        Whose::Bash => script(Shell::Bash),
        Whose::Zsh => script(Shell::Zsh),
        Whose::Fish => script(Shell::Fish),
        Whose::Kubectl => KUBECTL.to_owned(),
    })
}

fn generate_into(shell: impl Generator, script: &mut Vec<u8>) {
    // The shell completes the program; `kubectl kustody` is kubectl's.
    generate(shell, &mut Args::command().bin_name("kubectl-kustody"), "kubectl-kustody", script);
}

/// Prints what may follow: a line each, a tab before its description, and at the end what else may be offered.
pub(crate) fn complete(args: &CompleteArgs) -> Result<(), Failure> {
    let (choices, directive) = choices(&Args::command(), &args.words);
    let mut lines: Vec<String> = choices.into_iter().map(|(word, about)| format!("{word}\t{about}\n")).collect();
    lines.push(format!(":{directive}\n"));
    output::say(&lines.concat())
}

fn choices(root: &Command, words: &[String]) -> (Vec<(String, String)>, u8) {
    let (last, before) = words.split_last().map_or(("", words), |(last, before)| (last.as_str(), before));
    let mut command = root;
    for word in before.iter().filter(|word| !word.starts_with('-')) {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    let flag = |word: &str| {
        command.get_arguments().find(|argument| {
            let long = argument.get_long().is_some_and(|long| word == format!("--{long}"));
            long || argument.get_short().is_some_and(|short| word == format!("-{short}"))
        })
    };
    let about = |text: Option<String>| text.unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    let values = |argument: &clap::Arg| -> Vec<(String, String)> {
        let possible = argument.get_possible_values();
        possible.iter().map(|value| (value.get_name().to_owned(), about(value.get_help().map(ToString::to_string)))).collect()
    };
    let takes_value = |argument: &&clap::Arg| argument.get_action().takes_values();
    let (found, directive) = if let Some(argument) = before.last().and_then(|word| flag(word)).filter(takes_value) {
        let names_file = argument.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == "FILE"));
        (values(argument), if names_file { FILES } else { NO_FILES })
    } else if last.starts_with('-') {
        let longs = command
            .get_arguments()
            .filter_map(|argument| Some((format!("--{}", argument.get_long()?), about(argument.get_help().map(ToString::to_string)))));
        (longs.collect(), NO_FILES)
    } else {
        let subcommands = command.get_subcommands().filter(|found| !found.is_hide_set());
        let subcommands = subcommands.map(|found| (found.get_name().to_owned(), about(found.get_about().map(ToString::to_string))));
        (subcommands.chain(command.get_positionals().flat_map(values)).collect(), NO_FILES)
    };
    (found.into_iter().filter(|(word, _)| word.starts_with(last)).collect(), directive)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{FILES, NO_FILES, choices};
    use crate::args::Args;

    fn offered(words: &[&str]) -> (Vec<String>, u8) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let (found, directive) = choices(&Args::command(), &words);
        (found.into_iter().map(|(word, _)| word).collect(), directive)
    }

    #[test]
    fn subcommands_flags_and_values_are_completed() {
        assert_eq!(offered(&["rot"]), (vec!["rotate".to_owned()], NO_FILES));
        assert!(offered(&[""]).0.iter().all(|word| word != "__complete"));
        assert_eq!(offered(&["rotate", "--wa"]).0, ["--wait"]);
        assert_eq!(offered(&["rotate", "key", "-o", "j"]).0, ["json"]);
        assert_eq!(offered(&["completion", "b"]).0, ["bash"]);
        assert_eq!(offered(&["inject", "-f", ""]), (Vec::new(), FILES));
        assert_eq!(offered(&["rotate", "key", "-n", ""]), (Vec::new(), NO_FILES));
    }
}
