//! A thin layer over kube: caches, the only place that patches, and the ports that providers need.

pub mod backoff;
pub mod cache;
pub mod certificate;
pub mod confirmed;
pub mod events;
#[cfg(feature = "local")]
pub mod key_store;
pub mod providers;
pub mod status;
#[cfg(test)]
pub(crate) mod testing;
