#!/usr/bin/env bash
# Runs a command as on the first node: in its network, among its mounts and processes (ctr, df, etcd's data).
# usage: on-node.sh COMMAND...
set -euo pipefail
here=$(dirname "$(readlink -f "$0")"); . "$here/env.sh"
export PATH=$CLUSTER_BIN:$PATH KUBECONFIG=$pki/admin.conf
ns=/proc/$(cat "$CLUSTER_DIR/holder.pid")/ns
# nsenter has to fork to enter a PID namespace: the child must not outlive who called this.
exec nsenter --net="$ns/net" --mount="$ns/mnt" --pid="$ns/pid_for_children" -- setpriv --pdeathsig KILL -- "$@"
