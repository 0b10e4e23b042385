//! Patterns of `KeyProvider.access`: which ids of a provider a namespace may name.

