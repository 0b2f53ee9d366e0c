// What the kernels compute: one network on one minibatch. Implemented four times: reference.cpp (plain loops: the
// definition of every bit), tiled.cpp (fast, any shape), fixed.cpp (the published shape, a little faster) and
// interleaved.cpp (narrow shapes, many networks at once). The semantics are those of training/engines/reference.py.
//
// The arithmetic, which every implementation keeps to the bit:
// - A sum is one chain of fused multiply-adds over its terms in the order in which they lie in memory:
//   an output of a layer        starts from its bias, over kernel row, kernel column, input channel;
//   the gradient of an input    starts from zero, over the outputs that see it: row, column, channel;
//   the gradient of a weight    starts from zero, over the images of the minibatch in their order: image, row, column
//                               (of a bias: plain additions).
// - Dropout's scale 1 / (1 - rate) is not applied to activations but to the kernel of the next layer, once a minibatch,
//   and to that kernel's gradient; the dense layer reads sums over positions, so its kernel carries 1 / positions too.
// - exp, tanh and log are those of elementary.h. Nothing else is fused: the module is compiled without contraction.
// - Denormal inputs and results of any operation are zero (threads.h).
// An output belongs to one chain, so who owns outputs needs nobody else's sums: lanes of a vector here, threads of a
// block on a GPU.
//
// Weights lie in one row of P floats in published order: per layer the bias, then the kernel (height, width, in, out).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kinds.h"

namespace cnnzoo {

struct Architecture {
    int image_size;
    int units;
    int layers;
    int classes;
    Activation activation;
};

// A convolution: its shape, where its variables start in a row of weights and its words in an image's dropout mask.
struct Convolution {
    int in_side, in_channels, side, channels;
    std::size_t bias, kernel;
    std::uint32_t first_word;

    int positions() const { return side * side; }
    int inputs() const { return taps * in_channels; }  // of one output
    std::size_t kernel_size() const { return static_cast<std::size_t>(inputs()) * static_cast<std::size_t>(channels); }
    // A word serves two positions of a channel.
    std::uint32_t words() const { return static_cast<std::uint32_t>((positions() + 1) / 2 * channels); }
};

// Where everything of a network lies. `count` (P) is 0 if a layer does not fit the image.
struct Layout {
    std::vector<Convolution> convolutions;
    std::size_t bias = 0, kernel = 0, count = 0;  // of the dense layer; number of parameters
    int inputs = 0, outputs = 0;                  // of the dense layer
    std::uint32_t image_words = 0;

    explicit Layout(const Architecture& architecture);
};

// The images of a minibatch: indices into all images, each `pixels` floats.
struct Batch {
    const float* images;
    const std::uint8_t* labels;
    const std::int64_t* indices;
    int size;
};

// Dropout of one network at one step: the step's key and the smallest 16-bit number that is kept (0: no dropout).
struct Dropout {
    std::uint32_t key[2];
    std::uint32_t threshold;
    float scale;
};

// A network on its way through the passes.
struct Member {
    const float* weights;  // (P)
    float l2reg;
    Dropout dropout;
};

// The passes through networks, with the work space of one thread.
class Passes {
  public:
    virtual ~Passes() = default;

    // gradients (P) of mean cross-entropy + l2reg * sum(kernel^2), for each of `count` networks. Side by side, a part of
    // a group takes as long as a whole one.
    virtual void gradients(const Member* members, int count, const Batch& batch, float* const* gradients) = 0;

    // For each of `count` networks: logits (size, classes) and, unless null, the last feature maps (size, positions,
    // units), without dropout.
    virtual void logits(const Member* members, int count, const Batch& batch, float* const* logits,
                        float* const* maps) = 0;
};

// The passes through one network at a time.
class SinglePasses : public Passes {
    virtual void gradient(const Member& member, const Batch& batch, float* gradient) = 0;
    virtual void logits(const float* weights, const Batch& batch, float* logits, float* maps) = 0;

  public:
    void gradients(const Member* members, int, const Batch& batch, float* const* gradients) final {
        gradient(*members, batch, *gradients);
    }
    void logits(const Member* members, int, const Batch& batch, float* const* logits, float* const* maps) final {
        this->logits(members->weights, batch, *logits, maps ? *maps : nullptr);
    }
};

// The passes for one shape alone: for an architecture that has them.
bool has_fixed_passes(const Architecture& architecture);
std::unique_ptr<Passes> fixed_passes(const Architecture& architecture);
std::unique_ptr<Passes> tiled_passes(const Architecture& architecture);
std::unique_ptr<Passes> interleaved_passes(const Architecture& architecture);
std::unique_ptr<Passes> reference_passes(const Architecture& architecture);

}  // namespace cnnzoo
