// The counter-based generator of training/dropout.py, which defines it: a word serves two positions of a channel. For CPU
// and GPU alike, as elementary.h.
#pragma once

namespace cnnzoo {
namespace {

constexpr std::uint32_t weyl = 0x9E3779B9u;

// word(c; a, b) with x = c * weyl + a, for one word or a vector of them.
template <class Word>
CNNZOO_INLINE Word mix(Word x, std::uint32_t b) {
    x ^= x >> 16;
    x *= 0x21F0AAADu;
    x ^= x >> 15;
    x ^= b;
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
