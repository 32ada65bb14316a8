// Head size 128 in bf16 on tensor cores: 64 query rows of one head a block, 16 a warp, over blocks of 64
// keys, with the softmax kept up as keys come (Dao, arXiv:2307.08691).
//
// Keys of a block are copied to shared memory while the values of the last are multiplied, and values
// while keys are.
#include "tiles.cuh"

constexpr int HEAD = 128;
constexpr int TILE_ROWS = 64;
constexpr int WARP_ROWS = 16;
constexpr int BLOCK_KEYS = 64;
constexpr int THREADS = TILE_ROWS / WARP_ROWS * LANES;
/// Bf16 values of 16 bytes, the unit of copies.
constexpr int CHUNK = 8;
constexpr int ROW_CHUNKS = HEAD / CHUNK;

/// A chunk's place among a block's rows in shared memory. Eight rows of one column lie in different
/// banks, so that reading them as a matrix takes one pass.
__device__ inline int place(int row, int chunk) { return (row * ROW_CHUNKS + (chunk ^ (row % CHUNK))) * CHUNK; }

/// Copies one head's rows of `kv` for the keys `first .. first + BLOCK_KEYS`, zeros past the last.
__device__ inline void copy_rows(bf16* shared, const bf16* head, const Tile& tile, uint32_t first, uint32_t total,
                                 uint32_t stride) {
    for (int i = threadIdx.x; i < BLOCK_KEYS * ROW_CHUNKS; i += THREADS) {
        int row = i / ROW_CHUNKS, chunk = i % ROW_CHUNKS;
        bool is_key = first + row < total;
        const bf16* from = head + size_t(is_key ? tile.key(first + row) : tile.own) * stride + chunk * CHUNK;
        copy_async(shared + place(row, chunk), from, is_key);
    }
}

__device__ inline float quad_max(float x) {
    x = fmaxf(x, from_lane_xor(x, 1));
    return fmaxf(x, from_lane_xor(x, 2));
}

__device__ inline float quad_sum(float x) {
    x += from_lane_xor(x, 1);
    return x + from_lane_xor(x, 2);
}

