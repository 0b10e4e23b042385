//! Generates files and checks them; never shipped.
fn main() {}
