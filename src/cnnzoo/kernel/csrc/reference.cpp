// The definition of the arithmetic (network.h) in plain loops: what every other kernel must give, to the bit. Slow.
//
// An activation is float [position][channel]; positions are row * side + column.
#include <algorithm>
#include <vector>

#include "arithmetic.h"
#include "dropout.h"
#include "network.h"

namespace cnnzoo {
namespace {

using std::size_t;

class ReferencePasses final : public SinglePasses {
    const Architecture shape;
    const Layout layout;
    std::vector<std::vector<float>> maps, deltas, kernels;  // activations, gradients before them, scaled kernels
    std::vector<float> pooled, dense, score, sums;          // `dense`: its scaled kernel; `sums`: gradients (P)

    // f(output row, output column, input position, tap) for every tap of every output in the order of the sums.
    template <class F>
    static void for_each_tap(const Convolution& layer, F&& f) {
        for (int row = 0; row < layer.side; ++row) {
            for (int column = 0; column < layer.side; ++column) {
                for (int tap = 0; tap < taps; ++tap) {
                    const int y = step * row + tap / kernel_side, x = step * column + tap % kernel_side;
                    f(row * layer.side + column, y * layer.in_side + x, tap);
                }
            }
        }
    }

    float dense_scale(const Dropout& drop) const {
        return drop.scale / static_cast<float>(layout.convolutions.back().positions());
    }

    void prepare(const float* weights, const Dropout& drop) {
        for (size_t l = 0; l < maps.size(); ++l) {
            const Convolution& layer = layout.convolutions[l];
            const float scale = l ? drop.scale : 1.0f;
            for (size_t i = 0; i < layer.kernel_size(); ++i) kernels[l][i] = weights[layer.kernel + i] * scale;
        }
        for (size_t i = 0; i < dense.size(); ++i) dense[i] = weights[layout.kernel + i] * dense_scale(drop);
    }

    void convolve(size_t l, const float* bias, const float* in) {
        const Convolution& layer = layout.convolutions[l];
        const int n = layer.channels;
        for (int position = 0; position < layer.positions(); ++position) {
            std::copy_n(bias, n, maps[l].data() + position * n);
        }
        for_each_tap(layer, [&](int position, int from, int tap) {
            for (int c = 0; c < layer.in_channels; ++c) {
                const float x = in[from * layer.in_channels + c];
                const float* w = kernels[l].data() + (tap * layer.in_channels + c) * n;
                float* sums_of = maps[l].data() + position * n;
                for (int k = 0; k < n; ++k) sums_of[k] = fused(x, w[k], sums_of[k]);
            }
        });
    }

    bool kept(const Convolution& layer, int position, int channel, std::uint32_t image, const Dropout& drop) const {
        if (!drop.threshold) return true;
        const std::uint32_t counter = image * layout.image_words + layer.first_word +
                                      static_cast<std::uint32_t>(position / 2 * layer.channels + channel);
        const std::uint32_t drawn = word(counter, drop.key);
        return position % 2 ? keeps_second(drawn, drop.threshold) : keeps_first(drawn, drop.threshold);
    }

    void forward(const float* weights, const float* image, std::uint32_t number, const Dropout& drop) {
        const float* in = image;
        for (size_t l = 0; l < maps.size(); ++l) {
            const Convolution& layer = layout.convolutions[l];
            convolve(l, weights + layer.bias, in);
            for (int position = 0; position < layer.positions(); ++position) {
                for (int c = 0; c < layer.channels; ++c) {
                    float& a = maps[l][static_cast<size_t>(position * layer.channels + c)];
                    const bool keep = kept(layer, position, c, number, drop);
                    a = keep ? activate(shape.activation, a) : dropped(shape.activation);
                }
            }
            in = maps[l].data();
        }
        for (int c = 0; c < layout.inputs; ++c) {
            const float* a = maps.back().data() + c;
            float sum = *a;
            for (int position = 1; position < layout.convolutions.back().positions(); ++position) {
                sum += a[position * layout.inputs];
            }
            pooled[static_cast<size_t>(c)] = sum;
        }
        for (int k = 0; k < layout.outputs; ++k) {
            float sum = weights[layout.bias + static_cast<size_t>(k)];
            for (int c = 0; c < layout.inputs; ++c) {
                sum = fused(pooled[static_cast<size_t>(c)], dense[static_cast<size_t>(c * layout.outputs + k)], sum);
            }
            score[static_cast<size_t>(k)] = sum;
        }
    }

    void backward_dense() {
        for (size_t k = 0; k < score.size(); ++k) sums[layout.bias + k] += score[k];
        const Convolution& last = layout.convolutions.back();
        for (int c = 0; c < layout.inputs; ++c) {
            float back = 0.0f;
            for (int k = 0; k < layout.outputs; ++k) {
                const size_t i = static_cast<size_t>(c * layout.outputs + k);
                float& sum = sums[layout.kernel + i];
                sum = fused(pooled[static_cast<size_t>(c)], score[static_cast<size_t>(k)], sum);
                back = fused(score[static_cast<size_t>(k)], dense[i], back);
            }
            for (int position = 0; position < last.positions(); ++position) {
                const size_t i = static_cast<size_t>(position * last.channels + c);
                deltas.back()[i] = before_activation(shape.activation, maps.back()[i], back);
            }
        }
    }

