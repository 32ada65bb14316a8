// One block a row. A thread sums the squares of every `blockDim`-th group of values, then lanes, then
// warps are added: an order that the row's length alone decides.
#include "cuda/device.cuh"

template <class T, int Count>
__device__ void norm(const float* x, const float* weight, T* out, uint32_t columns, float eps) {
    using In = Neighbours<float, Count>;
    using Out = Neighbours<T, Count>;
    uint32_t groups = columns / Count;
    float squares = 0;
    for (uint32_t i = threadIdx.x; i < groups; i += blockDim.x) {
        In in = reinterpret_cast<const In*>(x)[i];
        for (int j = 0; j < Count; ++j) squares += in.values[j] * in.values[j];
    }
    __shared__ float sums[LANES];
    squares = warp_sum(squares);
    if (threadIdx.x % LANES == 0) sums[threadIdx.x / LANES] = squares;
    __syncthreads();
    float total = 0;
    for (uint32_t warp = 0; warp < blockDim.x / LANES; ++warp) total += sums[warp];
    float scale = 1 / sqrtf(total / float(columns) + eps);
    for (uint32_t i = threadIdx.x; i < groups; i += blockDim.x) {
        In in = reinterpret_cast<const In*>(x)[i];
        In scales = reinterpret_cast<const In*>(weight)[i];
        Out normed;
        for (int j = 0; j < Count; ++j) narrow(in.values[j] * scale * scales.values[j], normed.values[j]);
        reinterpret_cast<Out*>(out)[i] = normed;
    }
}

/// `x`, `out`: `[gridDim.x, columns]`; `weight`: `[columns]`.
template <class T>
__device__ void norm_rows(const float* x, const float* weight, T* out, uint32_t columns, float eps) {
    size_t row = size_t(blockIdx.x) * columns;
    if (is_wide(x, columns) && is_wide(weight, columns) && is_wide(out, columns)) {
        norm<T, 4>(x + row, weight, out + row, columns, eps);
    } else {
        norm<T, 1>(x + row, weight, out + row, columns, eps);
    }
}

extern "C" __global__ void rms_norm_f32(const float* x, const float* weight, float* out, uint32_t columns, float eps) {
    norm_rows(x, weight, out, columns, eps);
}

extern "C" __global__ void rms_norm_bf16(const float* x, const float* weight, bf16* out, uint32_t columns, float eps) {
    norm_rows(x, weight, out, columns, eps);
}
