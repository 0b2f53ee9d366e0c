// Portable vectors of floats, in the compiler's own vector types (gcc, clang): the widest registers of the target.
//
// The fast network has 16 channels, so the channels of one position are `groups` vectors of `lanes` floats: one
// AVX-512 register, two of AVX2, four of NEON or SSE. Kernels work on tiles: some positions x `vectors` of the groups,
// so that an input, once broadcast, serves several multiply-adds (AVX2 can load two values a cycle and multiply-add
// two: a broadcast for each would take every load there is).
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#define CNNZOO_INLINE inline __attribute__((always_inline))
#define CNNZOO_LAMBDA __attribute__((always_inline))
// Inline where there are many registers; with 16, gcc gives them out better in a function of its own (4 to 6%).
#if defined(__AVX512F__) || defined(__aarch64__)
#define CNNZOO_INLINE_IF_ROOMY CNNZOO_INLINE
#else
#define CNNZOO_INLINE_IF_ROOMY __attribute__((noinline))
#endif

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

constexpr int channels = 16;

// Accumulators that leave room for the operands of a multiply-add; a tile is `vectors` of channels x some positions.
constexpr int most_accumulators = registers == 32 ? 24 : 12;
constexpr int vectors = lanes == 16 ? 1 : registers == 32 ? 4 : 2;
constexpr int tile_channels = vectors * lanes;
constexpr int most_positions = most_accumulators / vectors;

typedef float Vec __attribute__((vector_size(lanes * 4)));
typedef float UnalignedVec __attribute__((vector_size(lanes * 4), aligned(4), may_alias));
typedef std::int32_t Ints __attribute__((vector_size(lanes * 4)));
typedef std::uint32_t Words __attribute__((vector_size(lanes * 4)));

CNNZOO_INLINE Vec load(const float* from) { return *reinterpret_cast<const UnalignedVec*>(from); }
CNNZOO_INLINE void store(float* to, Vec value) { *reinterpret_cast<UnalignedVec*>(to) = value; }
CNNZOO_INLINE Vec splat(float value) { return value - Vec{}; }
CNNZOO_INLINE Words splat(std::uint32_t value) { return value - Words{}; }

// {0, 1, 2, ...}
CNNZOO_INLINE Words lane_numbers() {
    Words numbers{};
    for (int lane = 0; lane < lanes; ++lane) numbers[lane] = static_cast<std::uint32_t>(lane);
    return numbers;
}

// Calls f(0), f(1) ... f(count - 1) with constants. The arguments must be constants before the optimiser starts: gcc
// keeps an array of accumulators in registers only then; a loop that it unrolls itself leaves the array on the stack.
template <class F, int... index>
CNNZOO_INLINE void unroll_indices(F&& f, std::integer_sequence<int, index...>) {
    (f(std::integral_constant<int, index>{}), ...);
}
template <int count, class F>
CNNZOO_INLINE void unroll(F&& f) {
    unroll_indices(f, std::make_integer_sequence<int, count>{});
}

// Divides 0 ... total - 1 into chunks of equal size, at most `most`, but for the last one, which takes what remains;
// calls f(first, count) with constants.
template <int total, int most, class F>
CNNZOO_INLINE void in_chunks(F&& f) {
    constexpr int passes = (total + most - 1) / most, size = (total + passes - 1) / passes;
    unroll<passes>([&](auto pass) CNNZOO_LAMBDA {
        constexpr int first = pass * size;
        f(std::integral_constant<int, first>{}, std::integral_constant<int, (first + size < total ? size : total - first)>{});
    });
}

// The same with sizes that differ by one at most. Where the last chunk would keep too few accumulators busy: 16 channels
// as 6, 5, 5 instead of 6, 6, 4 made the kernel's gradient 15% faster with AVX2. (13 columns of the first layer are
// faster as 5, 5, 3 than as 5, 4, 4.)
template <int total, int most, class F>
CNNZOO_INLINE void in_even_chunks(F&& f) {
    constexpr int passes = (total + most - 1) / most, size = total / passes, larger = total % passes;
    unroll<passes>([&](auto pass) CNNZOO_LAMBDA {
        constexpr int first = pass * size + (pass < larger ? pass : larger);
        f(std::integral_constant<int, first>{}, std::integral_constant<int, size + (pass < larger)>{});
    });
}

// exp(x) for x <= 0, that of -87 below it; within 1.3 ulp; NaN stays NaN. Cody and Waite reduction, degree 6 (Cephes).
CNNZOO_INLINE Vec exp_nonpositive(Vec x) {
    const Vec lowest = splat(-87.0f);
    x = lowest > x ? lowest : x;
    const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    const Vec shifted = x * 1.44269504f + magic;
    const Vec n = shifted - magic;
    Vec r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    Vec p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + (r + 1.0f);
    const Words exponent = ((Words)shifted - splat(0x4B400000u) + 127u) << 23;
    return p * (Vec)exponent;
}

// tanh(x) within 4.7 ulp (measured against double precision); NaN stays NaN. x times a rational function of x*x, with
// the coefficients of Eigen's ptanh.
CNNZOO_INLINE Vec tanh(Vec x) {
    const Vec highest = splat(7.90531110763549805f);
    Vec c = highest < x ? highest : x;
    c = -highest > c ? -highest : c;
    const Vec s = c * c;
    Vec p = splat(-2.76076847742355e-16f);
    p = p * s + 2.00018790482477e-13f;
    p = p * s + -8.60467152213735e-11f;
    p = p * s + 5.12229709037114e-08f;
    p = p * s + 1.48572235717979e-05f;
    p = p * s + 6.37261928875436e-04f;
    p = p * s + 4.89352455891786e-03f;
    Vec q = splat(1.19825839466702e-06f);
    q = q * s + 1.18534705686654e-04f;
    q = q * s + 2.26843463243900e-03f;
    q = q * s + 4.89352518554385e-03f;
    return c * p / q;
}

}  // namespace
}  // namespace cnnzoo
