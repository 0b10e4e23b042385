#!/usr/bin/env bash
# Format, lints and gates; the generated files are checked by the unit tests.   usage: scripts/check.sh
. "$(dirname "$(readlink -f "$0")")/lib.sh"
cargo fmt --all --check
cargo clippy --locked --workspace --all-targets --features kustody/e2e -- -D warnings
scripts/gates.sh
