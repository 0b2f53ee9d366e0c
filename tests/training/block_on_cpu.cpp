// Runs the GPU's kernel (csrc/block.cu) on a CPU, a thread of the machine for each thread of a block: for its bits, and,
// with -fsanitize=thread, for races between its barriers.
#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "threads.h"

#define __device__
#define __host__
#define __constant__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __align__(bytes)
#define __shared__ static

struct Index {
    unsigned x;
};
static thread_local Index threadIdx, blockIdx;
static std::barrier<>* barrier;
static void __syncthreads() { barrier->arrive_and_wait(); }

struct alignas(16) float4 {
    float x, y, z, w;
};
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static float __fsqrt_rn(float x) { return std::sqrt(x); }
static double __dsqrt_rn(double x) { return std::sqrt(x); }

// `extern __shared__ float shared[]` names the one array of this type: as large as any group needs.
#define shared shared_by_the_block
alignas(16) static float shared_by_the_block[1 << 20];
#undef __shared__
#define __shared__
#include "block.cu"
#undef shared

template <class Kernel>
static void launch(int blocks, const Kernel& kernel) {
    for (int block = 0; block < blocks; ++block) {
        // What is not written first is not read: not a number, if it were.
        std::memset(shared_by_the_block, 0xFF, sizeof shared_by_the_block);
        std::barrier<> all(THREADS);
        barrier = &all;
        std::vector<std::thread> threads;
        for (unsigned thread = 0; thread < THREADS; ++thread) {
            threads.emplace_back([&, thread] {
                const cnnzoo::DenormalsAreZero guard;
                threadIdx = {thread}, blockIdx = {static_cast<unsigned>(block)};
                kernel();
            });
        }
        for (std::thread& thread : threads) thread.join();
    }
}

extern "C" {

void train(int networks, float* weights, float* m, float* v, float* sums, float* scaled, const double* learning_rate,
           const double* l2reg, const std::uint32_t* keys, const std::uint32_t* thresholds, const float* scales,
           const float* pixels, const std::uint8_t* labels, const std::int64_t* indices, int steps, int size,
           std::uint32_t first_step) {
    launch(networks, [&] {
        cnnzoo_train(weights, m, v, sums, scaled, learning_rate, l2reg, keys, thresholds, scales, pixels, labels,
                     indices, steps, size, first_step);
    });
}

void evaluate(int networks, const float* weights, float* scaled, const double* l2reg, const float* pixels,
              const std::uint8_t* labels, int count, double* accuracy, double* loss) {
    launch(networks, [&] { cnnzoo_evaluate(weights, scaled, l2reg, pixels, labels, count, accuracy, loss); });
}
}