/// Grid: tiles of up to 64 rows, then query heads. `scale` is `log2(e) / sqrt(128)`: powers are of 2.
///
/// `q`: `[rows, q_stride]`; `kv`: `[keys, kv_stride]`, key heads first, rows on 16 bytes; `out`: `[rows, H D]`.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    attend_tensor(const bf16* q, const bf16* kv, const Tile* tiles, bf16* out, uint32_t q_stride, uint32_t kv_stride,
                  uint32_t query_heads, uint32_t key_heads, float scale) {
    alignas(16) __shared__ bf16 keys[BLOCK_KEYS * HEAD];
    alignas(16) __shared__ bf16 values[BLOCK_KEYS * HEAD];
    Tile tile = tiles[blockIdx.x];
    uint32_t head = blockIdx.y;
    int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    // The places of a lane's elements in the fragments, see `multiply_add`; and of its row in matrices.
    int g = lane / 4, t = lane % 4, matrix = lane / 8, matrix_row = lane % 8;
    const bf16* key_head = kv + head / (query_heads / key_heads) * HEAD;
    const bf16* value_head = key_head + key_heads * HEAD;
    uint32_t total = tile.keys();
    uint32_t warp_row = warp * WARP_ROWS;
    bool is_active = warp_row < tile.count;
    // How many keys the lane's two rows see, and any row of the warp. Rows past the tile's last see what
    // there is, and are not written.
    uint32_t offsets[2] = {warp_row + g, warp_row + g + 8}, seen[2];
    for (int r = 0; r < 2; ++r) seen[r] = min(tile.seen(offsets[r]), total);
    uint32_t warp_seen = min(tile.seen(warp_row + WARP_ROWS - 1), total);

    uint32_t query[HEAD / 16][4];
    if (is_active) {
        for (int r = 0; r < 2; ++r) {
            size_t row = tile.row + min(offsets[r], tile.count - 1);
            const bf16* from = q + row * q_stride + head * HEAD + 2 * t;
#pragma unroll
            for (int k = 0; k < HEAD / 16; ++k) {
                query[k][r] = *reinterpret_cast<const uint32_t*>(from + k * 16);
                query[k][r + 2] = *reinterpret_cast<const uint32_t*>(from + k * 16 + 8);
            }
        }
    }

    float most[2] = {-INFINITY, -INFINITY}, sums[2] = {}, sum[HEAD / 8][4] = {};
    copy_rows(keys, key_head, tile, 0, total, kv_stride);
    commit_copies();
    for (uint32_t first = 0; first < total; first += BLOCK_KEYS) {
        bool has_keys = is_active && first < warp_seen;
        await_copies<0>();
        __syncthreads();
        copy_rows(values, value_head, tile, first, total, kv_stride);
        commit_copies();

        float score[BLOCK_KEYS / 8][4] = {};
        if (has_keys) {
#pragma unroll
            for (int k = 0; k < HEAD / 16; ++k) {
#pragma unroll
                for (int n = 0; n < BLOCK_KEYS / 16; ++n) {
                    uint32_t b[4];
                    load_matrices(b, keys + place(n * 16 + matrix / 2 * 8 + matrix_row, 2 * k + matrix % 2));
                    multiply_add(score[2 * n], query[k], b[0], b[1]);
                    multiply_add(score[2 * n + 1], query[k], b[2], b[3]);
                }
            }
        }
        __syncthreads();
        if (first + BLOCK_KEYS < total) copy_rows(keys, key_head, tile, first + BLOCK_KEYS, total, kv_stride);
        commit_copies();

        if (has_keys) {
            float next[2] = {most[0], most[1]};
#pragma unroll
            for (int n = 0; n < BLOCK_KEYS / 8; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    uint32_t key = first + n * 8 + 2 * t + i % 2;
                    if (key >= seen[i / 2]) score[n][i] = -INFINITY;
                    next[i / 2] = fmaxf(next[i / 2], score[n][i]);
                }
            }
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                // Finite: every row sees the first key of the first block.
                next[r] = quad_max(next[r]);
                float shrink = exp2f((most[r] - next[r]) * scale);
                most[r] = next[r];
                sums[r] *= shrink;
#pragma unroll
                for (int n = 0; n < HEAD / 8; ++n) {
                    sum[n][2 * r] *= shrink;
                    sum[n][2 * r + 1] *= shrink;
                }
            }
#pragma unroll
            for (int n = 0; n < BLOCK_KEYS / 8; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    score[n][i] = exp2f((score[n][i] - most[i / 2]) * scale);
                    sums[i / 2] += score[n][i];
                }
            }
        }
        await_copies<1>();
        __syncthreads();
        if (has_keys) {
#pragma unroll
            for (int k = 0; k < BLOCK_KEYS / 16; ++k) {
                const float(&low)[4] = score[2 * k];
                const float(&high)[4] = score[2 * k + 1];
                uint32_t weight[4] = {narrow_pair(low[0], low[1]), narrow_pair(low[2], low[3]),
                                      narrow_pair(high[0], high[1]), narrow_pair(high[2], high[3])};
#pragma unroll
                for (int n = 0; n < HEAD / 16; ++n) {
                    uint32_t b[4];
                    load_transposed(b, values + place(k * 16 + matrix % 2 * 8 + matrix_row, 2 * n + matrix / 2));
                    multiply_add(sum[2 * n], weight, b[0], b[1]);
                    multiply_add(sum[2 * n + 1], weight, b[2], b[3]);
                }
            }
        }
    }

    for (int r = 0; r < 2; ++r) {
        float factor = 1 / quad_sum(sums[r]);
        if (offsets[r] >= tile.count) continue;
        bf16* to = out + (size_t(tile.row + offsets[r]) * query_heads + head) * HEAD + 2 * t;
#pragma unroll
        for (int n = 0; n < HEAD / 8; ++n) {
            *reinterpret_cast<uint32_t*>(to + n * 8) = narrow_pair(sum[n][2 * r] * factor, sum[n][2 * r + 1] * factor);
        }
    }
}
