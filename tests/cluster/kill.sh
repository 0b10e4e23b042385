#!/usr/bin/env bash
# Sends a signal to a program of the cluster (etcd, kube-apiserver, kubelet1, …) or to a role of ours (controller, broker,
# webhook; POD names one replica): the first are started again at once, the second by the kubelet.
# usage: [CLUSTER=name] kill.sh PROGRAM [SIGNAL [POD [wait]]]        SIGNAL is KILL unless named (STOP, CONT)
# With `wait` it finds the processes, says `ready` and how many they are, and sends when it is given a line.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")"); . "$here/env.sh"
# In the cluster's PID namespace a pid means a process of this cluster and no other.
# shellcheck disable=SC2016
exec "$here/on-node.sh" bash -c '
  found=()
  if [ -e "$3/run/$1.pid" ]; then
    # The file of one that has just died names it for a moment more.
    found=("$(cat "$3/run/$1.pid")"); kill -0 "${found[0]}"
  else
    for pid in $(pgrep -f "^/kustody run --role=$1 "); do
      [ -z "$4" ] || tr "\0" "\n" < "/proc/$pid/environ" | grep -qx "HOSTNAME=$4" || continue
      found+=("$pid")
    done
  fi
  [ "${#found[@]}" != 0 ] || { echo "no process $1 $4" >&2; exit 1; }
  if [ -n "$5" ]; then echo "ready ${#found[@]}"; read -r _ || exit 1; fi
  sent=1
  for pid in "${found[@]}"; do kill -"$2" "$pid" && sent=0; done
  exit $sent' kill "$1" "${2:-KILL}" "$CLUSTER_DIR" "${3:-}" "${4:-}"
