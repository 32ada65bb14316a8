#!/usr/bin/env bash
# The tests of the charts, with a helm of this version built from its Go module into the cache folder.
#
#   run.sh [-k NAME]            everything, or the tests of that name
#   RERANKER_GENERATE=1 run.sh  writes the golden files anew
#
# RERANKER_TEST_KUBECONFIG: a cluster for releases. RERANKER_TEST_IMAGE, RERANKER_TEST_OPERATOR_IMAGE: images that its
# nodes can run, for pods. What is missing is skipped and said.
set -euo pipefail
cd "$(dirname "$0")/../.."

HELM_VERSION=v4.2.4
cache=${RERANKER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reranker}
export HELM=$cache/cluster/bin/helm-$HELM_VERSION

home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
if [[ ! -x $HELM ]]; then
  command -v go >/dev/null || { echo "helm is built from its Go module: install Go 1.26" >&2; exit 1; }
  GOBIN=$home GOTOOLCHAIN=local CGO_ENABLED=0 \
    go install -trimpath -ldflags '-s -w' "helm.sh/helm/v4/cmd/helm@$HELM_VERSION"
  mkdir -p "$(dirname "$HELM")" && mv "$home/helm" "$HELM"
fi
[[ -x $cache/charts/bin/python ]] || python3 -m venv "$cache/charts"
"$cache/charts/bin/pip" install --quiet --requirement tests/charts/requirements.txt
# Helm reads nothing of the caller's.
export HELM_CONFIG_HOME=$home HELM_CACHE_HOME=$home HELM_DATA_HOME=$home KUBECONFIG=$home/none
"$cache/charts/bin/python" -B -m unittest discover --start-directory tests/charts "$@"
