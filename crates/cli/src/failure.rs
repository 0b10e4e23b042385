//! Why a subcommand did not do what it was asked for, and the exit code that the help promises for it.

use std::io;

use kustody_inject::answer;
use serde_json::error::Category;
use thiserror::Error;

use crate::{cluster, manifests, recovery, seal};

/// An error that knows its exit code.
pub(crate) trait Exit: std::error::Error {
    /// 1: what was given; 2: the command line; 3: the cluster.
    fn exit_code(&self) -> u8;
}

impl Exit for seal::Error {
    fn exit_code(&self) -> u8 {
        Self::exit_code(self)
    }
}

impl Exit for recovery::Error {
    fn exit_code(&self) -> u8 {
        Self::exit_code(self)
    }
}

/// What a parser says quotes what it parsed, which may be a secret: only the kind of the fault and its line are told.
pub(crate) fn fault(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        Category::Io => "it cannot be read",
        Category::Syntax => "it is no JSON",
        Category::Data => "a field is missing, or has a value of another type than the schema says (kubectl explain shows it)",
        Category::Eof => "it ends too early",
    };
    if error.line() == 0 { kind.to_owned() } else { format!("{kind}, line {}", error.line()) }
}

/// Of every subcommand but those that seal or recover.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Manifest(#[from] manifests::Error),
    #[error("{0}")]
    Usage(String),
    /// The denial, as the webhook would say it.
    #[error("{pod} would be denied: {why}")]
    Denied { pod: String, why: String },
    #[error("{pod}: the webhook's code has no answer")]
    Unanswered {
        pod: String,
        #[source]
        source: answer::Error,
    },
    #[error("{pod}: the webhook's patch does not apply, which is a fault of Kustody; report it with the manifest")]
    Patch {
        pod: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{0}")]
    Gone(String),
    #[error("{0}")]
    NotInTime(String),
    #[error("the system gives no randomness")]
    Randomness,
    #[error("what was found out cannot be written")]
    Write(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Exit for Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Cluster(_) | Self::Gone(_) | Self::NotInTime(_) => 3,
            Self::Manifest(_) | Self::Denied { .. } | Self::Unanswered { .. } | Self::Patch { .. } | Self::Randomness | Self::Write(_) => 1,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        Self::Write(Box::new(source))
    }
}
