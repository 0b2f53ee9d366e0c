// The counter-based generator of training/dropout.py, which defines it: a word serves two positions of a channel. For CPU
// and GPU alike, as elementary.h.
#pragma once

namespace cnnzoo {
namespace {

constexpr std::uint32_t weyl = 0x9E3779B9u;

template <class Word, class Key>
CNNZOO_INLINE Word exclusive_or(Word a, Word b, Key c) {
    return a ^ b ^ c;
}
#if defined(__AVX512F__) && !defined(__CUDA_ARCH__)
// One instruction.
CNNZOO_INLINE Words<16> exclusive_or(Words<16> a, Words<16> b, Words<16> c) {
    return Words<16>(_mm512_ternarylogic_epi32(__m512i(a), __m512i(b), __m512i(c), 0x96));
}
#endif

// word(c; a, b) with x = c * weyl + a, for one word or a vector of them, with one key or one each.
template <class Word, class Key>
CNNZOO_INLINE Word mix(Word x, Key b) {
    x ^= x >> 16;
    x *= 0x21F0AAADu;
    x = exclusive_or(x, x >> 15, b);
    x *= 0x735A2D97u;
    x ^= x >> 15;
    return x;
}

CNNZOO_INLINE std::uint32_t word(std::uint32_t counter, const std::uint32_t key[2]) {
    return mix(counter * weyl + key[0], key[1]);
}

// A drawn number below the threshold drops its activation. Both thresholds stand in the upper half of a word: the
// lower half of a word is compared after a shift, the upper half as it is (what is below it does not matter).
CNNZOO_INLINE bool keeps_first(std::uint32_t drawn, std::uint32_t threshold) { return (drawn & 0xFFFFu) >= threshold; }
CNNZOO_INLINE bool keeps_second(std::uint32_t drawn, std::uint32_t threshold) { return (drawn >> 16) >= threshold; }

}  // namespace
}  // namespace cnnzoo
