// Runs one kernel for a test: reads the launch and its buffers from standard input, writes the buffers back.
//
// All numbers are 32-bit: name length, name; grid x, y; threads; count of buffers, each length and bytes;
// count of arguments, each kind (0 number, 1 float, 2 buffer) and value (of a buffer: number, byte offset).
#include "../cuda/all.cu"

#include <sys/mman.h>
#include <map>
#include <string>
#include <tuple>

static void read_bytes(void* to, size_t count) {
    if (count > 0 && fread(to, 1, count, stdin) != count) fail("the input ends early");
}

static uint32_t read_number() {
    uint32_t number;
    read_bytes(&number, 4);
    return number;
}

/// Bytes between pages that must not be touched: the end is guarded to the next 16 bytes.
struct Buffer {
    char* first;
    size_t length;

    explicit Buffer(size_t length) : length(length) {
        constexpr size_t page = 4096;
        size_t rounded = (length + 15) / 16 * 16, inner = (rounded + page - 1) / page * page;
        auto all = static_cast<char*>(
            mmap(nullptr, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (all == MAP_FAILED || mprotect(all + page, inner, PROT_READ | PROT_WRITE) != 0) fail("no memory");
        first = all + page + inner - rounded;
    }
};

struct Argument {
    uint32_t kind, value, offset;
};

struct Launch {
    std::vector<Buffer> buffers;
    std::vector<Argument> arguments;
    size_t next = 0;

    template <class T>
    T take() {
        if (next >= arguments.size()) fail("too few arguments");
        Argument argument = arguments[next++];
        if constexpr (std::is_pointer_v<T>) {
            if (argument.kind != 2) fail("a pointer is given a number");
            return reinterpret_cast<T>(buffers.at(argument.value).first + argument.offset);
        } else {
            static_assert(sizeof(T) == 4);
            if (argument.kind != std::is_same_v<T, float>) fail("a number is of another type");
            T value;
            memcpy(&value, &argument.value, 4);
            return value;
        }
    }

    template <class... Parameters>
    void run(void (*kernel)(Parameters...), uint32_t threads, Order order) {
        next = 0;
        std::tuple<Parameters...> values{take<Parameters>()...};
        if (next != arguments.size()) fail("too many arguments");
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y) {
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) {
                run_block(threads, order, [&] { std::apply(kernel, values); });
            }
        }
    }
};

#define KERNEL(name) {#name, [](Launch& launch, uint32_t threads, Order order) { launch.run(name, threads, order); }}

static const std::map<std::string, void (*)(Launch&, uint32_t, Order)> KERNELS = {
    KERNEL(attend_bf16),       KERNEL(attend_f32),      KERNEL(attend_tensor), KERNEL(qk_norm_rope_bf16),
    KERNEL(qk_norm_rope_f32),  KERNEL(rms_norm_bf16),   KERNEL(rms_norm_f32),  KERNEL(silu_mul_bf16),
    KERNEL(silu_mul_f32),
};

int main() {
    std::string name(read_number(), ' ');
    read_bytes(name.data(), name.size());
    auto kernel = KERNELS.find(name);
    if (kernel == KERNELS.end()) fail("no such kernel:", name.c_str());
    gridDim = {read_number(), 0};
    gridDim.y = read_number();
    uint32_t threads = read_number();
    if (threads % 32 != 0) fail("threads are not whole warps");
    blockDim = {threads, 1};
    Launch launch;
    for (uint32_t count = read_number(); count > 0; --count) {
        launch.buffers.emplace_back(read_number());
        read_bytes(launch.buffers.back().first, launch.buffers.back().length);
    }
    for (uint32_t count = read_number(); count > 0; --count) {
        Argument argument = {read_number(), 0, 0};
        argument.value = read_number();
        if (argument.kind == 2) argument.offset = read_number();
        launch.arguments.push_back(argument);
    }

    std::vector<std::string> given, found;
    auto contents = [&] {
        std::vector<std::string> all;
        for (const Buffer& buffer : launch.buffers) all.emplace_back(buffer.first, buffer.length);
        return all;
    };
    given = contents();
    for (Order order : {Order{false, false}, Order{true, true}}) {
        for (size_t i = 0; i < given.size(); ++i) memcpy(launch.buffers[i].first, given[i].data(), given[i].size());
        kernel->second(launch, threads, order);
        if (!found.empty() && found != contents()) fail("the result depends on the order of threads or copies");
        found = contents();
    }
    for (const std::string& buffer : found) fwrite(buffer.data(), 1, buffer.size(), stdout);
    return 0;
}
