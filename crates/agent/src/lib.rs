//! The fetcher that is copied into every pod: asks the broker for what the plan promises and delivers all of it or nothing.
//! Beside a running pod it follows what changes ([`Watch`]).
//!
//! No async runtime, no Kubernetes client, no environment and no clock of its own: `main.rs` hands them in.

mod deliver;
pub mod failure;
mod options;
mod plan;
mod release;
pub mod retry;
pub mod signal;
#[cfg(test)]
mod tests;
pub mod watch;

pub use deliver::Delivered;
pub use options::Options;
pub use watch::Watch;

use failure::GivenUp;
use retry::Host;

/// Fetches and delivers once, trying again until the deadline of `options`.
pub fn init(options: &Options, host: &mut impl Host) -> Result<Delivered, GivenUp> {
    let plan = plan::read(&options.plan).map_err(GivenUp::at_once)?;
    retry::until(options.deadline, host, |limit| {
        let release = release::fetch(options, limit)?;
        deliver::deliver(options, &plan, &release)
    })
}
