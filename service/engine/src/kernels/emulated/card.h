// A card on the processor, for tests: the threads of a block are fibers that take turns, so that what
// threads, lanes and copies exchange happens as the kernels say. Blocks run one after another.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

struct Place {
    uint32_t x = 0, y = 0;
};
inline Place threadIdx, blockIdx, blockDim, gridDim;

[[noreturn]] inline void fail(const char* reason, const char* detail = "") {
    fprintf(stderr, "block %u,%u thread %u: %s %s\n", blockIdx.x, blockIdx.y, threadIdx.x, reason, detail);
    exit(1);
}

/// How the freedom that a card has is used. A kernel whose results differ waits for too little.
struct Order {
    /// Threads take turns from the last to the first.
    bool is_reversed;
    /// Copies are done when they are waited for, else when they are begun.
    bool is_late;
};

struct Copy {
    void* to;
    const void* from;
    bool wanted;

    void run() const {
        if (wanted) memcpy(to, from, 16);
        else memset(to, 0, 16);
    }
};

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(1 << 16);
    bool is_done = false;
    std::deque<std::vector<Copy>> groups;
    std::vector<Copy> copies;
};

/// What the lanes of a warp exchange.
struct Warp {
    const char* operation = nullptr;
    void* operands[32];
    int arrived = 0, turn = 0;
};

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    ucontext_t scheduler;
    Order order;
    uint32_t current = 0, alive = 0, arrived = 0, turn = 0;
    bool has_moved = false;
    std::function<void()> body;
};
inline Block block;

inline void yield() { swapcontext(&block.fibers[block.current].context, &block.scheduler); }

inline void enter() {
    block.body();
    block.fibers[block.current].is_done = true;
    block.alive--;
    block.has_moved = true;
}

inline void run_block(uint32_t threads, Order order, std::function<void()> body) {
    block.fibers.clear();
    block.fibers.resize(threads);
    block.warps.assign(threads / 32, Warp());
    block.order = order;
    block.alive = threads;
    block.arrived = 0;
    block.body = std::move(body);
    for (Fiber& fiber : block.fibers) {
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = &block.scheduler;
        makecontext(&fiber.context, enter, 0);
    }
    while (block.alive > 0) {
        block.has_moved = false;
        for (uint32_t i = 0; i < threads; ++i) {
            block.current = order.is_reversed ? threads - 1 - i : i;
            Fiber& fiber = block.fibers[block.current];
            if (fiber.is_done) continue;
            threadIdx.x = block.current;
            swapcontext(&block.scheduler, &fiber.context);
        }
        if (!block.has_moved) fail("threads wait for each other for ever");
    }
    for (const Warp& warp : block.warps) {
        if (warp.arrived > 0) fail("some lanes ended before", warp.operation);
    }
}

inline void __syncthreads() {
    uint32_t turn = block.turn;
    block.has_moved = true;
    if (++block.arrived == block.alive) {
        block.arrived = 0;
        block.turn++;
    }
    while (block.turn == turn) yield();
}

/// Waits for all lanes of the warp; the last one computes for all.
inline void together(const char* operation, void* operand, const std::function<void(void**)>& compute) {
    Warp& warp = block.warps[block.current / 32];
    if (warp.arrived > 0 && strcmp(warp.operation, operation) != 0) fail("lanes differ:", operation);
    warp.operation = operation;
    warp.operands[block.current % 32] = operand;
    block.has_moved = true;
    if (++warp.arrived == 32) {
        compute(warp.operands);
        warp.arrived = 0;
        warp.turn++;
        return;
    }
    int turn = warp.turn;
    while (warp.turn == turn) yield();
}

struct bf16 {
    uint16_t bits;
};

inline float widen(float x) { return x; }
inline float widen(bf16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}
inline void narrow(float x, float& to) { to = x; }
inline void narrow(float x, bf16& to) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    to.bits = std::isnan(x) ? 0x7fff : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline uint32_t narrow_pair(float low, float high) {
    bf16 pair[2];
    narrow(low, pair[0]);
    narrow(high, pair[1]);
    return pair[0].bits | uint32_t(pair[1].bits) << 16;
}

inline uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }

