# shellcheck shell=bash
# What the scripts share: where things live, steps with their times, and the sum of what passed.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
. tests/cluster/env.sh
# One target directory for every clone: a fresh one is warm on a machine that has built before.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$KUSTODY_CACHE/target}
# Cargo tells the members of a workspace apart by their path in it, and new from old by time: what another clone built
# would count as this one's. So each clone forgets the members that another has built; dependencies stay.
[ "$(cat "$CARGO_TARGET_DIR/clone" 2>/dev/null)" = "$PWD" ] || {
  mkdir -p "$CARGO_TARGET_DIR"
  rm -rf "$CARGO_TARGET_DIR"/{,*/}{,*/}.fingerprint/{kustody,xtask}-*
  echo "$PWD" > "$CARGO_TARGET_DIR/clone"
}
export PATH=$KUSTODY_CACHE/tools/bin:$CLUSTER_BIN:$PATH
NEXTEST=0.9.151
STEPS=(); PASSED=0; FAILED=0

programs() { tests/cluster/deps.sh && tests/cluster/programs/build.sh && tests/cluster/mkimages.sh; }
nextest_installed() {
  [ "$(cargo-nextest --version 2>/dev/null | awk 'NR==1{print $2}')" = "$NEXTEST" ] ||
    cargo install --locked --root "$KUSTODY_CACHE/tools" --target-dir "$KUSTODY_CACHE/tools/target" --version "$NEXTEST" cargo-nextest
  rm -rf "$KUSTODY_CACHE/tools/target"
}
in_cluster() { tests/cluster/in.sh "$@"; }
# chart [OPTION...]: installs it as a user does
chart() {
  in_cluster helm upgrade --install kustody charts/kustody --namespace kustody-system --create-namespace --wait --timeout 4m "$@"
}

# timed NAME COMMAND...: runs it, keeps its time, and its answer in STATUS
timed() {
  local name=$1 from=$SECONDS; shift
  printf '\n==> %s\n' "$name" >&2
  # Never part of a condition: there, a function would go on after its first failure.
  set +e; (set -e; "$@"); STATUS=$?; set -e
  STEPS+=("$(printf '%5ds  %s%s' $((SECONDS - from)) "$name" "$([ $STATUS = 0 ] || echo "  FAILED")")")
}
# step NAME COMMAND...: what everything after it needs
step() {
  timed "$@"
  [ $STATUS = 0 ] || { FAILED=$((FAILED + 1)); echo "step \"$1\" failed" >&2; exit 1; }
}
# tests NAME COMMAND...: adds what it says passed and failed, and goes on
tests() {
  local log said passed failed; log=$(mktemp)
  timed "$1" teed "$log" "${@:2}"
  said=$(grep -E '^ *Summary \[|^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -1 || true); rm "$log"
  passed=$(grep -oE '[0-9]+ passed' <<<"$said" | cut -d' ' -f1 || true)
  failed=$(grep -oE '[0-9]+ (failed|timed out)' <<<"$said" | awk '{n += $1} END {print n + 0}' || true)
  # What names no numbers is one check.
  if [ $STATUS = 0 ]; then PASSED=$((PASSED + ${passed:-1})); else
    PASSED=$((PASSED + ${passed:-0})); FAILED=$((FAILED + (failed > 0 ? failed : 1)))
  fi
}
teed() { local log=$1; shift; "$@" 2>&1 | tee "$log"; }
# Where the time went and, last, what passed.
sum_up() {
  printf '\n'; printf '%s\n' "${STEPS[@]}"
  printf '%5ds  together\n' "$SECONDS"
  echo "$PASSED passed, $FAILED failed"
}
