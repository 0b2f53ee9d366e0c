// What elementary.h is written in, for a CPU: a float or a vector of floats, their bits, and `fused`, a multiply-add that
// is rounded once (without the instruction it is computed in double precision).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "network.h"
#include "simd.h"

namespace cnnzoo {
namespace {

// The types that belong to a float or to a vector of `lanes` floats.
template <class Floats>
struct Kin {
    static constexpr int lanes = sizeof(Floats) / sizeof(float);
    typedef std::uint32_t Words __attribute__((vector_size(sizeof(Floats))));
    typedef double Doubles __attribute__((vector_size(2 * sizeof(Floats))));
    typedef std::int64_t Longs __attribute__((vector_size(2 * sizeof(Floats))));
    static constexpr bool is_vector = true;
};
template <>
struct Kin<float> {
    typedef std::uint32_t Words;
    typedef double Doubles;
    typedef std::int64_t Longs;
    static constexpr bool is_vector = false;
};

template <class To, class From>
CNNZOO_INLINE To bits_of(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

#if defined(__FMA__) || defined(__aarch64__)
CNNZOO_INLINE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#endif
#if defined(__AVX512F__)
CNNZOO_INLINE Floats<16> fused(Floats<16> a, Floats<16> b, Floats<16> c) { return _mm512_fmadd_ps(a, b, c); }
#endif
#if defined(__FMA__)
CNNZOO_INLINE Floats<8> fused(Floats<8> a, Floats<8> b, Floats<8> c) { return _mm256_fmadd_ps(a, b, c); }
#elif defined(__aarch64__)
CNNZOO_INLINE Floats<4> fused(Floats<4> a, Floats<4> b, Floats<4> c) { return vfmaq_f32(c, a, b); }
#else
// a * b is exact in double precision, and the sum is rounded to odd: so rounding it to single precision rounds once
// (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008). The error of the sum is Knuth's TwoSum.
template <class F>
CNNZOO_INLINE F fused(F a, F b, F c) {
    typedef typename Kin<F>::Doubles Doubles;
    typedef typename Kin<F>::Longs Longs;
    const auto widen = [](F x) CNNZOO_LAMBDA {
        if constexpr (Kin<F>::is_vector) return __builtin_convertvector(x, Doubles);
        else return static_cast<Doubles>(x);
    };
    const Doubles product = widen(a) * widen(b), addend = widen(c), sum = product + addend;
    const Doubles rest = sum - product, error = (product - (sum - rest)) + (addend - rest);
    const Longs bits = bits_of<Longs>(sum), odd = bits & 1;
    // Towards the error by one unit of the last place, where the sum is even and inexact. (The error of an infinity is
    // not a number: neither comparison holds.)
    const Doubles zero{};
    Longs towards;
    if constexpr (Kin<F>::is_vector) {
        const Longs grows = (error > zero) == (sum > zero);
        const Longs inexact = (error < zero) | (error > zero);
        towards = inexact & ((grows & 1) | (~grows & -1)) & (odd - 1);
    } else {
        const bool grows = (error > zero) == (sum > zero), inexact = error < zero || error > zero;
        towards = inexact && !odd ? (grows ? 1 : -1) : 0;
    }
    const Doubles rounded = bits_of<Doubles>(bits + towards);
    if constexpr (Kin<F>::is_vector) return __builtin_convertvector(rounded, F);
    else return static_cast<F>(rounded);
}
#endif

CNNZOO_INLINE float square_root(float x) { return std::sqrt(x); }
CNNZOO_INLINE double square_root(double x) { return std::sqrt(x); }

}  // namespace
}  // namespace cnnzoo

#include "elementary.h"

namespace cnnzoo {
namespace {

// The activation where the number that was drawn is not below the threshold, elsewhere what dropout puts in its place.
template <class F, class Words>
CNNZOO_INLINE F activate_kept(Activation activation, F x, Words drawn, Words threshold) {
    const F nothing = splat<Kin<F>::lanes>(dropped(activation));
    return drawn >= threshold ? activate(activation, x) : nothing;
}
#if defined(__AVX512F__)
// relu(x) is the maximum of 0 and x, in this order: of two zeros and beside a not-a-number the instruction gives x.
CNNZOO_INLINE Floats<16> activate_kept(Activation activation, Floats<16> x, Words<16> drawn, Words<16> threshold) {
    const __mmask16 kept = _mm512_cmpge_epu32_mask(__m512i(drawn), __m512i(threshold));
    if (activation == Activation::relu) return _mm512_maskz_max_ps(kept, Floats<16>{}, x);
    return _mm512_mask_mov_ps(splat<16>(dropped(activation)), kept, activate(activation, x));
}
#endif

}  // namespace
}  // namespace cnnzoo
