#!/usr/bin/env bash
# A real Kubernetes control plane for the tests: etcd, API server, controller manager and scheduler, built from their
# published Go modules and run as processes of this machine, on loopback. Nodes are the tests' own.
#
#   cluster.sh build          builds what the cache does not hold; minutes the first time
#   cluster.sh up FOLDER      starts it with its state in FOLDER and prints the path of a kubeconfig
#   cluster.sh restart FOLDER NAME   kills one process of it and starts it again
#   cluster.sh down FOLDER    stops it; FOLDER stays for reading logs
set -euo pipefail

KUBERNETES=1.36.3
ETCD=v3.6.7
CACHE=${RERANKER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reranker}/cluster
BIN=$CACHE/bin/$KUBERNETES
JOBS=${CLUSTER_JOBS:-2}
COMMANDS=(kube-apiserver kube-controller-manager kube-scheduler)

export GOTOOLCHAIN=local GOFLAGS=-mod=mod CGO_ENABLED=0

build_kubernetes() {
  local module=$CACHE/kubernetes staging=v0.${KUBERNETES#1.} stamp=k8s.io/component-base/version path
  rm -rf "$module" && mkdir -p "$module" && cd "$module"
  go mod init reranker.dev/cluster >/dev/null 2>&1
  # The staging modules are required at v0.0.0, which only their own repository can resolve.
  local edits=(-require=k8s.io/kubernetes@v$KUBERNETES)
  while read -r path; do
    edits+=(-require="$path@$staging" -replace="$path=$path@$staging")
  done < <(go mod download -json "k8s.io/kubernetes@v$KUBERNETES" |
    sed -n 's/.*"GoMod": "\(.*\)".*/\1/p' | xargs sed -nE 's/^\t(k8s.io\/[^ ]*) v0\.0\.0( .*)?$/\1/p')
  go mod edit "${edits[@]}"
  local packages=("${COMMANDS[@]/#/k8s.io/kubernetes/cmd/}")
  go get -tool "${packages[@]/%/@v$KUBERNETES}"
  # Without a version clients cannot tell what the server can do.
  go build -trimpath -p "$JOBS" -o "$BIN.part/" -ldflags "-s -w -X $stamp.gitVersion=v$KUBERNETES \
    -X $stamp.gitMajor=1 -X $stamp.gitMinor=36 -X $stamp.gitTreeState=clean" "${packages[@]}"
}

build_etcd() {
  local module=$CACHE/etcd
  rm -rf "$module" && mkdir -p "$module" && cd "$module"
  go mod init reranker.dev/cluster >/dev/null 2>&1
  go get -tool "go.etcd.io/etcd/server/v3@$ETCD"
  go build -trimpath -p "$JOBS" -ldflags '-s -w' -o "$BIN.part/etcd" go.etcd.io/etcd/server/v3
}

build() {
  [[ -x $BIN/etcd ]] && return
  mkdir -p "$BIN.part"
  (build_etcd)
  (build_kubernetes)
  rm -rf "$BIN" && mv "$BIN.part" "$BIN"
}

# sign NAME SUBJECT [EXTENSION]
sign() {
  openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out "$1.crt" \
    -extfile <(echo "${3:-extendedKeyUsage=clientAuth}") 2>/dev/null
}

# kubeconfig NAME
kubeconfig() {
  cat >"$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:$(cat port)", certificate-authority: "$PWD/ca.crt"}}]
users: [{name: u, user: {client-certificate: "$PWD/$1.crt", client-key: "$PWD/$1.key"}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
YAML
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start NAME COMMAND...: in a session of its own, with its pid and command kept.
start() {
  local name=$1
  shift
  printf '%q ' "$@" >"$name.command"
  setsid "$@" >>"$name.log" 2>&1 </dev/null &
  echo $! >"$name.pid"
}

# wait_for SECONDS COMMAND...
wait_for() {
  local tries=$(($1 * 5))
  shift
  until "$@" >/dev/null 2>&1; do
    ((tries-- > 0)) || { echo "gave up waiting for: $*; see the logs in $PWD" >&2; exit 1; }
    sleep 0.2
  done
}

up() {
  mkdir -p "$1" && cd "$1"
  local port client peer
  free_port >port
  port=$(cat port) client=$(free_port) peer=$(free_port)
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca 2>/dev/null
  sign server /CN=kube-apiserver \
    "subjectAltName=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1"
  openssl genrsa -out accounts.key 2048 2>/dev/null
  sign admin /O=system:masters/CN=admin
  sign controller-manager /CN=system:kube-controller-manager
  sign scheduler /CN=system:kube-scheduler
  for name in admin controller-manager scheduler; do kubeconfig "$name"; done

  start etcd "$BIN/etcd" --data-dir "$PWD/etcd" --unsafe-no-fsync --log-level error \
    --listen-client-urls "http://127.0.0.1:$client" --advertise-client-urls "http://127.0.0.1:$client" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
    --initial-cluster "default=http://127.0.0.1:$peer"
  start apiserver "$BIN/kube-apiserver" --etcd-servers "http://127.0.0.1:$client" --secure-port "$port" \
    --bind-address 127.0.0.1 --authorization-mode Node,RBAC --service-cluster-ip-range 10.96.0.0/16 \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$PWD/accounts.key" \
    --service-account-signing-key-file "$PWD/accounts.key" --client-ca-file "$PWD/ca.crt" \
    --tls-cert-file "$PWD/server.crt" --tls-private-key-file "$PWD/server.key" --allow-privileged \
    --cert-dir "$PWD" --endpoint-reconciler-type none
  wait_for 120 curl --fail --silent --cacert ca.crt --cert admin.crt --key admin.key "https://127.0.0.1:$port/readyz"
  # Nodes are objects of the tests, without heartbeats.
  start controller-manager "$BIN/kube-controller-manager" --kubeconfig "$PWD/controller-manager.kubeconfig" \
    --authentication-kubeconfig "$PWD/controller-manager.kubeconfig" --secure-port 0 --leader-elect=false \
    --authorization-kubeconfig "$PWD/controller-manager.kubeconfig" --root-ca-file "$PWD/ca.crt" \
    --service-account-private-key-file "$PWD/accounts.key" --use-service-account-credentials \
    --controllers '*,-node-lifecycle-controller,-taint-eviction-controller'
  start scheduler "$BIN/kube-scheduler" --kubeconfig "$PWD/scheduler.kubeconfig" --secure-port 0 \
    --authentication-kubeconfig "$PWD/scheduler.kubeconfig" \
    --authorization-kubeconfig "$PWD/scheduler.kubeconfig" --leader-elect=false
  wait_for 60 curl --fail --silent --cacert ca.crt --cert admin.crt --key admin.key \
    "https://127.0.0.1:$port/api/v1/namespaces/default/serviceaccounts/default"
  echo "$PWD/admin.kubeconfig"
}

stop() {
  local pid
  pid=$(cat "$1.pid") || return 0
  kill "${2:--TERM}" "$pid" 2>/dev/null || return 0
  wait_for 30 bash -c "! kill -0 $pid"
}

restart() {
  cd "$1"
  stop "$2" -KILL
  local command
  eval "command=($(cat "$2.command"))"
  start "$2" "${command[@]}"
}

down() {
  cd "$1"
  for name in scheduler controller-manager apiserver etcd; do stop "$name"; done
}

case ${1:-} in
  build) build ;;
  up | down) "$1" "$2" ;;
  restart) restart "$2" "$3" ;;
  *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
