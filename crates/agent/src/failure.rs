//! What can go wrong, and how it is told to whoever looks at the pod.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use kustody_core::envfile::Unrepresentable;
use kustody_core::wire::{Refusal, Withdrawn};
use thiserror::Error;

/// The kubelet keeps this many bytes of a termination message.
const MAX_MESSAGE: usize = 4096;

/// Why an attempt did not deliver. Holds names and rules, never a value.
#[derive(Debug, Error)]
pub enum Failure {
    /// A variable of the agent container is absent or malformed.
    #[error("variable {name} of the agent container {rule}: admission sets it, so delete the pod and let it be admitted anew")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What it should be.
        rule: String,
    },
    /// The plan says something that no admission writes.
    #[error("the pinned plan: {item} {rule}: admission writes it, so delete the pod and let it be admitted anew")]
    Plan {
        /// The binding, path or variable.
        item: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// The pod's token cannot be read.
    #[error("token {}: {rule}: the kubelet projects it, see the pod's events", path.display())]
    Token {
        /// Where it should be.
        path: PathBuf,
        /// What is wrong.
        rule: String,
    },
    /// No answer, or none from someone who may call itself the broker.
    #[error("no answer from the broker at {broker}: {cause}; see that its pods are Ready and that no NetworkPolicy is between")]
    Unreachable {
        /// Its address.
        broker: String,
        /// What the network or TLS says.
        cause: String,
    },
    /// The broker says no.
    #[error("the broker refused ({}): {} [correlation ID {}]", .0.reason, .0.message, .0.correlation_id)]
    Refused(Refusal),
    /// An answer without values and without a reason.
    #[error("the broker at {broker} answered with HTTP status {status} and no reason: see its log")]
    Status {
        /// Its address.
        broker: String,
        /// The status.
        status: u16,
    },
    /// An answer that is not a release.
    #[error("the answer of the broker at {broker} is not used: {rule}; broker and agent must be of the same release of Kustody")]
    Answer {
        /// Its address.
        broker: String,
        /// The rule that it breaks.
        rule: String,
    },
    /// Part of the plan is not given.
    #[error("{}", Missing(.0))]
    Withdrawn(Vec<Withdrawn>),
    /// A value that an environment file cannot carry.
    #[error("binding {binding}: {cause}")]
    Unrepresentable {
        /// Its binding.
        binding: String,
        /// Which variable and rule.
        cause: Unrepresentable,
    },
    /// A volume cannot be written.
    #[error("cannot {action} {}: {cause}; see the agent's volumes in the pod, their size and its user", path.display())]
    Volume {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel says.
        cause: io::Error,
    },
}

impl Failure {
    /// Whether trying again can help while the pod stays as it is.
    ///
    /// What the broker refuses is tried again whatever it says of its chances: grants and bindings change under a waiting pod,
    /// and an init container that fails early costs a gang a restart.
    pub fn heals(&self) -> bool {
        !matches!(self, Self::Variable { .. } | Self::Plan { .. } | Self::Volume { .. })
    }
}

/// The withdrawn items as one sentence.
struct Missing<'a>(&'a [Withdrawn]);

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the broker does not give everything that the pod was promised")?;
        for (index, Withdrawn { binding, item, reason }) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { ": " } else { "; " })?;
            write!(f, "binding {binding}")?;
            if !item.is_empty() {
                write!(f, ", secret {item}")?;
            }
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

/// The last failure, and what it took to give up.
#[derive(Debug, Error)]
#[error("{failure} (gave up after {attempts} attempts and {} s)", elapsed.as_secs())]
pub struct GivenUp {
    /// The last failure.
    pub failure: Failure,
    /// How often the broker was asked.
    pub attempts: u32,
    /// Since the start.
    pub elapsed: Duration,
}

impl GivenUp {
    /// Gave up before the broker was asked.
    pub fn at_once(failure: Failure) -> Self {
        Self { failure, attempts: 0, elapsed: Duration::ZERO }
    }

    /// One line of at most 4096 bytes for `/dev/termination-log`; what is cut off is the middle: the end names the record to look for.
    pub fn message(&self) -> String {
        let line: String = self.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if line.len() <= MAX_MESSAGE {
            return line;
        }
        let (head, tail) = (line.floor_char_boundary(MAX_MESSAGE - 260), line.ceil_char_boundary(line.len() - 256));
        format!("{}…{}", &line[..head], &line[tail..])
    }
}
