#!/usr/bin/env bash
# Every test, on a real Kubernetes that this builds and starts itself.   usage: scripts/test.sh
export CLUSTER=${CLUSTER:-test}
. "$(dirname "$(readlink -f "$0")")/lib.sh"
logs=$KUSTODY_CACHE/log/$CLUSTER
work=$(mktemp -d)

finish() {
  status=$?
  [ -z "${keeper:-}" ] || kill "$keeper" 2>/dev/null || :
  [ -z "${prover:-}" ] || { kill "$prover" 2>/dev/null; CLUSTER=$CLUSTER-prove tests/cluster/down.sh; } || :
  if [ $status != 0 ] || [ $FAILED != 0 ]; then
    status=1
    for log in "$CLUSTER_DIR"/log/{up,kube-apiserver,kubelet1}.log; do [ ! -e "$log" ] || tail -n 15 -v "$log"; done
    [ ! -e "$CLUSTER_DIR/ready" ] || {
      in_cluster kubectl get pods -A; in_cluster kubectl get events -A | tail -30
      find "$CLUSTER_DIR"/node*/pods-log/kustody-system_* -name '*.log' -exec tail -n 15 -v {} +
    } || true
    export KEEP_LOGS=$logs; echo "logs: $logs"
  fi
  tests/cluster/down.sh || { status=1; FAILED=$((FAILED + 1)); }
  rm -r "$work"
  sum_up
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

# All tests are built with the same features, so that nothing is compiled twice.
nextest() { cargo nextest run --locked --workspace --features kustody/e2e "$@"; }
end_to_end() {
  # The cluster's network has no way out.
  export CARGO_NET_OFFLINE=true
  in_cluster cargo nextest run --locked --workspace --features kustody/e2e --profile e2e -E "binary(e2e) and $1"
}
# The root key that one test mounts is there before the broker starts.
install() {
  in_cluster kubectl create namespace kustody-system
  head -c 32 /dev/urandom > "$CLUSTER_DIR/root-key"
  in_cluster kubectl -n kustody-system create secret generic e2e-root-key --from-file=key="$CLUSTER_DIR/root-key"
  rm "$CLUSTER_DIR/root-key"
  chart --values tests/e2e/values.yaml
}
# The kubelet removes a pod's logs with it: a link keeps them for the leak scan.
keep_logs() {
  mkdir -p "$CLUSTER_DIR/kept-logs"
  # A pod that goes while it is looked at is no error.
  while sleep 0.5; do cp -aln "$CLUSTER_DIR/node1/pods-log/." "$CLUSTER_DIR/kept-logs" 2>/dev/null || :; done
}
# The README's first command: what it shows is short, and a second time it takes less than two minutes.
demonstrated() {
  local from=$SECONDS shown; shown=$(mktemp)
  CLUSTER=$CLUSTER-demo scripts/demo.sh | tee "$shown"
  CLUSTER=$CLUSTER-demo tests/cluster/down.sh
  [ "$(grep -c "$(tail -1 <(grep -oE '[0-9a-f]{64}' "$shown"))" "$shown")" = 4 ] || { echo "not every digest is that of what was sealed"; return 1; }
  [ "$(wc -l < "$shown")" -le 60 ] || { echo "the demo shows more than 60 lines"; return 1; }
  [ $((SECONDS - from)) -lt 120 ] || { echo "a second demo takes more than two minutes"; return 1; }
  rm "$shown"
}
# The long proofs in their short form, on a cluster of their own.
proofs() {
  shortly 12 kill; shortly 1 restart; shortly 200 availability; shortly 200 upgrade
  touch "$work/proofs.over"
}
shortly() { # ROUNDS NAME
  local from=$SECONDS
  CLUSTER=$CLUSTER-prove KUSTODY_IMAGES=$images ROUNDS=$1 scripts/prove.sh "$2" || echo "0 passed, 1 failed"
  echo "proof $2 took $((SECONDS - from)) s"
}
proved() {
  while [ ! -e "$work/proofs.over" ]; do kill -0 "$prover"; sleep 1; done
  cat "$work/proofs"
  # Each proof has a sum.
  [ "$(grep -cE '^proof .* took' "$work/proofs")" = 4 ]
  awk '/^[0-9]+ passed, [0-9]+ failed$/ {p += $1; f += $3} END {print p " passed, " f " failed"; exit f > 0}' "$work/proofs"
}
built_images() { scripts/images.sh > "$work/images"; }

step "programs" programs
step "cert-manager" tests/cluster/certmanager/build.sh
step "nextest" nextest_installed
tests "check" scripts/check.sh
step "tests, built" nextest --no-run
tests "unit tests" nextest -E 'not binary(e2e)'
tests "documentation's tests" cargo test --quiet --locked --workspace --doc
step "images" built_images
images=$(cat "$work/images")
export KUSTODY_E2E_DIR=$CLUSTER_DIR KUSTODY_BIN=$images/bin KUSTODY_ON_NODE=$PWD/tests/cluster/on-node.sh
export KUSTODY_CERT_MANAGER=$CLUSTER_BIN/cert-manager
tests/cluster/down.sh
step "cluster" tests/cluster/up.sh "$images"/*.tar
tests "a second cluster beside it" tests/cluster/selftest.sh
step "install" install
keep_logs & keeper=$!
# Beside the end-to-end tests, which wait more than they work.
proofs > "$work/proofs" 2>&1 & prover=$!
tests "end-to-end tests" end_to_end 'not test(/^last::/)'
tests "calls against rights" end_to_end 'test(/^last::/)'
tests "leak scan" tests/e2e/scan.sh
kill "$keeper"; keeper=
tests/cluster/down.sh
tests "proofs, in short" proved
prover=
tests "demo" demonstrated
