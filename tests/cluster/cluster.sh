#!/usr/bin/env bash
# A real Kubernetes for the tests, built from published Go modules and run as processes of this machine: etcd, API
# server, controller manager, scheduler, and beside them a node with pods where this machine lets it (node.sh).
#
#   cluster.sh build          builds what the cache does not hold; ten minutes the first time
#   cluster.sh packages       prints the Debian packages that a node needs
#   cluster.sh up FOLDER      starts the control plane with its state in FOLDER and prints the path of a kubeconfig
#   cluster.sh node FOLDER    adds a node with two GPUs that are none; in namespaces of its own, see run.sh
#   cluster.sh image FOLDER NAME PROGRAM   gives the node an image that runs the program of this machine
#   cluster.sh import FOLDER FILE          gives the node the images of a docker or OCI archive
#   cluster.sh restart FOLDER PROCESS      kills one process and starts it again: etcd, apiserver, kubelet, ...
#   cluster.sh down FOLDER    stops all of it; FOLDER stays for reading logs
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

KUBERNETES=1.36.3
ETCD=v3.6.7
CONTAINERD=v2.1.5
COREDNS=v1.13.1
CACHE=${RERANKER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reranker}/cluster
JOBS=${CLUSTER_JOBS:-2}
# Each module's programs have a folder of their own, so that another version of one leaves the others.
PROGRAMS=("$CACHE/kubernetes-v$KUBERNETES" "$CACHE/etcd-$ETCD" "$CACHE/containerd-$CONTAINERD" "$CACHE/coredns-$COREDNS")
PATH=$(IFS=:; echo "${PROGRAMS[*]}"):$PATH

export GOTOOLCHAIN=local GOFLAGS=-mod=mod CGO_ENABLED=0

# shellcheck source=node.sh
source "$HERE/node.sh"

# build_module NAME VERSION LDFLAGS PACKAGE...: programs of a module, unless the cache has them all.
build_module() {
  local name=$1 version=$2 flags=$3 folder=$CACHE/$1-$2 module=$CACHE/modules/$1 package
  shift 3
  for package in "$@"; do
    [[ -x $folder/$(program "$package") ]] || break
    shift
  done
  (($#)) || return 0
  echo "building $name $version" >&2
  rm -rf "$module" && mkdir -p "$module" "$folder" && cd "$module"
  go mod init reranker.dev/cluster 2>/dev/null
  if [[ $name == kubernetes ]]; then replace_staging; fi
  go get -tool "${@/%/@$version}" 2>/dev/null
  for package in "$@"; do
    go build -trimpath -p "$JOBS" -ldflags "-s -w $flags" -o "$folder/part" "$package"
    mv "$folder/part" "$folder/$(program "$package")"
  done
}

# program PACKAGE: its name.
program() {
  case $1 in
    */etcd/server/v3) echo etcd ;;
    *) echo "${1##*/}" ;;
  esac
}

