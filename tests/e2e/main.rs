//! What users see, on a real cluster with the chart installed; `scripts/test.sh` starts it and runs these inside its network.

#![allow(unreachable_pub, missing_docs, reason = "test code")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test panics when a sentence is not true")]

mod asking;
mod binding;
mod chart;
mod delivery;
mod exclusive;
mod harness;
mod install;
mod keys;
mod kinds;
mod order;
mod tenancy;
mod uninjected;
mod workloads;
