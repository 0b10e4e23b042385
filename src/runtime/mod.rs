//! Process plumbing that knows nothing of secrets: TLS, servers, readiness, metrics, the clock, and bytes not to be logged.

pub mod admin;
pub mod clock;
pub mod expiry;
pub mod https;
pub mod intake;
pub mod lease;
pub mod log;
pub mod metrics;
pub mod patience;
pub mod process;
pub mod readiness;
pub mod server;
pub mod tls;
pub mod unsaid;
pub mod validity;
