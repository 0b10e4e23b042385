#!/usr/bin/env bash
# The control plane, as PID 1 of the cluster's namespaces; up.sh runs it.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")"); . "$here/env.sh"; . "$here/lib.sh"
export PATH=$CLUSTER_BIN:$PATH KUBECONFIG=$pki/admin.conf
trap 'touch "$CLUSTER_DIR/failed"' EXIT

ip link set lo up
# A bridge owns the control plane's and node 1's address (kubelet refuses a loopback one) and joins the other
# nodes; the API service's and the name server's addresses sit on it too.
ip link add nodes0 type bridge
ip addr add "$(node_ip 1)/24" dev nodes0
ip addr add "$API_IP/32" dev nodes0
ip addr add "$DNS_IP/32" dev nodes0
ip link set nodes0 up
ip route add "$SERVICE_NET" dev nodes0            # with no route at all, a packet to a Service never reaches kube-proxy's rules
sysctl -qw net.ipv4.ip_forward=1

mount -t tmpfs -o mode=755 tmpfs /run             # sockets, runc state, CNI's named namespaces
# On tmpfs etcd's fsyncs cost nothing; what is to survive a machine's end must be on a disk.
[ "$CLUSTER_ETCD" = disk ] || mount -t tmpfs -o mode=700 tmpfs "$CLUSTER_DIR/etcd"
"$here/volumes.sh" mount

start etcd etcd --name=one --data-dir="$CLUSTER_DIR/etcd/data" --listen-client-urls=http://127.0.0.1:2379 \
  --advertise-client-urls=http://127.0.0.1:2379 --listen-peer-urls=http://127.0.0.1:2380 \
  --initial-advertise-peer-urls=http://127.0.0.1:2380 --initial-cluster=one=http://127.0.0.1:2380

start kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
  --advertise-address="$(node_ip 1)" --bind-address=0.0.0.0 --secure-port="$API_PORT" \
  --service-cluster-ip-range="$SERVICE_NET" --allow-privileged=true \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
  --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
  --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
  --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$pki/sa.pub" \
  --service-account-signing-key-file="$pki/sa.key" \
  --audit-policy-file="$here/audit-policy.yaml" --audit-log-path="$CLUSTER_DIR/log/audit.log"

# Node 1 shares this process's namespaces; each other one gets its own network and mounts, and a cable to nodes0.
for ((n = 1; n <= CLUSTER_NODES; n++)); do
  if [ "$n" = 1 ]; then
    "$here/node.sh" 1 &
  else
    unshare --net --mount --propagation private "$here/node.sh" "$n" &
    echo $! > "$CLUSTER_DIR/node$n.pid"               # a pid of the cluster's PID namespace
    until [ "$(readlink "/proc/$!/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
    ip link add "node$n" type veth peer name eth0 netns "$!"
    ip link set "node$n" master nodes0 up
  fi
done

until_ok 90 kube-apiserver kubectl get --raw=/readyz
start kube-controller-manager kube-controller-manager --kubeconfig="$pki/controller-manager.conf" \
  --authentication-kubeconfig="$pki/controller-manager.conf" --authorization-kubeconfig="$pki/controller-manager.conf" \
  --bind-address=127.0.0.1 --leader-elect=false --node-monitor-period=1s --use-service-account-credentials=true \
  --service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt" \
  --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key"
start kube-scheduler kube-scheduler --kubeconfig="$pki/scheduler.conf" --authentication-kubeconfig="$pki/scheduler.conf" \
  --authorization-kubeconfig="$pki/scheduler.conf" --bind-address=127.0.0.1 --leader-elect=false
cat > "$CLUSTER_DIR/Corefile" <<CORE
.:53 {
  bind $DNS_IP
  errors
  ready 127.0.0.1:8181
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $pki/admin.conf
    pods insecure
  }
  cache 5
}
CORE
start coredns coredns -conf "$CLUSTER_DIR/Corefile"

node_ready() {
  kubectl get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' | grep -q True &&
    ! kubectl get node "$1" -o 'jsonpath={.spec.taints[*].key}' | grep -q not-ready
}
for ((n = 1; n <= CLUSTER_NODES; n++)); do until_ok 120 "node $(node_name "$n")" node_ready "$(node_name "$n")"; done
until_ok 60 "default service account" kubectl -n default get serviceaccount default
until_ok 60 "root CA config map" kubectl -n default get configmap kube-root-ca.crt
[ "$CLUSTER_NODES" = 0 ] || "$here/volumes.sh" apply
touch "$CLUSTER_DIR/ready"; log "cluster is up"
trap - EXIT
while :; do sleep 3600 & wait $! || true; done     # stay PID 1; bash reaps what containers orphan
