#!/usr/bin/env bash
# The long proofs, each on a cluster of its own.   usage: [ROUNDS=n] [SEED=n] scripts/prove.sh [NAME...]
#   kill          everything is killed behind each step of everything that has steps, and at any moment
#   availability  nothing fails while parts are rolled, upgraded, killed or drained, under a stream of pod creations
#   restart       a full restart with every pod down
#   upgrade       from the release before, down by one, up, away and back
# Each prints a line for each check, ends with `N passed, N failed`, and writes target/prove/NAME.json. `kill`, interrupted,
# goes on where it was when it is given the same seed.
export CLUSTER=${CLUSTER:-prove}
. "$(dirname "$(readlink -f "$0")")/lib.sh"
PROOFS=(kill availability restart upgrade)
# The last commit of the release before; its sources are a fixture: a checkout need not have its history.
BEFORE=e81c987
trap 'KEEP_LOGS=$KUSTODY_CACHE/log/$CLUSTER tests/cluster/down.sh' EXIT
trap 'exit 130' INT TERM

quietly() { local log; log=$(mktemp); "$@" > "$log" 2>&1 || { tail -n 40 "$log" >&2; exit 1; }; rm "$log"; }
# cluster IMAGES: etcd forgets nothing that it confirmed, and the kubelet waits a second before it starts again what was killed.
cluster() { tests/cluster/down.sh; CLUSTER_ETCD=disk CLUSTER_RESTART_LIMIT=1s tests/cluster/up.sh "$1"/*.tar; }
# Prints where the release before lies, with its images.
before() {
  local clone=$KUSTODY_CACHE/before/$BEFORE
  [ -d "$clone" ] || { mkdir -p "$clone.new" && tar -C "$clone.new" -xJf "tests/fixtures/before/$BEFORE.tar.xz" && mv "$clone.new" "$clone"; }
  # Of all images only the newest few are kept.
  [ -e "$(cat "$clone/target/images" 2>/dev/null)/complete" ] || {
    mkdir -p "$clone/target"
    # A target directory of its own: both clones are built once and stay.
    (cd "$clone" && CARGO_TARGET_DIR=$KUSTODY_CACHE/before/target scripts/images.sh) > "$clone/target/images.new" && mv "$clone/target/images"{.new,}
  }
  touch "$(cat "$clone/target/images")"
  echo "$clone"
}
prepare() { # NAME: the cluster that the proof needs
  case $1 in
    kill | restart) quietly cluster "$images"; quietly chart --set controller.replicas=2 --set webhook.replicas=2 ;;
    availability) export CLUSTER_NODES=2; quietly cluster "$images"; quietly chart --set controller.replicas=2 --set webhook.replicas=2 --set broker.replicas=2 ;;
    upgrade)
      local clone; clone=$(before)
      quietly cluster "$(cat "$clone/target/images")"
      local name; for name in kustody kustody-agent; do
        quietly tests/cluster/on-node.sh ctr -n k8s.io images tag "localhost/$name:0.1.0" "localhost/$name:before"
      done
      quietly tests/cluster/load.sh "$images"/*.tar
      quietly in_cluster helm install kustody "$clone/charts/kustody" --namespace kustody-system --create-namespace --wait \
        --set image.tag=before --set agent.image.tag=before --set webhook.replicas=2 ;;
  esac
}
proof() { # NAME
  prepare "$1"
  local rounds=2000; [ "$1" != kill ] || rounds=300
  export KUSTODY_PROVE=$1 KUSTODY_PROVE_ROUNDS=${ROUNDS:-$rounds} KUSTODY_PROVE_SEED=${SEED:-1}
  export KUSTODY_E2E_DIR=$CLUSTER_DIR KUSTODY_BIN=$images/bin CARGO_NET_OFFLINE=true
  export KUSTODY_ON_NODE=$PWD/tests/cluster/on-node.sh KUSTODY_KILL=$PWD/tests/cluster/kill.sh
  # As `make test` builds it: nothing is compiled twice.
  in_cluster cargo test --quiet --locked --workspace --features kustody/e2e --test prove
}

for name in "$@"; do
  case " ${PROOFS[*]} " in *" $name "*) ;; *) echo "no proof $name: ${PROOFS[*]}" >&2; exit 2 ;; esac
done
quietly programs
images=${KUSTODY_IMAGES:-$(scripts/images.sh)}
failed=0
for name in "${@:-${PROOFS[@]}}"; do
  # Never part of a condition: there, a function would go on after its first failure.
  set +e; (set -e; proof "$name"); [ $? = 0 ] || failed=1; set -e
done
exit $failed
