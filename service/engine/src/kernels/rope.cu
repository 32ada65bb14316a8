// One warp a head: its squares, then its pairs `i` and `i + head_dim / 2`.
#include "cuda/device.cuh"

/// `head`: `[2 half]`, in place; `weight`: `[2 half]`; `angles`: `half` cosines, then their sines.
template <class T, int Count>
__device__ void norm_rotate(T* head, const float* weight, const float* angles, uint32_t half, float eps) {
    using Values = Neighbours<T, Count>;
    using Factors = Neighbours<float, Count>;
    auto left = reinterpret_cast<Values*>(head), right = reinterpret_cast<Values*>(head + half);
    auto factors = [&](const float* first, uint32_t i) { return reinterpret_cast<const Factors*>(first)[i]; };
    uint32_t groups = half / Count, lane = threadIdx.x % LANES;
    float squares = 0;
    for (uint32_t i = lane; i < groups; i += LANES) {
        for (int j = 0; j < Count; ++j) {
            float a = widen(left[i].values[j]), b = widen(right[i].values[j]);
            squares += a * a + b * b;
        }
    }
    float scale = 1 / sqrtf(warp_sum(squares) / float(2 * half) + eps);
    for (uint32_t i = lane; i < groups; i += LANES) {
        Values a = left[i], b = right[i];
        Factors a_weight = factors(weight, i), b_weight = factors(weight + half, i);
        Factors cos = factors(angles, i), sin = factors(angles + half, i);
        for (int j = 0; j < Count; ++j) {
            float x = widen(a.values[j]) * scale * a_weight.values[j];
            float y = widen(b.values[j]) * scale * b_weight.values[j];
            narrow(x * cos.values[j] - y * sin.values[j], a.values[j]);
            narrow(y * cos.values[j] + x * sin.values[j], b.values[j]);
        }
        left[i] = a;
        right[i] = b;
    }
}

/// `qkv`: `[rows, columns]`, in place, query heads first, then key heads; `norms`: `[2, head_dim]`;
/// `rotary`: `[rows, head_dim]`.
template <class T>
__device__ void rotate_heads(T* qkv, const float* norms, const float* rotary, uint32_t rows, uint32_t columns,
                             uint32_t query_heads, uint32_t key_heads, uint32_t head_dim, float eps) {
    uint32_t heads = query_heads + key_heads;
    uint32_t warp = blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES;
    uint32_t row = warp / heads, head = warp % heads;
    if (row >= rows) return;
    T* first = qkv + size_t(row) * columns + head * head_dim;
    const float* weight = norms + (head < query_heads ? 0 : head_dim);
    const float* angles = rotary + size_t(row) * head_dim;
    bool is_paired = head_dim % 4 == 0 && columns % 2 == 0 && reinterpret_cast<uintptr_t>(qkv) % (2 * sizeof(T)) == 0 &&
                     reinterpret_cast<uintptr_t>(norms) % 8 == 0 && reinterpret_cast<uintptr_t>(rotary) % 8 == 0;
    if (is_paired) {
        norm_rotate<T, 2>(first, weight, angles, head_dim / 2, eps);
    } else {
        norm_rotate<T, 1>(first, weight, angles, head_dim / 2, eps);
    }
}

extern "C" __global__ void qk_norm_rope_f32(float* qkv, const float* norms, const float* rotary, uint32_t rows,
                                            uint32_t columns, uint32_t query_heads, uint32_t key_heads,
                                            uint32_t head_dim, float eps) {
    rotate_heads(qkv, norms, rotary, rows, columns, query_heads, key_heads, head_dim, eps);
}

extern "C" __global__ void qk_norm_rope_bf16(bf16* qkv, const float* norms, const float* rotary, uint32_t rows,
                                             uint32_t columns, uint32_t query_heads, uint32_t key_heads,
                                             uint32_t head_dim, float eps) {
    rotate_heads(qkv, norms, rotary, rows, columns, query_heads, key_heads, head_dim, eps);
}
