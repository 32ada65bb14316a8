// One block a row.
#include "cuda/device.cuh"

template <class T, int Count>
__device__ void silu_mul(const T* gate, const T* up, T* out, uint32_t width) {
    using Values = Neighbours<T, Count>;
    for (uint32_t i = threadIdx.x; i < width / Count; i += blockDim.x) {
        Values gates = reinterpret_cast<const Values*>(gate)[i];
        Values ups = reinterpret_cast<const Values*>(up)[i];
        Values products;
        for (int j = 0; j < Count; ++j) {
            float x = widen(gates.values[j]);
            narrow(x / (1 + expf(-x)) * widen(ups.values[j]), products.values[j]);
        }
        reinterpret_cast<Values*>(out)[i] = products;
    }
}

/// `gate_up`: `[gridDim.x, 2 width]`; `out`: `[gridDim.x, width]`.
template <class T>
__device__ void silu_mul_row(const T* gate_up, T* out, uint32_t width) {
    const T* gate = gate_up + size_t(blockIdx.x) * 2 * width;
    T* row = out + size_t(blockIdx.x) * width;
    if (is_wide(gate_up, width) && is_wide(out, width)) {
        silu_mul<T, WIDE<T>>(gate, gate + width, row, width);
    } else {
        silu_mul<T, 1>(gate, gate + width, row, width);
    }
}

extern "C" __global__ void silu_mul_f32(const float* gate_up, float* out, uint32_t width) {
    silu_mul_row(gate_up, out, width);
}

extern "C" __global__ void silu_mul_bf16(const bf16* gate_up, bf16* out, uint32_t width) {
    silu_mul_row(gate_up, out, width);
}
