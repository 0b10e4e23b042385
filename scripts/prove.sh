#!/usr/bin/env bash
# The long proofs, each on a cluster of its own.   usage: [ROUNDS=n] [SEED=n] scripts/prove.sh [NAME...]
# Each prints a line for each check, ends with `N passed, N failed`, and writes target/prove/NAME.json. One that was
# interrupted goes on where it was when it is given the same seed.
export CLUSTER=${CLUSTER:-prove}
. "$(dirname "$(readlink -f "$0")")/lib.sh"
PROOFS=(kill availability)
trap 'KEEP_LOGS=$KUSTODY_CACHE/log/$CLUSTER tests/cluster/down.sh' EXIT
trap 'exit 130' INT TERM

cluster() { # with what a proof needs of it
  tests/cluster/down.sh
  export CLUSTER_NODES=1; [ "$1" != availability ] || CLUSTER_NODES=2
  # The kubelet waits a second at most before it starts again what was killed, and etcd forgets nothing that it confirmed.
  CLUSTER_ETCD=disk CLUSTER_RESTART_LIMIT=1s tests/cluster/up.sh "$images"/*.tar
  chart --set controller.replicas=2 --set webhook.replicas=2
}
proof() { # NAME
  cluster "$1"
  local rounds=300; [ "$1" != availability ] || rounds=2000
  export KUSTODY_PROVE=$1 KUSTODY_PROVE_ROUNDS=${ROUNDS:-$rounds} KUSTODY_PROVE_SEED=${SEED:-1}
  export KUSTODY_E2E_DIR=$CLUSTER_DIR KUSTODY_BIN=$images/bin CARGO_NET_OFFLINE=true
  export KUSTODY_ON_NODE=$PWD/tests/cluster/on-node.sh KUSTODY_KILL=$PWD/tests/cluster/kill.sh
  in_cluster cargo test --quiet --locked -p kustody --features kustody/e2e --test prove
}

quietly() { local log; log=$(mktemp); "$@" > "$log" 2>&1 || { tail -n 40 "$log" >&2; exit 1; }; rm "$log"; }
quietly programs
images=${KUSTODY_IMAGES:-$(scripts/images.sh)}
failed=0
for name in "${@:-${PROOFS[@]}}"; do
  case " ${PROOFS[*]} " in *" $name "*) ;; *) echo "no proof $name: ${PROOFS[*]}" >&2; exit 2 ;; esac
  (set -e; proof "$name") || failed=1
done
exit $failed
