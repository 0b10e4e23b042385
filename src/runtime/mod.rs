//! Process plumbing that knows nothing of secrets: TLS, servers, readiness, metrics, the clock.

pub mod admin;
pub mod clock;
pub mod https;
pub mod lease;
pub mod metrics;
pub mod process;
pub mod readiness;
pub mod server;
pub mod tls;
