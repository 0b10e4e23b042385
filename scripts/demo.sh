#!/usr/bin/env bash
# From nothing to a training and a serving pod that have received a secret, on a cluster that keeps running.
# usage: [CLUSTER=name] scripts/demo.sh     Every time from the start; each command that it shows can be typed after it.
export CLUSTER=${CLUSTER:-demo}
. "$(dirname "$(readlink -f "$0")")/lib.sh"

say() { printf '\n# %s\n' "$*"; }
show() { printf '$ %s\n' "$*"; bash -o pipefail -c "$*"; }
quietly() { local log=$KUSTODY_CACHE/log/demo.log; mkdir -p "${log%/*}"; "$@" > "$log" 2>&1 || { tail -n 30 "$log" >&2; exit 1; }; }
until_shown() { # until_shown SECONDS COMMAND: shows a command once it prints something
  local end=$((SECONDS + $1))
  until [ -n "$(bash -c "$2" 2>/dev/null)" ]; do
    (( SECONDS < end )) || { echo "nothing within ${1}s: $2" >&2; exit 1; }; sleep 0.5
  done
  show "$2"
}

say "Kubernetes and the images (the first time builds both: see $KUSTODY_CACHE/log/demo.log)"
quietly programs
images=$(scripts/images.sh 2> "$KUSTODY_CACHE/log/demo.log") || { tail -n 30 "$KUSTODY_CACHE/log/demo.log" >&2; exit 1; }
quietly tests/cluster/down.sh
quietly tests/cluster/up.sh "$images"/*.tar
export PATH=$CLUSTER_DIR/bin:$images/bin:$PATH
ln -s "$images/bin/kubectl-kustody" "$CLUSTER_DIR/bin/"
show "kubectl get nodes --no-headers"

say "The operator: one chart"
show "helm install kustody charts/kustody -n kustody-system --create-namespace --wait | sed -n 1,3p"

say "A team's namespace, a provider that it may use, a key that the operator makes"
show "kubectl apply -f config/samples/00-namespace.yaml -f config/samples/10-provider.yaml -f config/samples/20-key.yaml"
show "kubectl -n vision wait encryptionkey/team-key --for=condition=Ready --timeout=60s"

say "A value, sealed: only namespace vision, binding trainer, secret hf can open it; the line may live in git"
SEALED_HF_TOKEN=$(printf %s "hf_demo_$RANDOM$RANDOM" | tee "$CLUSTER_DIR/value" | kubectl kustody seal --key vision/team-key --binding trainer --secret hf)
export SEALED_HF_TOKEN
echo '$ printf %s "$TOKEN" | kubectl kustody seal --key vision/team-key --binding trainer --secret hf'
echo "${SEALED_HF_TOKEN:0:60}… (${#SEALED_HF_TOKEN} characters)"
show 'sed "s|SEALED_HF_TOKEN|$SEALED_HF_TOKEN|" config/samples/30-binding.yaml | kubectl apply -f -'
show "kubectl -n vision wait secretbinding/trainer --for=condition=Ready --timeout=60s"

say "A training Job finishes, a serving Deployment answers: each with the digest of what it was given"
show "kubectl apply -f config/samples/40-training.yaml -f config/samples/50-serving.yaml"
show "kubectl -n vision wait job/train --for=condition=Complete --timeout=90s"
show "kubectl -n vision rollout status deployment/serve --timeout=90s | tail -1"
show "kubectl -n vision logs job/train -c main"
show "kubectl -n vision exec deploy/serve -c main -- nc serve.vision 8080 < /dev/null"
echo "$(sha256sum < "$CLUSTER_DIR/value" | cut -d' ' -f1)  <- the digest of what was sealed"
rm "$CLUSTER_DIR/value"

say "A pod that asks without a binding for its service account is denied, with the reason"
show "! kubectl apply -f config/samples/60-denied.yaml"

cat <<END

# The cluster keeps running. To look around:   eval "\$(make -s cluster-env CLUSTER=$CLUSTER)"; kubectl get pods -A
# To end it:                                   make cluster-down CLUSTER=$CLUSTER
END