    void add_gradient(size_t l, const float* in) {
        const Convolution& layer = layout.convolutions[l];
        const int n = layer.channels;
        for (int position = 0; position < layer.positions(); ++position) {
            const float* delta = deltas[l].data() + position * n;
            for (int k = 0; k < n; ++k) sums[layer.bias + static_cast<size_t>(k)] += delta[k];
        }
        for_each_tap(layer, [&](int position, int from, int tap) {
            const float* delta = deltas[l].data() + position * n;
            for (int c = 0; c < layer.in_channels; ++c) {
                const float x = in[from * layer.in_channels + c];
                float* sums_of = sums.data() + layer.kernel + (tap * layer.in_channels + c) * n;
                for (int k = 0; k < n; ++k) sums_of[k] = fused(x, delta[k], sums_of[k]);
            }
        });
    }

    // An input that no output sees (the last row and column of an even side) has the gradient zero.
    void input_gradient(size_t l) {
        const Convolution& layer = layout.convolutions[l];
        std::vector<float>& below = deltas[l - 1];
        std::vector<bool> seen(below.size(), false);
        std::fill(below.begin(), below.end(), 0.0f);
        for_each_tap(layer, [&](int position, int from, int tap) {
            for (int c = 0; c < layer.in_channels; ++c) {
                const size_t i = static_cast<size_t>(from * layer.in_channels + c);
                seen[i] = true;
                const float* w = kernels[l].data() + (tap * layer.in_channels + c) * layer.channels;
                const float* delta = deltas[l].data() + position * layer.channels;
                for (int k = 0; k < layer.channels; ++k) below[i] = fused(delta[k], w[k], below[i]);
            }
        });
        for (size_t i = 0; i < below.size(); ++i) {
            below[i] = seen[i] ? before_activation(shape.activation, maps[l - 1][i], below[i]) : 0.0f;
        }
    }

    // The sums as a gradient: with dropout's scale, which the passes left out of kernels' gradients, and the L2 term.
    void finish(const float* weights, float l2reg, const Dropout& drop, float* gradient) const {
        std::copy(sums.begin(), sums.end(), gradient);
        const auto finish_kernel = [&](size_t start, size_t size, float scale) {
            for (size_t i = start; i < start + size; ++i) gradient[i] = sums[i] * scale + 2.0f * l2reg * weights[i];
        };
        for (size_t l = 0; l < maps.size(); ++l) {
            const Convolution& layer = layout.convolutions[l];
            finish_kernel(layer.kernel, layer.kernel_size(), l ? drop.scale : 1.0f);
        }
        finish_kernel(layout.kernel, dense.size(), dense_scale(drop));
    }

    const float* image_at(const Batch& batch, int i) const {
        return batch.images + batch.indices[i] * shape.image_size * shape.image_size;
    }

  public:
    explicit ReferencePasses(const Architecture& architecture) : shape(architecture), layout(architecture) {
        for (const Convolution& layer : layout.convolutions) {
            maps.emplace_back(static_cast<size_t>(layer.positions() * layer.channels));
            kernels.emplace_back(layer.kernel_size());
        }
        deltas = maps;
        pooled.resize(static_cast<size_t>(layout.inputs));
        score.resize(static_cast<size_t>(layout.outputs));
        dense.resize(pooled.size() * score.size());
        sums.resize(layout.count);
    }

    void gradient(const Member& member, const Batch& batch, float* gradient) override {
        const float* weights = member.weights;
        const Dropout& drop = member.dropout;
        prepare(weights, drop);
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int i = 0; i < batch.size; ++i) {
            const float* image = image_at(batch, i);
            forward(weights, image, static_cast<std::uint32_t>(i), drop);
            differentiate_loss<float>(Scores{score.data()}, layout.outputs, batch.labels[batch.indices[i]],
                               1.0f / static_cast<float>(batch.size));
            backward_dense();
            for (size_t l = maps.size(); l-- > 0;) {
                add_gradient(l, l ? maps[l - 1].data() : image);
                if (l) input_gradient(l);
            }
        }
        finish(weights, member.l2reg, drop, gradient);
    }

    void logits(const float* weights, const Batch& batch, float* logits, float* last) override {
        const Dropout none{{0, 0}, 0, 1.0f};
        prepare(weights, none);
        for (int i = 0; i < batch.size; ++i) {
            forward(weights, image_at(batch, i), 0, none);
            std::copy(score.begin(), score.end(), logits + static_cast<size_t>(i) * score.size());
            if (last) last = std::copy(maps.back().begin(), maps.back().end(), last);
        }
    }
};

}  // namespace

std::unique_ptr<Passes> reference_passes(const Architecture& architecture) {
    return std::make_unique<ReferencePasses>(architecture);
}

}  // namespace cnnzoo
