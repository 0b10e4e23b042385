//! A thin layer over kube: caches, and the only place that patches.

pub mod cache;
