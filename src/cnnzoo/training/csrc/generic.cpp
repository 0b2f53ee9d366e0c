// The passes of any network of the family, in plain loops over channels that the compiler can vectorise.
//
// An activation is float [position][channel]; positions are row * side + column.
#include <algorithm>
#include <cmath>
#include <vector>

#include "dropout.h"
#include "network.h"

namespace cnnzoo {
namespace {

constexpr int taps = 9;

// One convolution of one image: its shape, where its variables start, and the maps it makes.
struct Layer {
    int in_side, in_channels, side, channels;
    std::size_t bias, kernel;        // in a row of weights
    std::uint32_t first_word;        // of its dropout mask, among the words of an image
    std::vector<float> map, delta;   // (positions, channels): activations, gradient before activation
    std::vector<float> transposed;   // kernel (9, out, in)
    std::vector<std::uint8_t> kept;  // (positions, channels)

    int positions() const { return side * side; }
    std::size_t kernel_size() const { return static_cast<std::size_t>(taps) * in_channels * channels; }
};

class GenericPasses final : public Passes {
    const Architecture shape;
    std::vector<Layer> layers;
    std::size_t bias_dense, kernel_dense, count;
    std::uint32_t image_words = 0;
    std::vector<float> pooled, score;

    template <class F>
    static void for_each_tap(const Layer& layer, F&& f) {  // f(output position, tap, input position)
        for (int row = 0; row < layer.side; ++row) {
            for (int column = 0; column < layer.side; ++column) {
                for (int tap = 0; tap < taps; ++tap) {
                    f(row * layer.side + column, tap, (2 * row + tap / 3) * layer.in_side + 2 * column + tap % 3);
                }
            }
        }
    }

    void convolve(Layer& layer, const float* weights, const float* in) {
        const int n = layer.channels;
        for (int position = 0; position < layer.positions(); ++position) {
            std::copy_n(weights + layer.bias, n, layer.map.data() + position * n);
        }
        for_each_tap(layer, [&](int position, int tap, int from) {
            float* sums = layer.map.data() + position * n;
            for (int c = 0; c < layer.in_channels; ++c) {
                const float x = in[from * layer.in_channels + c];
                const float* w = weights + layer.kernel + (static_cast<std::size_t>(tap) * layer.in_channels + c) * n;
                for (int k = 0; k < n; ++k) sums[k] += x * w[k];
            }
        });
    }

    void draw(Layer& layer, std::uint32_t image_number, const Dropout& drop) {
        for (int position = 0; position < layer.positions(); ++position) {
            for (int c = 0; c < layer.channels; ++c) {
                const std::uint32_t counter = image_number * image_words + layer.first_word +
                                              static_cast<std::uint32_t>(position / 2 * layer.channels + c);
                const std::uint32_t drawn = word(counter, drop.key);
                layer.kept[position * layer.channels + c] = position % 2 ? keeps_second(drawn, drop.threshold)
                                                                         : keeps_first(drawn, drop.threshold);
            }
        }
    }

    void activate(Layer& layer, const Dropout& drop) {
        for (std::size_t i = 0; i < layer.map.size(); ++i) {
            const float x = layer.map[i];
            const float a = shape.activation == Activation::tanh ? std::tanh(x) : 0.0f > x ? 0.0f : x;
            layer.map[i] = layer.kept[i] ? a * drop.scale : 0.0f;
        }
    }

    void forward(const float* weights, const float* image, std::uint32_t image_number, const Dropout& drop) {
        const float* in = image;
        for (Layer& layer : layers) {
            convolve(layer, weights, in);
            if (drop.threshold) draw(layer, image_number, drop);
            else std::fill(layer.kept.begin(), layer.kept.end(), std::uint8_t{1});
            activate(layer, drop);
            in = layer.map.data();
        }
        std::fill(pooled.begin(), pooled.end(), 0.0f);
        const Layer& last = layers.back();
        for (int position = 0; position < last.positions(); ++position) {
            for (int c = 0; c < last.channels; ++c) pooled[c] += last.map[position * last.channels + c];
        }
        for (float& sum : pooled) sum /= static_cast<float>(last.positions());
        std::copy_n(weights + bias_dense, shape.classes, score.data());
        for (int c = 0; c < last.channels; ++c) {
            for (int k = 0; k < shape.classes; ++k) {
                score[k] += pooled[c] * weights[kernel_dense + c * shape.classes + k];
            }
        }
    }

    void differentiate_loss(int label, float share) {
        const float highest = *std::max_element(score.begin(), score.end());
        float total = 0.0f;
        for (float& s : score) total += s = std::exp(s - highest);
        for (float& s : score) s *= share / total;
        score[label] -= share;
    }

    // Gradient after activation and dropout -> before them, in place.
    void differentiate_activation(Layer& layer, const Dropout& drop) {
        for (std::size_t i = 0; i < layer.map.size(); ++i) {
            const float a = layer.map[i] / drop.scale, d = layer.delta[i] * drop.scale;
            if (shape.activation == Activation::tanh) layer.delta[i] = layer.kept[i] ? d * (1.0f - a * a) : 0.0f;
            else layer.delta[i] = a <= 0.0f ? 0.0f : d;
        }
    }

