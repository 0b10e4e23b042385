//! The controller role: one replica acts, the others wait for its lease.

pub mod context;
pub mod key_provider;
