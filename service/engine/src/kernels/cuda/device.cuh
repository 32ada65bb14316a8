// What the kernels need of a card. The same sources compile as plain C++ against
// `emulated/card.h`, where their tests run without a card.
//
// Baseline: sm_80 (bf16 tensor cores, asynchronous copies to shared memory).
#pragma once

#ifdef __CUDACC__
#include <cstdint>
#include <cuda_bf16.h>

struct bf16 {
    uint16_t bits;
};

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(bf16 x) { return __uint_as_float(uint32_t(x.bits) << 16); }
__device__ inline void narrow(float x, float& to) { to = x; }
__device__ inline void narrow(float x, bf16& to) { to.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x)); }

/// Two values rounded to bf16, `low` in the lower half.
__device__ inline uint32_t narrow_pair(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

/// The value of the lane whose number differs in the bits of `mask`.
__device__ inline float from_lane_xor(float x, int mask) { return __shfl_xor_sync(0xffffffff, x, mask); }
__device__ inline float from_lane(float x, int lane) { return __shfl_sync(0xffffffff, x, lane); }

/// Copies 16 bytes to shared memory without waiting; zeros if not `wanted`.
__device__ inline void copy_async(void* to, const void* from, bool wanted) {
    uint32_t address = uint32_t(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(wanted ? 16 : 0)
                 : "memory");
}
/// Ends a group of copies.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most the last `Pending` groups are under way.
template <int Pending>
__device__ inline void await_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

/// Four 8 x 8 matrices of bf16 from shared memory: lane `8 m + r` points to row `r` of matrix `m`, and
/// receives of each matrix row `lane / 4`, columns `2 (lane % 4)` and the next.
__device__ inline void load_matrices(uint32_t (&to)[4], const void* row) {
    uint32_t address = uint32_t(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}
/// The same of the transposed matrices.
__device__ inline void load_transposed(uint32_t (&to)[4], const void* row) {
    uint32_t address = uint32_t(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

/// `c += a b` for `a` of 16 x 16, `b` of 16 x 8, `c` of 16 x 8, over the lanes of a warp.
///
/// With `g = lane / 4`, `t = lane % 4`: `a` holds rows `g, g + 8, g, g + 8` at columns `2t, 2t, 2t + 8,
/// 2t + 8` and the next; `b` rows `2t, 2t + 8` and the next at column `g`; `c` row `g` at columns `2t,
/// 2t + 1`, then row `g + 8`. (PTX ISA, mma.m16n8k16.)
__device__ inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#else
#include "card.h"
#endif

constexpr int LANES = 32;

/// `Count` neighbours in memory, read and written at once.
template <class T, int Count>
struct alignas(sizeof(T) * Count) Neighbours {
    T values[Count];
};

/// Most values of a type that one access moves.
template <class T>
constexpr int WIDE = 16 / sizeof(T);

/// Whether rows of `columns` from `first` on can be read 16 bytes at a time.
template <class T>
__device__ inline bool is_wide(const T* first, uint32_t columns) {
    return columns % WIDE<T> == 0 && reinterpret_cast<uintptr_t>(first) % 16 == 0;
}

/// The sum over a warp, the same bits in every lane.
__device__ inline float warp_sum(float x) {
    for (int mask = LANES / 2; mask > 0; mask /= 2) x += from_lane_xor(x, mask);
    return x;
}
