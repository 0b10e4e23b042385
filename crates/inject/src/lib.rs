//! Pure injection: an admission request, facts from caches and settings in; an answer with explicit patch operations out.
//!
//! The webhook serves [`respond`]; benchmarks and fuzzers call it too. No network, no clock, no cluster.

pub mod agent;
pub mod answer;
pub mod ask;
pub mod binding;
pub mod bindings;
pub mod decide;
pub mod explain;
pub mod facts;
pub mod observe;
pub mod patch;
pub mod plan;
pub mod targets;
pub mod view;

pub use answer::{Answer, respond};
pub use binding::Binding;
pub use bindings::Bindings;
pub use decide::{Decision, decide};
pub use explain::{Considered, Explanation, explain};
pub use facts::{Config, Facts, Kubelet};
