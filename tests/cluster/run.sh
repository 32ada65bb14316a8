#!/usr/bin/env bash
# Runs a command with a cluster that is made for it and taken down after it, or with the caller's.
#
#   RERANKER_TEST_KUBECONFIG   the cluster; the caller's, or set here
#   RERANKER_TEST_IMAGE        an image of the server that its nodes can run; not set: what needs one is skipped
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
  program=${CARGO_TARGET_DIR:-${CACHE%/cluster}/target}/debug/reranker
  if [[ -x $program ]]; then
    (image "$folder" localhost/reranker:test "$program")
    export RERANKER_TEST_IMAGE=localhost/reranker:test
  else
    echo "no image of the server: $program is not built" >&2
  fi
fi
export RERANKER_TEST_KUBECONFIG=$folder/admin.kubeconfig KUBECONFIG=$folder/admin.kubeconfig
"$@"
