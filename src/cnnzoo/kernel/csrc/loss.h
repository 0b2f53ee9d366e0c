// The gradient of the loss for a block of images at once, a lane of a vector each: what differentiate_loss gives for one
// after the other, without waiting for one exponential after the other.
#pragma once

#include <algorithm>

#include "arithmetic.h"
#include "simd.h"

namespace cnnzoo {
namespace {

// Scores of `width` images, or of as many networks: [class][lane].
template <int width>
struct VectorScores {
    float* at;
    Floats<width> get(int k) const { return load<width>(at + k * width); }
    void set(int k, Floats<width> x) const { store<width>(at + k * width, x); }
};

class LossGradient {
    static constexpr int width = lanes < 8 ? lanes : 8;  // images at once
    using Vec = Floats<width>;

    const int classes;
    Buffer table;  // [class][image]

  public:
    explicit LossGradient(int classes) : classes(classes), table(static_cast<std::size_t>(classes * width)) {}

    // Replaces the logits of `images` images, `stride` floats from one to the next, by the gradient of the mean
    // cross-entropy; `share` is 1 / size of the minibatch, label(i) the label of image i.
    template <class Label>
    void differentiate(float* scores, std::ptrdiff_t stride, int images, float share, const Label& label) {
        for (int first = 0; first < images; first += width) {
            float* of[width];  // idle lanes repeat the last image
            for (int i = 0; i < width; ++i) of[i] = scores + std::min(first + i, images - 1) * stride;
            for (int k = 0; k < classes; ++k) {
                for (int i = 0; i < width; ++i) table[static_cast<std::size_t>(k * width + i)] = of[i][k];
            }
            softmax<Vec>(VectorScores<width>{table.data()}, classes, share);
            for (int k = 0; k < classes; ++k) {
                for (int i = 0; i < width; ++i) of[i][k] = table[static_cast<std::size_t>(k * width + i)];
            }
            for (int i = first; i < std::min(first + width, images); ++i) scores[i * stride + label(i)] -= share;
        }
    }
};

}  // namespace
}  // namespace cnnzoo
