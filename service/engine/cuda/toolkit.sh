#!/usr/bin/env bash
# Runs a command with what compiles the feature `cuda`: NVIDIA's compiler, headers and libraries.
#
#     service/engine/cuda/toolkit.sh cargo build --release --package reranker --features cuda
#
# Where CUDA_HOME is set, that toolkit is used, of CUDA 12.8 or later. Else NVIDIA's own wheels of CUDA 13.0 are
# installed from PyPI into the cache folder, once; where they cannot be had, it says so, runs nothing and ends with 0.
# No card and no driver are needed.
set -euo pipefail

cache=${RERANKER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reranker}
if [ -z "${CUDA_HOME:-}" ]; then
  environment=$cache/cuda
  if ! { [ -x "$environment/bin/python" ] || python3 -m venv "$environment"; }; then
    echo "skipped: no Python environment for NVIDIA's compiler in $environment" >&2
    exit 0
  fi
  site=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  CUDA_HOME=$site/nvidia/cu13
  if [ ! -e "$CUDA_HOME/lib/complete" ]; then
    "$environment/bin/pip" install --quiet --retries 2 "nvidia-cuda-nvcc==13.0.*" "nvidia-cuda-crt==13.0.*" \
      "nvidia-nvvm==13.0.*" "nvidia-cuda-runtime==13.0.*" "nvidia-cuda-cccl==13.0.*" "nvidia-cublas==13.0.*" \
      "nvidia-cuda-nvrtc==13.0.*" "nvidia-curand==10.4.*" || {
      echo "skipped: NVIDIA's compiler cannot be installed from PyPI" >&2
      exit 0
    }
    # The wheels have versioned libraries only; linkers want plain names.
    for library in cublas cublasLt cudart curand nvrtc; do
      versioned=$(basename "$(ls "$CUDA_HOME/lib/lib$library.so."* | head -1)")
      ln -sf "$versioned" "$CUDA_HOME/lib/lib$library.so"
    done
    # The driver's library comes with the driver. Nothing is taken from this empty one, so it is not needed to start.
    mkdir -p "$CUDA_HOME/lib/stubs"
    ${CC:-cc} -shared -Wl,-soname,libcuda.so.1 -o "$CUDA_HOME/lib/stubs/libcuda.so" -x c /dev/null
    touch "$CUDA_HOME/lib/complete"
  fi
fi
export CUDA_HOME CUDA_PATH=$CUDA_HOME CUDA_ROOT=$CUDA_HOME CUDA_TOOLKIT_ROOT_DIR=$CUDA_HOME
export PATH=$CUDA_HOME/bin:$PATH
export LIBRARY_PATH=$CUDA_HOME/lib:$CUDA_HOME/lib64:$CUDA_HOME/lib/stubs${LIBRARY_PATH:+:$LIBRARY_PATH}
export LD_LIBRARY_PATH=$CUDA_HOME/lib:$CUDA_HOME/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# The oldest card: drivers translate its kernels for every later one, so one binary runs on all.
export CUDA_COMPUTE_CAP=80
# The driver's functions are found when they are first called, so that the binary starts where there is no driver: the
# engine loads it, if there is one. check.sh sees to it that no other function is left open.
export RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }-C relro-level=partial -C link-arg=-Wl,--unresolved-symbols=ignore-all"
# Other flags than the build without cards: a folder of its own.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}/cuda
exec "$@"
