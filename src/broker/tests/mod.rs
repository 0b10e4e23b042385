//! Tests of the broker, from tokens to answers on the wire.

mod callers;
mod changes;
mod inspections;
mod live;
mod releases;
mod signer;
mod tokens;
mod watches;
pub(crate) mod world;