inline float from_lane_xor(float x, int mask) {
    struct {
        float value, received;
    } own = {x, 0};
    together("from_lane_xor", &own, [mask](void** lanes) {
        auto of = [&](int lane) { return static_cast<decltype(own)*>(lanes[lane]); };
        for (int lane = 0; lane < 32; ++lane) of(lane)->received = of(lane ^ mask)->value;
    });
    return own.received;
}
inline float from_lane(float x, int from) {
    struct {
        float value, received;
        int from;
    } own = {x, 0, from};
    together("from_lane", &own, [](void** lanes) {
        auto of = [&](int lane) { return static_cast<decltype(own)*>(lanes[lane]); };
        for (int lane = 0; lane < 32; ++lane) of(lane)->received = of(of(lane)->from % 32)->value;
    });
    return own.received;
}

inline void copy_async(void* to, const void* from, bool wanted) {
    if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) {
        fail("a copy is not on 16 bytes");
    }
    Copy copy = {to, from, wanted};
    if (!block.order.is_late) copy.run();
    block.fibers[block.current].copies.push_back(copy);
}
inline void commit_copies() {
    Fiber& fiber = block.fibers[block.current];
    fiber.groups.push_back(std::move(fiber.copies));
    fiber.copies.clear();
}
template <int Pending>
void await_copies() {
    Fiber& fiber = block.fibers[block.current];
    while (fiber.groups.size() > Pending) {
        for (const Copy& copy : fiber.groups.front()) {
            if (block.order.is_late) copy.run();
        }
        fiber.groups.pop_front();
    }
}

/// ldmatrix, from its definition in the PTX ISA: registers hold two bf16, the lower column first.
inline void load_matrices_as(const char* name, uint32_t (&to)[4], const void* row, bool is_transposed) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) fail("a matrix row is not on 16 bytes");
    struct {
        const uint16_t* row;
        uint32_t* to;
    } own = {static_cast<const uint16_t*>(row), to};
    together(name, &own, [is_transposed](void** lanes) {
        auto of = [&](int lane) { return static_cast<decltype(own)*>(lanes[lane]); };
        for (int lane = 0; lane < 32; ++lane) {
            for (int matrix = 0; matrix < 4; ++matrix) {
                auto at = [&](int r, int c) { return uint32_t(of(matrix * 8 + r)->row[c]); };
                int r = lane / 4, c = lane % 4 * 2;
                of(lane)->to[matrix] =
                    is_transposed ? at(c, r) | at(c + 1, r) << 16 : at(r, c) | at(r, c + 1) << 16;
            }
        }
    });
}
inline void load_matrices(uint32_t (&to)[4], const void* row) { load_matrices_as("load_matrices", to, row, false); }
inline void load_transposed(uint32_t (&to)[4], const void* row) { load_matrices_as("load_transposed", to, row, true); }

/// mma.m16n8k16, from the tables of fragments in the PTX ISA.
inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    struct {
        float* c;
        const uint32_t* a;
        uint32_t b[2];
    } own = {c, a, {b0, b1}};
    together("multiply_add", &own, [](void** lanes) {
        float rows[16][16], columns[16][8];
        auto of = [&](int lane) { return static_cast<decltype(own)*>(lanes[lane]); };
        auto half = [](uint32_t pair, int i) { return widen(bf16{uint16_t(pair >> (16 * i))}); };
        for (int lane = 0; lane < 32; ++lane) {
            int group = lane >> 2, in_group = lane % 4;
            for (int i = 0; i < 8; ++i) {
                int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
                int column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
                rows[row][column] = half(of(lane)->a[i / 2], i % 2);
            }
            for (int i = 0; i < 4; ++i) {
                columns[in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0)][group] = half(of(lane)->b[i / 2], i % 2);
            }
        }
        for (int lane = 0; lane < 32; ++lane) {
            for (int i = 0; i < 4; ++i) {
                int row = (lane >> 2) + (i < 2 ? 0 : 8), column = lane % 4 * 2 + (i & 1);
                for (int k = 0; k < 16; ++k) of(lane)->c[i] += rows[row][k] * columns[k][column];
            }
        }
    });
}
