// Which keys the query rows of a block see.
#pragma once
#include "../cuda/device.cuh"

/// Some query rows of one span (see `Span`), six words in memory.
struct Tile {
    /// The first row of `q`, and how many rows follow it, itself included.
    uint32_t row, count;
    /// Rows of `kv` before the sequence's own.
    uint32_t prefix, prefix_count;
    /// The first own row of `kv`, and how many of them the first query row sees.
    uint32_t own, visible;

    /// How many keys row `offset` of the tile sees; they are the first in the order of [`key`](key).
    __device__ uint32_t seen(uint32_t offset) const { return prefix_count + visible + offset; }
    /// Keys of all rows.
    __device__ uint32_t keys() const { return seen(count - 1); }
    /// The row of `kv` of a sequence's key.
    __device__ uint32_t key(uint32_t place) const {
        return place < prefix_count ? prefix + place : own + (place - prefix_count);
    }
};
