//! kubectl kustody: seal a value for a key.
fn main() {}
