#!/usr/bin/env bash
# Runs the official SDKs, unchanged, against a server with the demo model on free ports.
#
#   tests/sdk/run.sh [BINARY]
#
# BINARY is target/debug/reranker unless given. Virtual environments, node_modules and the server's log go to sdk/ in the
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
  local directory=$work/python-$1 files=("$tests/python/constraints.txt" "$tests/python/requirements-$1.txt")
  is_installed "$directory" "${files[@]}" && return
  rm -rf "$directory"
  python3 -m venv "$directory"
  "$directory/bin/pip" install --quiet --disable-pip-version-check --requirement "${files[1]}"
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

install_python current
install_python alpha6
install_node

# The server logs the ports that it took; it is ready once its model is loaded. Its queue is short so that a test can
# fill it.
log=$work/server.log
listen=()
for name in grpc http admin; do listen+=("--$name-listen" 127.0.0.1:0); done
RUST_LOG=info "$binary" serve --model demo --alias zerank-1=demo --alias zerank-1-small=demo \
  --max-batch-tokens 512 --max-queued-tokens 5000 "${listen[@]}" 2> "$log" &
server=$!
trap 'kill "$server" 2> /dev/null || true' EXIT

fail() {
  echo "tests/sdk/run.sh: $1; the server's log:" >&2
  cat "$log" >&2
  exit 1
}

# Prints the address that the server logged for http or admin.
address() {
  sed -n "s/.* $1=\\(127\\.0\\.0\\.1:[0-9]*\\).*/\\1/p" "$log"
}

is_ready() {
  local admin
  admin=$(address admin)
  [[ -n $admin ]] && python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1])' "http://$admin/readyz" 2> /dev/null
}

deadline=$((SECONDS + start_seconds))
until is_ready; do
  kill -0 "$server" 2> /dev/null || fail "the server ended"
  ((SECONDS < deadline)) || fail "the server is not ready after $start_seconds s"
  sleep 0.1
done
ZEROENTROPY_BASE_URL=http://$(address http)/v1
export ZEROENTROPY_BASE_URL ZEROENTROPY_API_KEY="My API Key"

status=0
cd "$work/node"
for name in current alpha6; do
  "$work/python-$name/bin/python" -m pytest -q -p no:cacheprovider "$tests/python/test_$name.py" || status=1
done
node --test --test-reporter=tap || status=1

trap - EXIT
kill -TERM "$server"
wait "$server" || fail "the server did not survive or did not stop cleanly (exit code $?)"
exit "$status"
