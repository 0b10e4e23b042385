#!/usr/bin/env bash
# Sends a signal to a program of the cluster (etcd, kube-apiserver, kubelet1, …) or to a role of ours (controller, broker,
# webhook; POD names one replica): the first are started again at once, the second by the kubelet.
# usage: [CLUSTER=name] kill.sh PROGRAM [SIGNAL [POD]]        SIGNAL is KILL unless named (STOP, CONT)
set -euo pipefail
here=$(dirname "$(readlink -f "$0")"); . "$here/env.sh"
# In the cluster's PID namespace a pid means a process of this cluster and no other.
# shellcheck disable=SC2016
exec "$here/on-node.sh" bash -c '
  if [ -e "$3/run/$1.pid" ]; then exec kill -"$2" "$(cat "$3/run/$1.pid")"; fi
  found=0
  for pid in $(pgrep -f "^/kustody run --role=$1 "); do
    [ -z "$4" ] || tr "\0" "\n" < "/proc/$pid/environ" | grep -qx "HOSTNAME=$4" || continue
    kill -"$2" "$pid" && found=1
  done
  [ $found = 1 ] || { echo "no process $1 $4" >&2; exit 1; }' kill "$1" "${2:-KILL}" "$CLUSTER_DIR" "${3:-}"
