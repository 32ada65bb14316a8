#!/usr/bin/env bash
# Runs a command with a cluster that is made for it and taken down after it, or with the caller's.
#
#   RERANKER_TEST_KUBECONFIG   the cluster; the caller's, or set here
#   RERANKER_TEST_IMAGE, RERANKER_TEST_OPERATOR_IMAGE
#                              images of server and operator that its nodes can run; not set: what needs them is skipped
#   RERANKER_TEST_DNS          ADDRESS:PORT of the cluster's DNS, if this machine does not ask it
#   RERANKER_TEST_RESTART      a command that restarts the cluster's API server; not set: that is skipped
#   RERANKER_TEST_ROUNDS       how often pods are replaced under load (2)
#
# `tests/cluster/run.sh bash` is a shell with the cluster's `kubectl`.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=cluster.sh
source "$HERE/cluster.sh"

if [[ -n ${RERANKER_TEST_KUBECONFIG:-} ]]; then exec "$@"; fi
if [[ -z ${CLUSTER_NODE:-} ]]; then
  build
  if why=$(why_no_node); then
    # The node's addresses, rules and mounts are in namespaces that end with this command, and so do its processes.
    exec env CLUSTER_NODE=$NODE unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$@"
  fi
  echo "no pods will run: $why" >&2
fi
folder=$(mktemp -d)
trap '(down "$folder") && rm -rf "$folder"' EXIT
if [[ -n ${CLUSTER_NODE:-} ]]; then (prepare "$folder"); fi
(up "$folder" >/dev/null)
if [[ -n ${CLUSTER_NODE:-} ]]; then
  (node "$folder")
  for name in reranker reranker-operator; do
    program=${CARGO_TARGET_DIR:-${CACHE%/cluster}/target}/debug/$name
    if [[ -x $program ]]; then
      (image "$folder" "localhost/$name:test" "$program")
    else
      echo "no image of $name: $program is not built" >&2
      exit 1
    fi
  done
  export RERANKER_TEST_IMAGE=localhost/reranker:test RERANKER_TEST_OPERATOR_IMAGE=localhost/reranker-operator:test
  export RERANKER_TEST_DNS=$ADDRESS:53
fi
export RERANKER_TEST_RESTART="'$HERE/cluster.sh' restart '$folder' apiserver"
export RERANKER_TEST_KUBECONFIG=$folder/admin.kubeconfig KUBECONFIG=$folder/admin.kubeconfig
"$@"
