#!/usr/bin/env bash
# The tests of the charts, with a helm of this version built from its Go module into the cache folder.
#
#   run.sh [-k NAME]          everything, or the tests of that name; an API server's part with RERANKER_TEST_KUBECONFIG
#   RERANKER_GENERATE=1 run.sh  writes the golden files anew
set -euo pipefail
cd "$(dirname "$0")/../.."

HELM_VERSION=v4.2.4
cache=${RERANKER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reranker}
export HELM=$cache/cluster/bin/helm-$HELM_VERSION

home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
if [[ ! -x $HELM ]]; then
  GOBIN=$home GOTOOLCHAIN=local CGO_ENABLED=0 \
    go install -trimpath -ldflags '-s -w' "helm.sh/helm/v4/cmd/helm@$HELM_VERSION"
  mkdir -p "$(dirname "$HELM")" && mv "$home/helm" "$HELM"
fi
[[ -x $cache/charts/bin/python ]] || python3 -m venv "$cache/charts"
"$cache/charts/bin/pip" install --quiet --requirement tests/charts/requirements.txt
# Helm reads nothing of the caller's.
export HELM_CONFIG_HOME=$home HELM_CACHE_HOME=$home HELM_DATA_HOME=$home KUBECONFIG=$home/none
"$cache/charts/bin/python" -B -m unittest discover --start-directory tests/charts "$@"
