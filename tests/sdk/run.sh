#!/usr/bin/env bash
# Runs the official SDKs and the clients of other rerank APIs, unchanged, and a fuzz made from the API documents against a
# server with the demo model, and the official SDKs' own tests against a server with --mock; both on free ports.
#
#   tests/sdk/run.sh [BINARY]
#
# ZEROENTROPY_NODE_SUITE names a checkout of the official Node SDK's repository, whose suite is not in its package: without it
# that suite is skipped.
#
# BINARY is target/debug/reranker unless given. Virtual environments, node_modules and the servers' logs go to sdk/ in the
# target folder (CARGO_TARGET_DIR).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tests=$root/tests/sdk
target=${CARGO_TARGET_DIR:-$root/target}
work=$target/sdk
binary=${1:-$target/debug/reranker}
start_seconds=60
export PYTHONDONTWRITEBYTECODE=1
mkdir -p "$work"

# Succeeds if DIRECTORY was installed from exactly these FILES; `installed` says so.
is_installed() {
  local directory=$1
  shift
  [[ -f $directory/installed ]] && cat "$@" | cmp --silent - "$directory/installed"
}

# Makes the virtual environment python-NAME from requirements-NAME.txt.
install_python() {
  local directory=$work/python-$1 requirements=$tests/python/requirements-$1.txt
  local files=("$tests/python/$(sed -n 's/^-c //p' "$requirements")" "$requirements")
  is_installed "$directory" "${files[@]}" && return
  rm -rf "$directory"
  python3 -m venv "$directory"
  "$directory/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
  cat "${files[@]}" > "$directory/installed"
}

# Makes target/sdk/node from the lock file; node finds packages only beside or above a test, so the test is copied.
install_node() {
  local directory=$work/node files=("$tests/node/package.json" "$tests/node/package-lock.json")
  mkdir -p "$directory"
  cp "${files[@]}" "$tests/node/"*.test.js "$directory"
  is_installed "$directory" "${files[@]}" && return
  npm ci --prefix "$directory" --no-audit --no-fund --loglevel=error
  cat "${files[@]}" > "$directory/installed"
}

# Unpacks the official Python SDK's source, with its test suite, to target/sdk/suite.
install_suite() {
  local directory=$work/suite file=$tests/python/suite.txt
  is_installed "$directory" "$file" && return
  rm -rf "$directory"
  mkdir -p "$directory"
  "$work/python-suite/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary zeroentropy \
    --require-hashes --requirement "$file" --dest "$directory"
  tar --extract --strip-components 1 --directory "$directory" --file "$directory"/*.tar.gz
  cp "$file" "$directory/installed"
}

# Copies the checkout of the official Node SDK, with its test suite, to target/sdk/node-suite and installs what its lock file
# names, with the package manager that it names.
install_node_suite() {
  local directory=$work/node-suite checkout=$ZEROENTROPY_NODE_SUITE
  local files=("$checkout/package.json" "$checkout/yarn.lock" "$checkout"/tests/api-resources/*)
  is_installed "$directory" "${files[@]}" && return
  rm -rf "$directory"
  cp -r "$checkout" "$directory"
  rm -rf "$directory/node_modules"
  npx --yes yarn@1.22.22 --cwd "$directory" install --frozen-lockfile --ignore-scripts --silent
  cat "${files[@]}" > "$directory/installed"
}

python_environments=(current alpha6 compat suite fuzz)
for name in "${python_environments[@]}"; do install_python "$name"; done
install_suite
install_node
[[ -z ${ZEROENTROPY_NODE_SUITE:-} ]] || install_node_suite

declare -A servers
trap 'kill "${servers[@]}" 2> /dev/null || true' EXIT

fail() {
  echo "tests/sdk/run.sh: $2; the log of the server $1:" >&2
  cat "$work/$1.log" >&2
  exit 1
}

# Prints the address that the server NAME logged for http or admin.
address() {
  sed -n "s/.* $2=\\(127\\.0\\.0\\.1:[0-9]*\\).*/\\1/p" "$work/$1.log"
}

is_ready() {
  local admin
  admin=$(address "$1" admin)
  [[ -n $admin ]] && python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1])' "http://$admin/readyz" 2> /dev/null
}

# Starts the server NAME with FLAGS and waits until it is ready; it logs the ports that it took.
start() {
  local name=$1 listen=() deadline=$((SECONDS + start_seconds))
  shift
  for protocol in grpc http admin; do listen+=("--$protocol-listen" 127.0.0.1:0); done
  RUST_LOG=info "$binary" serve "$@" "${listen[@]}" 2> "$work/$name.log" &
  servers[$name]=$!
  until is_ready "$name"; do
    kill -0 "${servers[$name]}" 2> /dev/null || fail "$name" "the server ended"
    ((SECONDS < deadline)) || fail "$name" "the server is not ready after $start_seconds s"
    sleep 0.1
  done
}

rm -rf "$work/data"
# The queue is short so that a test can fill it.
start demo --model demo --alias zerank-1=demo --alias zerank-1-small=demo --max-batch-tokens 512 --max-queued-tokens 5000 \
  --data-dir "$work/data"
start mock --mock
ZEROENTROPY_BASE_URL=http://$(address demo http)/v1
TEST_API_BASE_URL=http://$(address mock http)
export ZEROENTROPY_BASE_URL TEST_API_BASE_URL ZEROENTROPY_API_KEY="My API Key"

status=0
# Runs pytest in the environment NAME.
pytest() {
  local name=$1
  shift
  echo "tests/sdk: $name"
  "$work/python-$name/bin/python" -m pytest -q -p no:cacheprovider "$@" || status=1
}

cd "$work/node"
for name in current alpha6 compat fuzz; do pytest "$name" "$tests/python/test_$name.py"; done
pytest current "$tests/python/test_collections.py"
pytest fuzz "$tests/python/test_fuzz_collections.py"
node --test --test-reporter=tap || status=1
# The suite's own options start a process a core, which takes longer than the tests.
cd "$work/suite"
pytest suite -o addopts= tests/api_resources

if [[ -n ${ZEROENTROPY_NODE_SUITE:-} ]]; then
  echo "tests/sdk: the Node SDK's own suite"
  (cd "$work/node-suite" && node_modules/.bin/jest tests/api-resources) || status=1
else
  echo "tests/sdk: SKIPPED the Node SDK's own suite: ZEROENTROPY_NODE_SUITE names no checkout of its repository"
fi

trap - EXIT
kill -TERM "${servers[@]}"
for name in "${!servers[@]}"; do
  wait "${servers[$name]}" || fail "$name" "the server did not survive or did not stop cleanly (exit code $?)"
done
exit "$status"
