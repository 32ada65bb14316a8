#!/usr/bin/env bash
# Runs a command with RERANKER_TEST_KUBECONFIG: the caller's, or that of a cluster made for it and taken down after it.
set -euo pipefail

if [[ -z ${RERANKER_TEST_KUBECONFIG:-} ]]; then
  cluster=$(dirname "$0")/cluster.sh
  "$cluster" build
  folder=$(mktemp -d)
  trap '"$cluster" down "$folder" && rm -rf "$folder"' EXIT
  RERANKER_TEST_KUBECONFIG=$("$cluster" up "$folder")
  export RERANKER_TEST_KUBECONFIG
fi
"$@"
