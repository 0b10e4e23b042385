#!/usr/bin/env bash
# Figures against floors, with targets: one table, and target/bench/summary.json.   usage: scripts/bench.sh
# Everything is measured on this machine in one run: the servers on its loopback, the pods on a cluster of its own.
export CLUSTER=${CLUSTER:-bench}
. "$(dirname "$(readlink -f "$0")")/lib.sh"
trap 'tests/cluster/down.sh' EXIT
trap 'exit 130' INT TERM

benchmarks() { cargo bench --locked -p kustody --bench '*' "$@"; }
# What benches/ takes for granted: namespace `bench` with a service account and a ready binding, both named trainer, and a
# binding `ten` of ten secrets.
prepared() {
  chart
  in_cluster kubectl apply -f - <<'YAML'
apiVersion: v1
kind: Namespace
metadata: {name: bench, labels: {team: bench}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: trainer, namespace: bench}
---
apiVersion: kustody.dev/v1alpha1
kind: KeyProvider
metadata: {name: local}
spec: {local: {}, access: [{namespaces: {matchLabels: {team: bench}}, createKeys: true}]}
---
apiVersion: kustody.dev/v1alpha1
kind: EncryptionKey
metadata: {name: team-key, namespace: bench}
spec: {providerRef: {name: local}, grants: [{serviceAccount: trainer, operations: [Open]}]}
YAML
  in_cluster kubectl -n bench wait encryptionkey/team-key --for=condition=Ready --timeout=60s
  bound trainer token
  bound ten s{0..9}
}
# bound NAME SECRET...: a ready binding that gives each secret as a file and as a variable.
bound() {
  local name=$1 secret sealed secrets='' files='' env=''; shift
  for secret in "$@"; do
    sealed=$(printf value | in_cluster "$images/bin/kubectl-kustody" seal --key bench/team-key --binding "$name" --secret "$secret")
    secrets+="{name: $secret, sealed: {key: team-key, value: $sealed}},"
    files+="{secret: $secret, path: $secret},"; env+="{secret: $secret, name: ${secret^^}},"
  done
  in_cluster kubectl apply -f - <<YAML
apiVersion: kustody.dev/v1alpha1
kind: SecretBinding
metadata: {name: $name, namespace: bench}
spec:
  workloads: {serviceAccounts: [trainer]}
  secrets: [${secrets%,}]
  deliver: {files: [${files%,}], env: [${env%,}]}
YAML
  in_cluster kubectl -n bench wait "secretbinding/$name" --for=condition=Ready --timeout=60s
}
measured() {
  export KUSTODY_BIN=$images/bin KUSTODY_ON_NODE=$PWD/tests/cluster/on-node.sh CARGO_NET_OFFLINE=true
  export KUSTODY_CLUSTER_DIR=$CLUSTER_DIR
  in_cluster cargo bench --locked -p kustody --bench '*'
}

step "programs" programs
images=$(scripts/images.sh)
step "benchmarks, built" benchmarks --no-run
tests/cluster/down.sh
step "cluster" tests/cluster/up.sh "$images"/*.tar
step "prepared" prepared
step "measured" measured
