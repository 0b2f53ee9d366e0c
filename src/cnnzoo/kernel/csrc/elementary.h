// The elementary functions of the kernels, with every operation fixed: the same bits on every processor.
//
// Each is written once, for a float or a vector of floats, on a CPU or a GPU: whoever includes this defines Kin, bits_of,
// fused and square_root (arithmetic.h, block.cu) and compiles without contraction, so that what is not written as `fused`
// is rounded at each step.
#pragma once

#include "kinds.h"

namespace cnnzoo {
namespace {

// exp(x) for x <= 0, that of -87 below it; within 1.3 ulp; NaN stays NaN. Cody and Waite reduction, degree 6 (Cephes).
template <class F>
CNNZOO_INLINE F exp_nonpositive(F x) {
    typedef typename Kin<F>::Words Words;
    const F zero{}, lowest = zero - 87.0f;
    x = lowest > x ? lowest : x;
    const F magic = zero + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    const F shifted = fused(x, zero + 1.44269504f, magic);
    const F n = shifted - magic;
    F r = fused(n, zero - 0.693359375f, x);
    r = fused(n, zero + 2.12194440e-4f, r);
    F p = zero + 1.9875691500e-4f;
    for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) {
        p = fused(p, r, zero + c);
    }
    p = fused(p, r * r, r + 1.0f);
    const Words exponent = (bits_of<Words>(shifted) - 0x4B400000u + 127u) << 23;
    return p * bits_of<F>(exponent);
}

// tanh(x) within 4.7 ulp (measured against double precision); NaN stays NaN. x times a rational function of x*x, with
// the coefficients of Eigen's ptanh.
template <class F>
CNNZOO_INLINE F tanh(F x) {
    const F zero{}, highest = zero + 7.90531110763549805f;
    F c = highest < x ? highest : x;
    c = -highest > c ? -highest : c;
    const F s = c * c;
    F p = zero - 2.76076847742355e-16f, q = zero + 1.19825839466702e-06f;
    for (float a : {2.00018790482477e-13f, -8.60467152213735e-11f, 5.12229709037114e-08f, 1.48572235717979e-05f,
                    6.37261928875436e-04f, 4.89352455891786e-03f}) {
        p = fused(p, s, zero + a);
    }
    for (float b : {1.18534705686654e-04f, 2.26843463243900e-03f, 4.89352518554385e-03f}) q = fused(q, s, zero + b);
    return c * p / q;
}

// The activation function. tanh is never -0: that marks what was dropped, see `before_activation`.
template <class F>
CNNZOO_INLINE F activate(Activation activation, F x) {
    if (activation == Activation::tanh) return tanh(x) + 0.0f;
    return F{} > x ? F{} : x;
}

// What dropout puts in the place of an activation.
CNNZOO_INLINE float dropped(Activation activation) { return activation == Activation::tanh ? -0.0f : 0.0f; }

// Gradient before activation and dropout, from the gradient after them and the activation `after` itself.
template <class F>
CNNZOO_INLINE F before_activation(Activation activation, F after, F gradient) {
    typedef typename Kin<F>::Words Words;
    const F zero{};
    if (activation == Activation::relu) return after <= zero ? zero : gradient;
    return bits_of<Words>(after) == Words{} + 0x80000000u ? zero : gradient * fused(-after, after, zero + 1.0f);
}

// The logits of an image, or of several images in the lanes of vectors (loss.h), by class.
struct Scores {
    float* at;
    CNNZOO_FUNCTION float get(int k) const { return at[k]; }
    CNNZOO_FUNCTION void set(int k, float x) const { at[k] = x; }
};

// Replaces logits, F each, by their softmax times `share`.
template <class F, class Table>
CNNZOO_FUNCTION void softmax(const Table& scores, int classes, float share) {
    F highest = scores.get(0), total{};
    for (int k = 1; k < classes; ++k) highest = highest < scores.get(k) ? scores.get(k) : highest;
    for (int k = 0; k < classes; ++k) scores.set(k, exp_nonpositive<F>(scores.get(k) - highest));
    for (int k = 0; k < classes; ++k) total += scores.get(k);
    const F factor = share / total;
    for (int k = 0; k < classes; ++k) scores.set(k, scores.get(k) * factor);
}

// Replaces logits by the gradient of the mean cross-entropy; `share` is 1 / size of the minibatch.
template <class F, class Table>
CNNZOO_FUNCTION void differentiate_loss(const Table& scores, int classes, int label, float share) {
    softmax<F>(scores, classes, share);
    scores.set(label, scores.get(label) - share);
}

// log(x) of a finite x >= 1, within 1 ulp; NaN stays NaN. Source: fdlibm, e_log.c.
CNNZOO_FUNCTION double log_of_total(double x) {
    constexpr double largest = 1.7976931348623157e308;
    if (!(x >= 1.0 && x <= largest)) return x - x;
    const std::uint64_t bits = bits_of<std::uint64_t>(x);
    int exponent = static_cast<int>(bits >> 52) - 1022;
    double mantissa = bits_of<double>((bits & 0x000FFFFFFFFFFFFFu) | 0x3FE0000000000000u);  // in [1/2, 1)
    if (mantissa < 0.70710678118654752440) mantissa *= 2.0, --exponent;
    const double f = mantissa - 1.0, s = f / (2.0 + f), z = s * s, w = z * z, half = 0.5 * f * f, k = exponent;
    const double even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
    const double odd = z * (6.666666666666735130e-01 +
                            w * (2.857142874366239149e-01 +
                                 w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
    return k * 6.93147180369123816490e-01 - ((half - (s * (half + even + odd) + k * 1.90821492927058770002e-10)) - f);
}

// base^exponent by repeated squaring.
CNNZOO_FUNCTION double power(double base, std::uint32_t exponent) {
    double result = 1.0;
    for (; exponent; exponent >>= 1, base *= base) {
        if (exponent & 1u) result *= base;
    }
    return result;
}

// The class of the highest score; a not-a-number counts as the highest, as in torch.
CNNZOO_FUNCTION int argmax(const float* scores, int classes) {
    int best = 0;
    for (int k = 1; k < classes; ++k) {
        if (!(scores[k] <= scores[best]) && scores[best] == scores[best]) best = k;
    }
    return best;
}

CNNZOO_FUNCTION double cross_entropy(const float* scores, int classes, int label) {
    float highest = scores[0];
    for (int k = 1; k < classes; ++k) highest = highest < scores[k] ? scores[k] : highest;
    double total = 0.0;
    for (int k = 0; k < classes; ++k) {
        total += exp_nonpositive(static_cast<float>(scores[k] - static_cast<double>(highest)));
    }
    return log_of_total(total) + static_cast<double>(highest) - scores[label];
}

}  // namespace
}  // namespace cnnzoo
