#!/usr/bin/env bash
# Builds cert-manager's controllers (main.go) and lays its kinds beside them, once for each go.mod + go.sum + compiler: only the
# tests need them, so the demo does not wait for it.
# usage: build.sh
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"; . ../env.sh
out=$CLUSTER_BIN/cert-manager; mkdir -p "$CLUSTER_BIN"; exec 9> "$CLUSTER_BIN/.cert-manager.lock"; flock 9
export CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly GOTOOLCHAIN=${GOTOOLCHAIN:-local}
key=$(cat go.mod go.sum main.go build.sh <(go version) | sha256sum | cut -c1-32)
[ "$(cat "$out/.key" 2>/dev/null)" != "$key" ] || exit 0

rm -rf "$out"; mkdir -p "$out/crds"
go build -trimpath -ldflags "-s -w" -o "$out/controller" .
# Not the kinds of ACME, whose controllers are not built.
install -m 644 "$(go list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)"/deploy/crds/cert-manager.io_*.yaml "$out/crds/"
echo "$key" > "$out/.key"
