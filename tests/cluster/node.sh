# A node for cluster.sh: kubelet, containerd with Debian's runc and network plugins, kube-proxy and DNS, as processes
# of this machine in its own namespaces. Sourced.

# shellcheck shell=bash
NODE=node-a
ADDRESS=10.255.0.1
GATEWAY=10.244.0.1
PLUGINS=/usr/lib/cni
GPUS=2

# What a node needs beside what is built, and the Debian packages that have it.
NEEDED=(runc:runc $PLUGINS/bridge:containernetworking-plugins iptables:iptables conntrack:conntrack ip:iproute2
  cc:gcc objcopy:binutils)

build_node() {
  local containerd=github.com/containerd/containerd/v2
  (build_module containerd "$CONTAINERD" "-X $containerd/version.Version=$CONTAINERD" $containerd/cmd/containerd \
    $containerd/cmd/containerd-shim-runc-v2 $containerd/cmd/ctr)
  (build_module coredns "$COREDNS" '' github.com/coredns/coredns)
}

# Says why this machine can have no node, and fails; silent if it can.
why_no_node() {
  local need
  [[ $(id -u) == 0 ]] || { echo "only root can make one"; return 1; }
  unshare --net --mount --pid --fork --mount-proc true 2>/dev/null || { echo "no namespaces can be made"; return 1; }
  for need in "${NEEDED[@]}"; do
    command -v "${need%:*}" >/dev/null || { echo "${need%:*} is missing: apt install ${need#*:}"; return 1; }
  done
  unshare --net --mount --pid --fork --mount-proc sh -ec '
    mount -t tmpfs x /mnt && cd /mnt && mkdir lower upper work both
    mount -t overlay x -o lowerdir=lower,upperdir=upper,workdir=work both
    ip link add x type bridge
    iptables --table nat --list-rules
    cd /sys/fs/cgroup; [ -e cgroup.controllers ] || cd memory
    mkdir "reranker-test-$0" && rmdir "reranker-test-$0"' $$ &>/dev/null ||
    { echo "a mount, a bridge, a rule or a control group cannot be made"; return 1; }
}

packages() {
  echo "${NEEDED[@]#*:}"
}

containers() {
  ctr -a "$PWD/containerd.sock" -n k8s.io "$@"
}

# prepare FOLDER: makes the namespaces that this runs in fit for a cluster with a node; what it does ends with them.
prepare() {
  cd "$1"
  local setting value folder
  # What kubelet, containerd and plugins leave outside their own folders.
  for folder in /run /var/log /var/lib/cni /var/lib/kubelet; do
    mkdir -p "$folder" && mount -t tmpfs cluster "$folder"
  done
  # The kubelet sets these of the machine unless they have its values.
  while read -r setting value; do
    echo "$value" >"${setting##*/}"
    mount --bind "${setting##*/}" "/proc/sys/$setting"
  done <<<$'vm/overcommit_memory 1\nvm/panic_on_oom 0\nkernel/panic 10\nkernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000\nkernel/keys/root_maxbytes 25000000'
  echo 1 >/proc/sys/net/ipv4/ip_forward
  ip link set lo up
  # A loopback address is refused as a node's.
  ip link add $NODE type bridge
  ip address add $ADDRESS/32 dev $NODE
  ip link set $NODE up
  ip route add default dev $NODE
}

write_configuration() {
  mkdir -p cni images
  cat >cni/10-bridge.conflist <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  # Without restrict_oom_score_adj no pod starts where lowering that score is not permitted.
  cat >containerd.toml <<TOML
version = 3
root = "$PWD/containerd"
state = "/run/containerd"
[grpc]
  address = "$PWD/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "localhost/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["$PLUGINS"]
    conf_dir = "$PWD/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "$(command -v runc)"
      SystemdCgroup = false
TOML
  cat >kubelet.yaml <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$PWD/ca.crt"}}
authorization: {mode: Webhook}
tlsCertFile: $PWD/kubelet-server.crt
tlsPrivateKeyFile: $PWD/kubelet-server.key
containerRuntimeEndpoint: unix://$PWD/containerd.sock
cgroupDriver: cgroupfs
# Another node's kubelet on this machine would delete what it does not know below a common root.
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
clusterDNS: [$ADDRESS]
clusterDomain: cluster.local
resolvConf: ""
podLogsDir: $PWD/logs
volumePluginDir: $PWD/volume-plugins
evictionHard: {memory.available: 50Mi}
imageGCHighThresholdPercent: 100
YAML
  cat >proxy.yaml <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: "$PWD/proxy.kubeconfig"}
clusterCIDR: 10.244.0.0/24
hostnameOverride: $NODE
conntrack: {maxPerCore: 0}
YAML
  cat >Corefile <<COREFILE
.:53 {
  bind $ADDRESS
  kubernetes cluster.local {
    kubeconfig $PWD/admin.kubeconfig x
  }
  ready 127.0.0.1:8181
}
COREFILE
}

node() {
  cd "$1"
  sign kubelet-server /CN=$NODE "subjectAltName=DNS:$NODE,IP:$ADDRESS"
  kubeconfig kubelet /O=system:nodes/CN=system:node:$NODE
  kubeconfig proxy /CN=system:kube-proxy
  write_configuration
  start containerd containerd --config "$PWD/containerd.toml"
  wait_for 30 containers version
  cc -static -Os -o pause "$HERE/pause.c"
  image . localhost/pause:1 "$PWD/pause"
  start kubelet kubelet --config "$PWD/kubelet.yaml" --kubeconfig "$PWD/kubelet.kubeconfig" \
    --hostname-override $NODE --node-ip $ADDRESS --root-dir "$PWD/kubelet"
  start proxy kube-proxy --config "$PWD/proxy.yaml"
  start coredns coredns -conf "$PWD/Corefile"
  wait_for 60 control wait --for condition=Ready --timeout 1s node/$NODE
  # The ordinary way to advertise an extended resource.
  control patch node $NODE --subresource status --type json --patch \
    "[{\"op\": \"add\", \"path\": \"/status/capacity/nvidia.com~1gpu\", \"value\": \"$GPUS\"}]" >/dev/null
  wait_for 60 control wait --for "jsonpath={.status.allocatable.nvidia\.com/gpu}=$GPUS" --timeout 1s node/$NODE
  wait_for 60 curl --fail --silent 127.0.0.1:8181/ready
}

# image FOLDER NAME PROGRAM
image() {
  local program file
  program=$(realpath "$3")
  cd "$1"
  file=images/${program##*/}.tar
  python3 "$HERE/image.py" "$2" "$program" "$file"
  import . "$file"
  rm "$file"
}

# import FOLDER FILE
import() {
  local file
  file=$(realpath "$2")
  cd "$1"
  containers images import "$file" >>import.log
}

node_down() {
  [[ -f kubelet.pid ]] || return 0
  local name task
  for name in coredns proxy kubelet; do stop "$name"; done
  for task in $(containers tasks list --quiet); do containers tasks delete --force "$task" &>/dev/null || true; done
  stop containerd
  cut -d' ' -f2 /proc/mounts | grep "^$PWD/" | tac | xargs --no-run-if-empty umount --lazy
  find /sys/fs/cgroup -depth -type d -path '*/k8s.io*' -exec rmdir {} + 2>/dev/null || true
}
