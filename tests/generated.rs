//! No generated file is stale.

use std::process::Command;

#[test]
fn every_generated_file_is_as_its_source_says() {
    let done =
        Command::new(env!("CARGO")).args(["run", "--quiet", "--locked", "-p", "xtask", "--", "generate", "--check"]).output().unwrap();
    assert!(done.status.success(), "run: cargo xtask generate\n{}", String::from_utf8_lossy(&done.stderr));
}
