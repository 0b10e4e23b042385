//! The fetcher that is copied into every pod.
fn main() {}
