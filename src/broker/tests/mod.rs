//! Tests of the broker, from tokens to answers on the wire.

mod callers;
mod inspections;
mod live;
mod releases;
mod signer;
mod tokens;
pub(crate) mod world;
