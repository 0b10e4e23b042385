#!/usr/bin/env bash
# Figures against floors, with targets: one table, and target/bench/summary.json.   usage: scripts/bench.sh
# Everything is measured on this machine in one run: the servers on its loopback, the pods on a cluster of its own.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"

step "programs" programs
images=$(scripts/images.sh)
step "benchmarks, built" cargo_bench --no-run

export CLUSTER=bench
trap 'tests/cluster/down.sh' EXIT
tests/cluster/up.sh "$images"/*.tar
# All roles in one process of the binary need no chart: the kinds and a namespace.
in_cluster kubectl create -f crds/
in_cluster kubectl create namespace kustody-bench
