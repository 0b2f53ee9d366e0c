// Portable vectors of floats, in the compiler's own vector types (gcc, clang): the widest registers of the target.
#pragma once

#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define CNNZOO_FUNCTION inline
#define CNNZOO_INLINE inline __attribute__((always_inline))
#define CNNZOO_LAMBDA __attribute__((always_inline))

namespace cnnzoo {
namespace {  // internal linkage: the object files of this module are built for different instruction sets

#if defined(__AVX512F__)
constexpr int lanes = 16, registers = 32;
#elif defined(__AVX2__)
constexpr int lanes = 8, registers = 16;
#elif defined(__aarch64__)
constexpr int lanes = 4, registers = 32;
#else
constexpr int lanes = 4, registers = 16;
#endif

template <int width>
struct VectorOf {
    typedef float Floats __attribute__((vector_size(width * 4)));
    typedef float Unaligned __attribute__((vector_size(width * 4), aligned(4), may_alias));
    typedef std::uint32_t Words __attribute__((vector_size(width * 4)));
};
template <int width>
using Floats = typename VectorOf<width>::Floats;
template <int width>
using Words = typename VectorOf<width>::Words;

template <int width>
CNNZOO_INLINE Floats<width> load(const float* from) {
    return *reinterpret_cast<const typename VectorOf<width>::Unaligned*>(from);
}
template <int width>
CNNZOO_INLINE void store(float* to, Floats<width> value) {
    *reinterpret_cast<typename VectorOf<width>::Unaligned*>(to) = value;
}
template <int width>
CNNZOO_INLINE Floats<width> splat(float value) {
    return value - Floats<width>{};
}

// Memory from the start of a cache line, so that no vector lies across two.
template <class T>
struct LineAllocator {
    typedef T value_type;
    static constexpr std::align_val_t line{64};
    LineAllocator() = default;
    template <class U>
    LineAllocator(const LineAllocator<U>&) {}
    T* allocate(std::size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), line)); }
    void deallocate(T* memory, std::size_t) { ::operator delete(memory, line); }
    friend bool operator==(const LineAllocator&, const LineAllocator&) { return true; }
    friend bool operator!=(const LineAllocator&, const LineAllocator&) { return false; }
};
using Buffer = std::vector<float, LineAllocator<float>>;

// {0, 1, 2, ...}
template <int width>
CNNZOO_INLINE Words<width> lane_numbers() {
    Words<width> numbers{};
    for (int lane = 0; lane < width; ++lane) numbers[lane] = static_cast<std::uint32_t>(lane);
    return numbers;
}

template <int value>
using Constant = std::integral_constant<int, value>;

// Calls f(0), f(1) ... f(count - 1) with constants. The arguments must be constants before the optimiser starts: gcc
// keeps an array of accumulators in registers only then; a loop that it unrolls itself leaves the array on the stack.
template <class F, int... index>
CNNZOO_INLINE void unroll_indices(F&& f, std::integer_sequence<int, index...>) {
    (f(Constant<index>{}), ...);
}
template <int count, class F>
CNNZOO_INLINE void unroll(F&& f) {
    unroll_indices(f, std::make_integer_sequence<int, count>{});
}

}  // namespace
}  // namespace cnnzoo
