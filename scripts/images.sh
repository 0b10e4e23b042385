#!/usr/bin/env bash
# Builds the binaries and, from them and the Dockerfile, the images, without an engine, a registry or a daemon.
#   usage: scripts/images.sh
# Prints one line on standard output: the directory that holds kustody.tar and kustody-agent.tar (docker archives of
# localhost/kustody:VERSION and localhost/kustody-agent:VERSION) and bin/{kustody,kustody-agent,kubectl-kustody}.
# The directory is named by its content: when nothing changed, nothing but cargo's own check is done.
set -euo pipefail

repository=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
cd "$repository"
cache=${KUSTODY_CACHE:-$HOME/.cache/kustody}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
host=$(rustc -vV | sed -n 's/^host: //p')

fail() { echo "images.sh: $*" >&2; exit 1; }
[ -n "$version" ] || fail "Cargo.toml has no version in [workspace.package]"
command -v buildah >/dev/null || fail "buildah is missing: install it (Debian: apt-get install --no-install-recommends buildah)"

mkdir -p "$CARGO_TARGET_DIR" "$cache/images"
work=$(mktemp -d "$cache/images/.build-XXXXXX")
trap 'rm -rf "$work"' EXIT
binaries=$work/context/binaries
mkdir -p "$binaries" "$work/bin"

# Another clone may build into the same target directory: take the results before it replaces them.
exec 9>"$CARGO_TARGET_DIR/.images.lock"
flock 9
static="-C target-feature=+crt-static"
RUSTFLAGS=$static cargo build --locked --release -p kustody -p kustody-cli --target "$host" >&2
AWS_LC_SYS_NO_JITTER_ENTROPY=1 RUSTFLAGS=$static cargo build --locked --profile agent -p kustody-agent --target "$host" >&2
cp "$CARGO_TARGET_DIR/$host/release/kustody" "$CARGO_TARGET_DIR/$host/agent/kustody-agent" "$binaries/"
cp "$CARGO_TARGET_DIR/$host/release/kubectl-kustody" "$work/bin/"
exec 9>&-

key=$( (echo "$version"; cat Dockerfile; cd "$work" && sha256sum context/binaries/* bin/*) | sha256sum | cut -c1-16)
result=$cache/images/$key
if [ -e "$result/complete" ]; then echo "$result"; exit 0; fi

# A store of its own, thrown away afterwards; vfs needs no kernel support, and a policy file need not be installed.
echo '{"default": [{"type": "insecureAcceptAnything"}]}' > "$work/policy.json"
in_store() { buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs "$@"; }
image() { # TARGET NAME
  in_store bud --quiet --isolation chroot --signature-policy "$work/policy.json" --timestamp 0 \
    --build-arg BINARIES=prebuilt --target "$1" -t "localhost/$2:$version" -f "$repository/Dockerfile" "$work/context" >&2
  in_store push --quiet --signature-policy "$work/policy.json" \
    "localhost/$2:$version" "docker-archive:$work/$2.tar:localhost/$2:$version" >&2
}
image operator kustody
image agent kustody-agent

mv "$binaries"/* "$work/bin/"
rm -rf "$work/store" "$work/run" "$work/context" "$work/policy.json"
chmod 755 "$work"
touch "$work/complete"
# Another run may have been faster with the same content; then its result stands.
mv -T "$work" "$result" 2>/dev/null || [ -e "$result/complete" ] || fail "cannot put the images into $result"
echo "$result"