# Kubernetes requires its staging modules at v0.0.0, which only its own repository can resolve.
replace_staging() {
  local staging=v0.${KUBERNETES#1.} edits=(-require="k8s.io/kubernetes@v$KUBERNETES") path
  while read -r path; do
    edits+=(-require="$path@$staging" -replace="$path=$path@$staging")
  done < <(go mod download -json "k8s.io/kubernetes@v$KUBERNETES" |
    sed -n 's/.*"GoMod": "\(.*\)".*/\1/p' | xargs sed -nE 's/^\t(k8s.io\/[^ ]*) v0\.0\.0( .*)?$/\1/p')
  go mod edit "${edits[@]}"
}

build() {
  # Without a version clients cannot tell what the server can do.
  local k8s=k8s.io/kubernetes/cmd stamp=k8s.io/component-base/version
  stamp="-X $stamp.gitVersion=v$KUBERNETES -X $stamp.gitMajor=1 -X $stamp.gitMinor=36 -X $stamp.gitTreeState=clean"
  (build_module kubernetes "v$KUBERNETES" "$stamp" $k8s/kube-apiserver $k8s/kube-controller-manager \
    $k8s/kube-scheduler $k8s/kubectl $k8s/kubelet $k8s/kube-proxy)
  (build_module etcd "$ETCD" '' go.etcd.io/etcd/server/v3)
  build_node
}

# sign NAME SUBJECT [EXTENSION]
sign() {
  openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out "$1.crt" \
    -extfile <(echo "${3:-extendedKeyUsage=clientAuth}") 2>/dev/null
}

# kubeconfig NAME SUBJECT: a client with a certificate.
kubeconfig() {
  sign "$1" "$2"
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
    ((tries-- > 0)) || { tail -n 5 ./*.log >&2; echo "gave up waiting for: $*" >&2; exit 1; }
    sleep 0.2
  done
}

control() {
  kubectl --kubeconfig admin.kubeconfig "$@"
}

up() {
  mkdir -p "$1" && cd "$1"
  # Else 300 objects of one test keep both from those of the others for minutes.
  local quick=(--kube-api-qps 500 --kube-api-burst 1000)
  local client peer bind=(--bind-address 127.0.0.1 --endpoint-reconciler-type none) names name
  if [[ -n ${CLUSTER_NODE:-} ]]; then bind=(--bind-address 0.0.0.0 --advertise-address "$GATEWAY"); fi
  free_port >port
  client=$(free_port) peer=$(free_port)
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca 2>/dev/null
  names=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1,IP:$GATEWAY
  sign server /CN=kube-apiserver "subjectAltName=$names"
  openssl genrsa -out accounts.key 2048 2>/dev/null
  kubeconfig admin /O=system:masters/CN=admin
  kubeconfig controller-manager /CN=system:kube-controller-manager
  kubeconfig scheduler /CN=system:kube-scheduler

  start etcd etcd --data-dir "$PWD/etcd" --unsafe-no-fsync --log-level error \
    --listen-client-urls "http://127.0.0.1:$client" --advertise-client-urls "http://127.0.0.1:$client" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
    --initial-cluster "default=http://127.0.0.1:$peer"
  start apiserver kube-apiserver --etcd-servers "http://127.0.0.1:$client" --secure-port "$(cat port)" "${bind[@]}" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
    --service-cluster-ip-range 10.96.0.0/16 --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$PWD/accounts.key" --service-account-signing-key-file "$PWD/accounts.key" \
    --client-ca-file "$PWD/ca.crt" --tls-cert-file "$PWD/server.crt" --tls-private-key-file "$PWD/server.key" \
    --kubelet-client-certificate "$PWD/admin.crt" --kubelet-client-key "$PWD/admin.key" \
    --kubelet-certificate-authority "$PWD/ca.crt" --kubelet-preferred-address-types InternalIP \
    --allow-privileged --cert-dir "$PWD"
  wait_for 120 control get --raw /readyz
  start controller-manager kube-controller-manager --kubeconfig "$PWD/controller-manager.kubeconfig" \
    --authentication-kubeconfig "$PWD/controller-manager.kubeconfig" --secure-port 0 --leader-elect=false \
    --authorization-kubeconfig "$PWD/controller-manager.kubeconfig" --root-ca-file "$PWD/ca.crt" \
    --service-account-private-key-file "$PWD/accounts.key" --use-service-account-credentials \
    "${quick[@]}"
  start scheduler kube-scheduler --kubeconfig "$PWD/scheduler.kubeconfig" --secure-port 0 \
    --authentication-kubeconfig "$PWD/scheduler.kubeconfig" \
    --authorization-kubeconfig "$PWD/scheduler.kubeconfig" --leader-elect=false "${quick[@]}"
  wait_for 60 control get serviceaccount default
  echo "$PWD/admin.kubeconfig"
}

stop() {
  local pid
  [[ -f $1.pid ]] || return 0
  pid=$(cat "$1.pid")
  kill "${2:--TERM}" "$pid" 2>/dev/null || return 0
  wait_for 30 bash -c "! kill -0 $pid"
}

restart() {
  cd "$1"
  stop "$2" -KILL
  local command
  eval "command=($(cat "$2.command"))"
  start "$2" "${command[@]}"
  if [[ $2 == apiserver ]]; then wait_for 120 control get --raw /readyz; fi
}

down() {
  cd "$1"
  node_down
  for name in scheduler controller-manager apiserver etcd; do stop "$name"; done
}

# run.sh calls what is here itself.
if [[ ${BASH_SOURCE[0]} != "$0" ]]; then return; fi
case ${1:-} in
  build | packages) "$1" ;;
  up | node | down) "$1" "$2" ;;
  image | import | restart) "$1" "${@:2}" ;;
  *) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
