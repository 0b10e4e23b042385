//! What users see, on a real cluster with the chart installed; `scripts/test.sh` starts it and runs these inside its network.

#![allow(unreachable_pub, missing_docs, reason = "test code")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test panics when a sentence is not true")]

mod asking;
mod binding;
mod chart;
mod cli;
mod delivery;
mod exclusive;
mod gates;
mod harness;
mod install;
mod keys;
mod kinds;
mod last;
mod lifecycle;
mod live;
mod order;
mod recovery;
mod tenancy;
mod uninjected;
mod workloads;
