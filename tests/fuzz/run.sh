#!/usr/bin/env bash
# Fuzzes what clients send: builds the targets and runs each for FUZZ_SECONDS (60) from the committed corpus,
# or only those named as arguments. Prints libFuzzer's closing line of each. What crashes a target is kept, its path is
# printed, and the exit code is 1.
#
#     tests/fuzz/run.sh [TARGET...]
#
# To run one input again: the target's binary with the input's path as its argument.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${FUZZ_SECONDS:-60}
host=$(rustc --version --verbose | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/fuzz
# libFuzzer's coverage without a sanitizer, which stable Rust has; `--target` keeps it out of build scripts.
export RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --package reranker-fuzz --features libfuzzer --profile fuzz --target "$host"

targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(http_body compat_body headers grpc_message grpc_stream keys_file parse_file)
status=0
for target in "${targets[@]}"; do
  run=$CARGO_TARGET_DIR/runs/$target
  found=$CARGO_TARGET_DIR/found/$target
  # Every run starts from what is committed: libFuzzer writes to the first folder and only reads the second.
  rm -rf "$run"
  mkdir -p "$run" "$found"
  if "$CARGO_TARGET_DIR/$host/fuzz/$target" "$run" "tests/fuzz/corpus/$target" -dict="tests/fuzz/$target.dict" \
    -artifact_prefix="$found/" -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=2048 \
    -print_final_stats=1 2> "$run.log"; then
    echo "fuzz $target: $(grep '^Done ' "$run.log"), $(grep -c . <(ls "tests/fuzz/corpus/$target")) inputs in the corpus"
  else
    tail -40 "$run.log" >&2
    echo "fuzz $target: FAILED, input: $(sed -n 's/.*Test unit written to //p' "$run.log" | tail -1)" >&2
    status=1
  fi
done
exit "$status"
