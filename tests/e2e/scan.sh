#!/usr/bin/env bash
# Searches everything that a run of the end-to-end tests left behind for the values that they sealed: etcd, every log, audit log
# with admission answers, objects, the broker's audit records, and the node's disk.   usage: tests/e2e/scan.sh
# Each place holds a planted value, without whose being found its being clean would prove nothing.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
. tests/cluster/env.sh
work=$(mktemp -d); trap 'rm -r "$work"' EXIT
planted=PLANTED$(head -c 20 /dev/urandom | base32 -w0)
echo "$planted" > "$work/planted"
k() { tests/cluster/in.sh kubectl "$@"; }

# An object (etcd, objects, audit log), a container's log, and a file on the node's disk.
k create namespace scan
k -n scan create configmap planted --from-literal=value="$planted"
k -n scan run planted --image=localhost/busybox:1 --restart=Never --image-pull-policy=IfNotPresent -- sh -c "echo $planted; echo $planted > /tmp/on-disk; sleep 1000"
k -n scan wait pod/planted --for=condition=Ready --timeout=60s
tests/cluster/on-node.sh sh -c "echo $planted > $CLUSTER_DIR/volumes/audit-0/planted"

mkdir "$work/objects" "$work/etcd" "$work/audit-records"
k get --raw /metrics > "$work/objects/apiserver-metrics"
for kind in $(k api-resources --verbs=list -o name | grep -v '^secrets$'); do
  k get "$kind" -A -o json > "$work/objects/$kind.json"
done
for role in controller webhook broker; do
  for ip in $(k -n kustody-system get pods -l app.kubernetes.io/component=$role -o 'jsonpath={.items[*].status.podIP}'); do
    tests/cluster/in.sh curl -sf "http://$ip:8080/metrics" > "$work/objects/metrics-$role-$ip"
  done
done
# A file that grows meanwhile (1) is searched as far as it was read.
copied() { { tests/cluster/on-node.sh tar -C "$1" -cf - . || [ $? = 1 ]; } | tar -C "$2" -xf -; }
copied "$CLUSTER_DIR/etcd" "$work/etcd"
copied "$CLUSTER_DIR/volumes" "$work/audit-records"

# The list of canaries itself lies beside the cluster, not in a place that is searched.
cargo xtask leak-scan --canaries "$CLUSTER_DIR/canaries" --planted "$work/planted" --report "$CLUSTER_DIR/leak-scan.txt" \
  --runtime-metadata io.containerd.metadata.v1.bolt/meta.db \
  "etcd=$work/etcd" "objects and events=$work/objects" "audit records=$work/audit-records" \
  "logs=$CLUSTER_DIR/log" "container logs=$CLUSTER_DIR/kept-logs" "the node's disk=$CLUSTER_DIR/node1"
