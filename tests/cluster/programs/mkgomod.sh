#!/usr/bin/env bash
# Writes go.mod and go.sum for the Kubernetes programs of a test cluster, as Go "tool" dependencies.
# Run it by hand when the version changes, on a machine that reaches a Go module proxy; commit both files.
# usage: mkgomod.sh v1.36.4 [PROGRAM...]       (default: the five that a cluster needs)
#
# Why the list is generated: k8s.io/kubernetes requires its sibling modules (k8s.io/api and some thirty more)
# at v0.0.0, which was never published, and leans on `replace` lines that Go ignores in a dependency.  So a
# module that uses it must replace every sibling by its published version: v1.MINOR.PATCH of Kubernetes is
# v0.MINOR.PATCH of the siblings.  Which siblings there are differs between minor versions (1.36 added
# streaming and cri-streaming), so they are read from that version's own go.mod.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
version=$1; shift; sibling=v0.${version#v1.}
programs=("$@"); [ ${#programs[@]} -gt 0 ] || programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)
export GOFLAGS=-mod=mod GOWORK=off GOTOOLCHAIN=${GOTOOLCHAIN:-local}

scratch=$(mktemp -d); trap 'rm -r "$scratch"' EXIT
upstream=$(cd "$scratch" && go mod init scratch 2>/dev/null >&2 && go mod download -json "k8s.io/kubernetes@$version" |
           sed -n 's/^\t"GoMod": "\(.*\)",\{0,1\}$/\1/p')
siblings=$(sed -n 's/^\t\(k8s\.io\/[a-z0-9-]*\) => \.\/staging\/.*/\1/p' "$upstream" | sort -u)
golang=$(sed -n 's/^go //p' "$upstream")
[ -n "$siblings" ] || { echo "no sibling modules found in $upstream" >&2; exit 1; }

{
  printf 'module kustody.dev/tests/cluster/programs\n\ngo %s\n\ntool (\n' "$golang"
  printf '\tk8s.io/kubernetes/cmd/%s\n' "${programs[@]}"
  printf ')\n\nrequire k8s.io/kubernetes %s\n\nreplace (\n' "$version"
  for s in $siblings; do printf '\t%s => %s %s\n' "$s" "$s" "$sibling"; done
  printf ')\n'
} > go.mod
rm -f go.sum
go mod tidy
echo "go $golang, $(wc -w <<<"$siblings") siblings at $sibling, $(grep -c '// indirect' go.mod) indirect, go.sum $(wc -l < go.sum) lines"
