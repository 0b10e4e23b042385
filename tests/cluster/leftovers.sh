#!/usr/bin/env bash
# Lists what a cluster that was ended has left on the machine: processes, mounts, links, cgroups, directories; fails if
# there is anything.   usage: [CLUSTER=name] leftovers.sh
set -euo pipefail
here=$(dirname "$(readlink -f "$0")"); . "$here/env.sh"
left() {
  local p h
  for p in /proc/[0-9]*; do
    # By its cgroup, by a lock that every process of the cluster inherits, or by a mount.
    if grep -qs ":$CLUSTER_CGROUP\(/\|$\)" "$p/cgroup" || find "$p/fd" -lname "$CLUSTER_DIR/lock*" 2>/dev/null | grep -q .; then
      echo "process ${p#/proc/}: $(tr '\0' ' ' < "$p/cmdline" 2>/dev/null)"
    elif grep -qs " $CLUSTER_DIR/" "$p/mountinfo"; then
      echo "mounts seen by process ${p#/proc/}"
    fi
  done
  for h in nodes0 cni0; do [ ! -e "/sys/class/net/$h" ] || echo "link $h"; done
  for h in $(cgroup_roots); do [ ! -d "$h$CLUSTER_CGROUP" ] || echo "cgroup $h$CLUSTER_CGROUP"; done
  [ ! -e "$CLUSTER_DIR" ] || echo "directory $CLUSTER_DIR"
}
found=$(left)
[ -z "$found" ] || { echo "left over from cluster $CLUSTER:"; echo "$found"; exit 1; } >&2
