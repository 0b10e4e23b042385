#!/usr/bin/env bash
# Builds the binaries and, from them and the Dockerfile, the images, without an engine, a registry or a daemon.
#   usage: scripts/images.sh
# Prints one line on standard output: the directory that holds kustody.tar and kustody-agent.tar (docker archives of
# localhost/kustody:VERSION and localhost/kustody-agent:VERSION) and bin/{kustody,kustody-agent,kubectl-kustody}.
# The directory is named by its content: when nothing changed, nothing but cargo's own check is done.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
host=$(rustc -vV | sed -n 's/^host: //p')

mkdir -p "$CARGO_TARGET_DIR" "$CLUSTER_IMAGES"
work=$(mktemp -d "$CLUSTER_IMAGES/.build-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/context/binaries"

# Another clone may build into the same target directory: take the results before it replaces them.
exec 9>"$CARGO_TARGET_DIR/.images.lock"
flock 9
# The static flag and the agent's variable touch nothing else: with --target and a profile of its own each has its own directory.
export RUSTFLAGS="-C target-feature=+crt-static"
cargo build --locked --release -p kustody -p kustody-cli --target "$host" >&2
AWS_LC_SYS_NO_JITTER_ENTROPY=1 cargo build --locked --profile agent -p kustody-agent --target "$host" >&2
cp "$CARGO_TARGET_DIR/$host"/{release/kustody,release/kubectl-kustody,agent/kustody-agent} "$work/bin/"
exec 9>&-

key=$( (echo "$version"; cat Dockerfile; cd "$work/bin" && sha256sum -- *) | sha256sum | cut -c1-16)
result=$CLUSTER_IMAGES/$key
if [ -e "$result/complete" ]; then touch "$result"; echo "$result"; exit 0; fi

# A store of its own, thrown away afterwards; vfs needs no kernel support, and a policy file need not be installed.
cp "$work/bin"/kustody{,-agent} "$work/context/binaries/"
echo '{"default": [{"type": "insecureAcceptAnything"}]}' > "$work/policy.json"
in_store() { # COMMAND ARGUMENT...
  buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs "$1" --signature-policy "$work/policy.json" "${@:2}" >&2
}
image() { # TARGET NAME
  local name=localhost/$2:$version
  in_store bud --quiet --isolation chroot --timestamp 0 --build-arg BINARIES=prebuilt --target "$1" -t "$name" -f Dockerfile "$work/context"
  in_store push --quiet "$name" "docker-archive:$work/$2.tar:$name"
}
image operator kustody
image agent kustody-agent

rm -rf "$work/store" "$work/run" "$work/context" "$work/policy.json"
chmod 755 "$work"
touch "$work/complete"
# Another run may have been faster with the same content; then its result stands.
mv -T "$work" "$result" 2>/dev/null || [ -e "$result/complete" ]
# The newest few are enough.
ls -td "$CLUSTER_IMAGES"/*/ | tail -n +6 | xargs -r rm -rf
echo "$result"
