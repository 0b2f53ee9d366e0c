// What the kernels compute: one network on one minibatch. Implemented twice: fixed.cpp (16 channels, 3 layers, 28x28
// or 32x32 pixels, fast) and generic.cpp (anything, plain loops). The semantics are those of engines/reference.py.
//
// Weights lie in one row of P floats in published order: per layer the bias, then the kernel (height, width, in, out).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace cnnzoo {

enum class Activation { relu, tanh };
enum class Optimizer { sgd, rmsprop, adam };

struct Architecture {
    int image_size;
    int units;
    int layers;
    int classes;
    Activation activation;
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

// The passes through a network, with the work space of one thread.
class Passes {
  public:
    virtual ~Passes() = default;

    // gradient (P) of mean cross-entropy + l2reg * sum(kernel^2).
    virtual void gradient(const float* weights, float l2reg, const Dropout& dropout, const Batch& batch,
                          float* gradient) = 0;

    // logits (size, classes), without dropout.
    virtual void logits(const float* weights, const Batch& batch, float* logits) = 0;
};

// The fast passes, or nullptr where they do not fit the architecture.
std::unique_ptr<Passes> fixed_passes(const Architecture& architecture);
std::unique_ptr<Passes> generic_passes(const Architecture& architecture);

// Number of parameters P, or 0 if a layer does not fit the image.
std::size_t parameters(const Architecture& architecture);

}  // namespace cnnzoo
