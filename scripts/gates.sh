#!/usr/bin/env bash
# What no dependency may bring: another source than crates.io, a licence that binds ours, a second crypto or TLS library.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
licences='MIT|MIT-0|Apache-2.0|LLVM-exception|ISC|BSD-2-Clause|BSD-3-Clause|Unicode-3.0|Zlib|CC0-1.0|Unlicense|BSL-1.0'
banned='ring|openssl|openssl-sys|native-tls|serde_yaml'
tree() { cargo tree --locked --workspace --edges normal,build --prefix none --no-dedupe --format "$1" | grep . | sort -u; }
refuse() { # refuse WHAT LINES
  [ -z "$2" ] || { echo "$1:"; echo "$2"; exit 1; } >&2
}
refuse "not from crates.io" "$(sed -n 's/^source = "\(.*\)"/\1/p' Cargo.lock | sort -u | grep -v '^registry+https://github.com/rust-lang/crates.io-index$' || true)"
refuse "packages that are banned" "$(tree '{p}' | grep -E "^($banned) " || true)"
refuse "licences that are not on the list" "$(tree '{p}: {l}' | tr '/' ' ' |
  awk -v list="^($licences)$" '{n = split(substr($0, index($0, ": ") + 2), ids, /[ ()]+/); if (n == 0) print
    for (i = 1; i <= n; i++) if (ids[i] != "" && ids[i] !~ /^(AND|OR|WITH)$/ && ids[i] !~ list) { print; break }}')"
