#!/usr/bin/env bash
# Volumes of a size-limited tmpfs each: one for each broker ordinal's audit records (the default StorageClass), on the nodes in
# turn, and a tiny one on node 1.  A limit is what makes a full disk testable; what is on them lives as long as the cluster.
#   volumes.sh mount    mounts them (in the cluster's mount namespace)
#   volumes.sh apply    tells Kubernetes
set -euo pipefail
here=$(dirname "$(readlink -f "$0")"); . "$here/env.sh"

each() { # each FUNCTION: calls it with NAME CLASS SIZE NODE
  local i
  for ((i = 0; i < AUDIT_VOLUMES; i++)); do "$1" "audit-$i" kustody-audit "$AUDIT_VOLUME_SIZE" $((CLUSTER_NODES ? i % CLUSTER_NODES + 1 : 1)); done
  "$1" tiny tiny 1Mi 1
}
mounted() {
  mkdir -p "$CLUSTER_DIR/volumes/$1"
  mount -t tmpfs -o "mode=755,size=${3%i}" tmpfs "$CLUSTER_DIR/volumes/$1"
}
volume() {
  cat <<YAML
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: $1}
spec:
  storageClassName: $2
  capacity: {storage: $3}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  local: {path: $CLUSTER_DIR/volumes/$1}
  nodeAffinity:
    required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [$(node_name "$4")]}]}]}
YAML
}
class() { # class NAME DEFAULT
  cat <<YAML
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: $1, annotations: {storageclass.kubernetes.io/is-default-class: "$2"}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
YAML
}
case $1 in
mount) each mounted ;;
apply) { class kustody-audit true; class tiny false; each volume; } | kubectl apply -f - >/dev/null ;;
esac
