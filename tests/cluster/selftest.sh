#!/usr/bin/env bash
# Checks what the project's tests take for granted of the cluster, on one of its own that runs beside any other.
# Prints one line a check, and a last one `N passed, N failed`.   usage: selftest.sh
set -uo pipefail
here=$(dirname "$(readlink -f "$0")"); export CLUSTER=self-$$; . "$here/env.sh"
passed=0; failed=0
trap '"$here/down.sh"' EXIT
check() { # check NAME COMMAND...
  local name=$1 out; shift
  if out=$("$@" 2>&1); then passed=$((passed + 1)); echo "ok    $name"; else failed=$((failed + 1)); echo "FAIL  $name: $out"; fi
}
k() { "$here/in.sh" kubectl "$@"; }
has() { grep -q -- "$1" <<<"$2" || { echo "no '$1' in: $2"; return 1; }; }

# Two pods under Pod Security "restricted": one serves, and keeps a file on an audit volume; the other asks it.
objects() {
  local security='allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true'
  local user='securityContext: {runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}'
  cat <<YAML
apiVersion: v1
kind: Namespace
metadata: {name: t, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: audit, namespace: t}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 32Mi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: tiny, namespace: t}
spec: {storageClassName: tiny, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: t}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: t, labels: {app: web}}
spec:
  $user
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: localhost/busybox:1
    command: [sh, -c, 'id > /audit/file && while :; do echo hello | nc -l -p 8080; done']
    securityContext: {$security}
    volumeMounts: [{name: audit, mountPath: /audit}, {name: tiny, mountPath: /tiny}, {name: token, mountPath: /token}]
  volumes:
  - {name: audit, persistentVolumeClaim: {claimName: audit}}
  - {name: tiny, persistentVolumeClaim: {claimName: tiny}}
  - {name: token, projected: {sources: [{serviceAccountToken: {audience: self, path: token}}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: asks, namespace: t}
spec:
  $user
  restartPolicy: Never
  containers:
  - name: main
    image: localhost/busybox:1
    command: [sh, -c, 'until nc web.t.svc.cluster.local 80 </dev/null | grep hello; do sleep 0.2; done']
    securityContext: {$security}
YAML
}
applied() { # once the namespace has its service account
  local end=$((SECONDS + 30))
  until objects | k apply -f -; do (( SECONDS < end )) || return 1; sleep 0.2; done
}
privileged() { # is denied with the reason
  local said; said=$(k -n t run bad --image=localhost/busybox:1 --privileged 2>&1)
  has 'violates PodSecurity "restricted' "$said"
}
fills() { local said; said=$(k -n t exec web -- dd if=/dev/zero of=/tiny/f bs=4096 count=1000 2>&1); has "No space left" "$said"; }
reviewed() { # reviewed AUDIENCE WHETHER: a token for the audience "self" is reviewed
  local token; token=$(k -n t exec web -- cat /token/token)
  has "\"authenticated\": $2" "$(k create -o json -f - <<<"{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"TokenReview\",\"spec\":{\"token\":\"$token\",\"audiences\":[\"$1\"]}}" |
    jq '.status | {authenticated: (.authenticated // false)}')"
}
audited() { # a pod's body is on record and a Secret's is not
  k -n t create secret generic s --from-literal=v=CANARY-1 >/dev/null
  has '"nodeName"\|localhost/busybox:1' "$(grep '"resource":"pods","namespace":"t","name":"web"' "$CLUSTER_DIR/log/audit.log")"
  ! grep "CANARY-1\|Q0FOQVJZLT" "$CLUSTER_DIR/log/audit.log"
}
ended() { # SIGKILL of one process ends everything
  "$here/down.sh" && "$here/leftovers.sh"
}

check "a cluster starts" "$here/up.sh" || exit 1
check "objects are taken" applied
check "a pod that writes to an audit volume as its own user is Ready" k -n t wait --for=condition=Ready pod/web --timeout=60s
check "names and Services work in pods" k -n t wait --for=jsonpath='{.status.phase}'=Succeeded pod/asks --timeout=60s
check "logs are read" has hello "$(k -n t logs asks)"
check "what is on a volume is seen on the node" has "uid=65532" "$("$here/on-node.sh" cat "$CLUSTER_DIR/volumes/$(k -n t get pvc audit -o jsonpath='{.spec.volumeName}')/file" 2>&1)"
check "the tiny volume is full after a mebibyte" fills
check "a token is good for its audience" reviewed self true
check "and for no other" reviewed other false
check "Pod Security denies a privileged pod" privileged
check "the API server writes down pods and no Secret" audited
check "it ends and leaves nothing" ended
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
