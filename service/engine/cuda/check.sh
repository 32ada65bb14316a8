#!/usr/bin/env bash
# What can be shown of the feature `cuda` without a card: the kernels compile for every architecture without warnings
# and spills, the Rust side passes clippy and its tests (which say what they skip), and the test binary, linked as the
# server is, needs nothing of the driver to start.
#
#     service/engine/cuda/toolkit.sh service/engine/cuda/check.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

cubin=$(mktemp)
trap 'rm -f "$cubin"' EXIT
for architecture in sm_80 sm_86 sm_89 sm_90 sm_100 sm_120; do
  "$CUDA_HOME/bin/nvcc" -std=c++17 -O3 -Werror all-warnings -Xptxas -warn-spills -arch "$architecture" -cubin \
    -o "$cubin" service/engine/src/kernels/cuda/all.cu
  echo "kernels: $architecture compiles"
done

cargo clippy --package reranker-engine --features cuda --all-targets -- --deny warnings
binary=$(cargo test --package reranker-engine --features cuda --lib --no-run --message-format json |
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
needed=$(readelf --dynamic "$binary" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
if grep -q '^libcuda\.so' <<< "$needed"; then
  echo "the binary does not start without the driver: it needs libcuda.so" >&2
  exit 1
fi
open=$(ldd -r "$binary" 2>&1 | sed -n 's/^undefined symbol: \([^[:space:]]*\).*/\1/p' | grep -v '^cu[A-Z]' || true)
if [ -n "$open" ]; then
  echo "functions that no library has: $open" >&2
  exit 1
fi
cargo test --package reranker-engine --features cuda -- --nocapture
