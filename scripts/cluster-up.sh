#!/usr/bin/env bash
# A cluster to play with, empty.   usage: [CLUSTER=name] scripts/cluster-up.sh
. "$(dirname "$(readlink -f "$0")")/lib.sh"
programs
tests/cluster/up.sh
echo "eval \"\$(make -s cluster-env)\" makes kubectl and helm reach it; make cluster-down ends it" >&2
