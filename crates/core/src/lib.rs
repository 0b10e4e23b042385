//! The pure core of Kustody: no Kubernetes, no I/O, no clock; everything here is a function of its arguments.
//!
//! Features are off by default so that the agent, which is copied into every pod, links [`wire`] alone.

#[cfg(feature = "audit")]
pub mod audit;
pub mod envfile;
pub mod hex;
pub mod pattern;
#[cfg(feature = "wire")]
pub mod property;
#[cfg(feature = "sealing")]
pub mod sealing;
pub mod secret;
pub mod variables;
#[cfg(feature = "wire")]
pub mod wire;