    void backward_dense(const float* weights, const Dropout& drop, float* gradient) {
        Layer& last = layers.back();
        for (int k = 0; k < shape.classes; ++k) gradient[bias_dense + k] += score[k];
        for (int c = 0; c < last.channels; ++c) {
            float back = 0.0f;
            for (int k = 0; k < shape.classes; ++k) {
                const std::size_t i = kernel_dense + static_cast<std::size_t>(c) * shape.classes + k;
                gradient[i] += pooled[c] * score[k];
                back += weights[i] * score[k];
            }
            back /= static_cast<float>(last.positions());
            for (int position = 0; position < last.positions(); ++position) {
                last.delta[position * last.channels + c] = back;
            }
        }
        differentiate_activation(last, drop);
    }

    void add_kernel_gradient(const Layer& layer, const float* in, float* gradient) {
        const int n = layer.channels;
        for (int position = 0; position < layer.positions(); ++position) {
            for (int k = 0; k < n; ++k) gradient[layer.bias + k] += layer.delta[position * n + k];
        }
        for_each_tap(layer, [&](int position, int tap, int from) {
            const float* delta = layer.delta.data() + position * n;
            for (int c = 0; c < layer.in_channels; ++c) {
                const float x = in[from * layer.in_channels + c];
                float* g = gradient + layer.kernel + (static_cast<std::size_t>(tap) * layer.in_channels + c) * n;
                for (int k = 0; k < n; ++k) g[k] += x * delta[k];
            }
        });
    }

    void input_gradient(const Layer& layer, Layer& below, const Dropout& drop) {
        std::fill(below.delta.begin(), below.delta.end(), 0.0f);
        const int in = layer.in_channels, n = layer.channels;
        for_each_tap(layer, [&](int position, int tap, int from) {
            float* sums = below.delta.data() + from * in;
            for (int k = 0; k < n; ++k) {
                const float d = layer.delta[position * n + k];
                const float* w = layer.transposed.data() + (static_cast<std::size_t>(tap) * n + k) * in;
                for (int c = 0; c < in; ++c) sums[c] += d * w[c];
            }
        });
        differentiate_activation(below, drop);
    }

    void backward(const float* weights, const float* image, const Dropout& drop, float* gradient) {
        backward_dense(weights, drop, gradient);
        for (std::size_t l = layers.size(); l-- > 0;) {
            add_kernel_gradient(layers[l], l ? layers[l - 1].map.data() : image, gradient);
            if (l) input_gradient(layers[l], layers[l - 1], drop);
        }
    }

    void prepare_backward(const float* weights) {
        for (Layer& layer : layers) {
            const int in = layer.in_channels, n = layer.channels;
            for (int tap = 0; tap < taps; ++tap) {
                for (int c = 0; c < in; ++c) {
                    for (int k = 0; k < n; ++k) {
                        layer.transposed[(static_cast<std::size_t>(tap) * n + k) * in + c] =
                            weights[layer.kernel + (static_cast<std::size_t>(tap) * in + c) * n + k];
                    }
                }
            }
        }
    }

    const float* image_at(const Batch& batch, int i) const {
        return batch.images + batch.indices[i] * shape.image_size * shape.image_size;
    }

    void add_penalty(const float* weights, float l2reg, float* gradient) const {
        const auto add = [&](std::size_t start, std::size_t size) {
            for (std::size_t i = start; i < start + size; ++i) gradient[i] += 2.0f * l2reg * weights[i];
        };
        for (const Layer& layer : layers) add(layer.kernel, layer.kernel_size());
        add(kernel_dense, count - kernel_dense);
    }

  public:
    explicit GenericPasses(const Architecture& architecture)
        : shape(architecture), pooled(architecture.units), score(architecture.classes) {
        std::size_t at = 0;
        int side = shape.image_size, in_channels = 1;
        for (int l = 0; l < shape.layers; ++l) {
            Layer layer{};
            layer.in_side = side;
            layer.in_channels = in_channels;
            layer.side = side = (side - 3) / 2 + 1;
            layer.channels = in_channels = shape.units;
            layer.bias = at;
            layer.kernel = at + layer.channels;
            at = layer.kernel + layer.kernel_size();
            layer.first_word = image_words;
            image_words += static_cast<std::uint32_t>((layer.positions() + 1) / 2 * layer.channels);
            const std::size_t size = static_cast<std::size_t>(layer.positions()) * layer.channels;
            layer.map.resize(size);
            layer.delta.resize(size);
            layer.kept.resize(size);
            layer.transposed.resize(layer.kernel_size());
            layers.push_back(std::move(layer));
        }
        bias_dense = at;
        kernel_dense = at + shape.classes;
        count = kernel_dense + static_cast<std::size_t>(in_channels) * shape.classes;
    }

    void gradient(const float* weights, float l2reg, const Dropout& drop, const Batch& batch,
                  float* gradient) override {
        prepare_backward(weights);
        std::fill_n(gradient, count, 0.0f);
        for (int i = 0; i < batch.size; ++i) {
            const float* image = image_at(batch, i);
            forward(weights, image, static_cast<std::uint32_t>(i), drop);
            differentiate_loss(batch.labels[batch.indices[i]], 1.0f / static_cast<float>(batch.size));
            backward(weights, image, drop, gradient);
        }
        add_penalty(weights, l2reg, gradient);
    }

    void logits(const float* weights, const Batch& batch, float* logits) override {
        for (int i = 0; i < batch.size; ++i) {
            forward(weights, image_at(batch, i), 0, Dropout{{0, 0}, 0, 1.0f});
            std::copy(score.begin(), score.end(), logits + static_cast<std::size_t>(i) * shape.classes);
        }
    }
};

}  // namespace

std::unique_ptr<Passes> generic_passes(const Architecture& architecture) {
    return std::make_unique<GenericPasses>(architecture);
}

}  // namespace cnnzoo
