// Any type and head size up to 256: one warp a query row and head. Every lane weighs one key of 32, then the
// lanes share the columns of the weighted sum.
#include "tiles.cuh"

constexpr int MOST_COLUMNS = 256 / LANES;

/// Grid: tiles, then query heads; a block's warps take its tile's rows in turn.
///
/// `q`: `[rows, q_stride]`; `kv`: `[keys, kv_stride]`, key heads first; `out`: `[rows, H D]`.
template <class T>
__device__ void attend(const T* q, const T* kv, const Tile* tiles, T* out, uint32_t q_stride, uint32_t kv_stride,
                       uint32_t query_heads, uint32_t key_heads, uint32_t head_dim, float scale) {
    Tile tile = tiles[blockIdx.x];
    uint32_t head = blockIdx.y, lane = threadIdx.x % LANES;
    const T* keys = kv + head / (query_heads / key_heads) * head_dim;
    const T* values = keys + key_heads * head_dim;
    for (uint32_t offset = threadIdx.x / LANES; offset < tile.count; offset += blockDim.x / LANES) {
        size_t row = tile.row + offset;
        const T* query = q + row * q_stride + head * head_dim;
        uint32_t seen = tile.seen(offset);
        float most = -INFINITY, total = 0, sums[MOST_COLUMNS] = {};
        for (uint32_t first = 0; first < seen; first += LANES) {
            bool is_seen = first + lane < seen;
            float score = -INFINITY;
            if (is_seen) {
                const T* key = keys + size_t(tile.key(first + lane)) * kv_stride;
                score = 0;
                for (uint32_t d = 0; d < head_dim; ++d) score += widen(query[d]) * widen(key[d]);
                score *= scale;
            }
            float next = score;
            for (int mask = LANES / 2; mask > 0; mask /= 2) next = fmaxf(next, from_lane_xor(next, mask));
            next = fmaxf(next, most);
            float weight = is_seen ? expf(score - next) : 0, shrink = expf(most - next);
            most = next;
            total = total * shrink + weight;
            for (float& sum : sums) sum *= shrink;
            for (int other = 0; other < LANES; ++other) {
                float factor = from_lane(weight, other);
                if (first + other >= seen) continue;
                const T* value = values + size_t(tile.key(first + other)) * kv_stride;
                for (int i = 0; i < MOST_COLUMNS; ++i) {
                    uint32_t d = lane + i * LANES;
                    if (d < head_dim) sums[i] += factor * widen(value[d]);
                }
            }
        }
        total = warp_sum(total);
        for (int i = 0; i < MOST_COLUMNS; ++i) {
            uint32_t d = lane + i * LANES;
            if (d < head_dim) narrow(sums[i] / total, out[(row * query_heads + head) * head_dim + d]);
        }
    }
}

extern "C" __global__ void attend_f32(const float* q, const float* kv, const Tile* tiles, float* out,
                                      uint32_t q_stride, uint32_t kv_stride, uint32_t query_heads, uint32_t key_heads,
                                      uint32_t head_dim, float scale) {
    attend(q, kv, tiles, out, q_stride, kv_stride, query_heads, key_heads, head_dim, scale);
}

extern "C" __global__ void attend_bf16(const bf16* q, const bf16* kv, const Tile* tiles, bf16* out, uint32_t q_stride,
                                       uint32_t kv_stride, uint32_t query_heads, uint32_t key_heads,
                                       uint32_t head_dim, float scale) {
    attend(q, kv, tiles, out, q_stride, kv_stride, query_heads, key_heads, head_dim, scale);
}
