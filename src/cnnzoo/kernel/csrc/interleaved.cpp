// The fast passes for narrow networks, as many at once as a vector has lanes: a vector holds one number of each, so that
// a few channels fill the registers as well as many.
//
// Networks of a cohort read the same images, so a pixel is a broadcast; everything else is a vector of its own: an
// activation is Vec [image][position][channel], a kernel Vec [tap][input channel][output channel]. Two kernels do nearly
// all the work:
// - sum_tile: some channels of some positions at a time: forward, and back to the inputs;
// - outer_product_tile: some inputs of a kernel x some output channels, summed over a block of images.
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "arithmetic.h"
#include "dropout.h"
#include "loss.h"
#include "network.h"
#include "simd.h"

namespace cnnzoo {
namespace {

using std::ptrdiff_t;
using std::size_t;

using Vec = Floats<lanes>;
using Word = Words<lanes>;
CNNZOO_INLINE Vec load(const float* from) { return load<lanes>(from); }
CNNZOO_INLINE void store(float* to, Vec value) { store<lanes>(to, value); }

// Register tiles: accumulators, the operands beside them, and no more pointers than there are registers for.
constexpr int most_channels = registers == 32 ? 4 : 2;
constexpr int outputs_of_tile(int channels) { return registers == 32 && channels < 4 ? 8 : 6; }  // even: dropout's pairs
constexpr int inputs_of_tile = 2 * kernel_side;

// Images between two visits of a kernel's gradient: more save loads and stores of sums, fewer stay in the cache.
constexpr int most_images = 8;
constexpr int images_of_block(int units) { return units > 4 ? 4 : most_images; }

// Calls f(first channel, Constant<count>) for groups of channels, as even as they can be.
template <class F>
CNNZOO_INLINE void in_channels(int channels, F&& f) {
    for (int at = 0; at < channels;) {
        const int left = channels - at, groups = (left + most_channels - 1) / most_channels;
        const int count = (left + groups - 1) / groups;
        if (count == 1) f(at, Constant<1>{});
        else if (count == 2 || most_channels < 3) f(at, Constant<2>{});
        else if (count == 3) f(at, Constant<std::min(3, most_channels)>{});
        else f(at, Constant<most_channels>{});
        at += count;
    }
}

// Outputs that meet the same taps in the same order. Offsets are in floats.
struct Pattern {
    struct Term {
        ptrdiff_t input, weights;
    };
    struct Output {
        ptrdiff_t input, output;
        int position;
    };
    std::vector<Term> terms;
    std::vector<Output> outputs;
};

// Sums over terms and their channels, which lie side by side in the inputs. Strides are in floats.
struct Product {
    const float *in, *weights;
    int depth;  // channels of a term
    ptrdiff_t depth_stride, output_stride;  // of the weights
};

// What `count` vectors of some outputs become: sums[output][channel], of the pattern's outputs from `output` on.
template <bool pixels, int channels, int outputs, class Finish>
CNNZOO_INLINE void sum_tile(const Product& product, const Pattern& pattern, const Pattern::Output* const* output,
                            const Vec* start, ptrdiff_t channel, Finish&& finish) {
    const float* x[outputs];
    unroll<outputs>([&](auto n) CNNZOO_LAMBDA { x[n] = product.in + output[n]->input; });
    Vec sums[outputs][channels];
    unroll<outputs * channels>([&](auto n) CNNZOO_LAMBDA { sums[n / channels][n % channels] = start[n % channels]; });
    const float* weights = product.weights + channel * product.output_stride;
    const auto add = [&](const float* w, ptrdiff_t from) CNNZOO_LAMBDA {
        Vec row[channels];
        unroll<channels>([&](auto k) CNNZOO_LAMBDA { row[k] = load(w + k * product.output_stride); });
        unroll<outputs>([&](auto n) CNNZOO_LAMBDA {
            const Vec value = pixels ? splat<lanes>(x[n][from]) : load(x[n] + from);
            unroll<channels>([&](auto k) CNNZOO_LAMBDA { sums[n][k] = fused(value, row[k], sums[n][k]); });
        });
    };
    for (const Pattern::Term& term : pattern.terms) {
        if constexpr (pixels) {
            add(weights + term.weights, term.input);
        } else {
            const float* w = weights + term.weights;
            for (int d = 0; d < product.depth; ++d, w += product.depth_stride) add(w, term.input + d * lanes);
        }
    }
    finish(sums);
}

// Calls f(Constant<outputs>, outputs of a tile) until the first `count` outputs had their turn; the last tile may repeat
// the last of them.
template <int outputs, class F>
CNNZOO_INLINE void in_tiles(const Pattern& pattern, size_t count, F&& f) {
    const Pattern::Output* at = pattern.outputs.data();
    const Pattern::Output* end = at + count;
    const auto tile = [&](auto count) CNNZOO_LAMBDA {
        const Pattern::Output* output[count];
        unroll<count>([&](auto n) CNNZOO_LAMBDA { output[n] = at + n < end ? at + n : end - 1; });
        f(count, output);
        at += count;
    };
    while (end - at >= outputs) tile(Constant<outputs>{});
    while (at < end) tile(Constant<2>{});
}

// The dropout of each network at one step.
struct Masks {
    Word key[2], threshold;  // << 16
    bool any;
};

// A convolution with its maps, for a block of images. Of the networks' numbers, `lanes` each.
struct InterleavedConvolution {
    const Convolution shape;
    const bool first_layer;
    const int images;            // of a block
    const ptrdiff_t position;    // floats of a position of the map
    const ptrdiff_t image_size;  // floats of an image's map: an even number of positions
    Pattern forward;                // of one image
    std::vector<Pattern> backward;  // of a block of images, one image after the other
    Buffer map, delta;

    InterleavedConvolution(const Convolution& shape, const InterleavedConvolution* below, int images)
        : shape(shape),
          first_layer(!below),
          images(images),
          position(static_cast<ptrdiff_t>(shape.channels) * lanes),
          image_size((shape.positions() + 1) / 2 * 2 * position),
          map(static_cast<size_t>(images * image_size)),
          delta(map.size()) {
        for (int tap = 0; tap < taps; ++tap) {
            const int input = tap / kernel_side * shape.in_side + tap % kernel_side;
            forward.terms.push_back({input * in_position(), tap * tap_size()});
        }
        // The pairs that dropout draws for lie in one tile, so the second of the last pair is made too.
        for (int at = 0; at < (shape.positions() + 1) / 2 * 2; ++at) {
            const int real = std::min(at, shape.positions() - 1);
            const int input = real / shape.side * step * shape.in_side + real % shape.side * step;
            forward.outputs.push_back({input * in_position(), at * position, at});
        }
        if (below) find_backward(below->image_size);
    }

    // Inputs by what sees them. The last row and column of an even side are seen by no output: their gradient stays zero.
    void find_backward(ptrdiff_t below_size) {
        const int seen = step * shape.side + 1;
        for (int y = 0; y < seen; ++y) {
            for (int x = 0; x < seen; ++x) {
                const int from = y / step * shape.side + x / step, at = y * shape.in_side + x;
                std::vector<Pattern::Term> terms;
                for_each_output(y, [&](int row, int ky) {
                    for_each_output(x, [&](int column, int kx) {
                        terms.push_back({(row * shape.side + column - from) * position,
                                         (ky * kernel_side + kx) * tap_size()});
                    });
                });
                const auto same = [&](const Pattern& pattern) {
                    const auto equal = [](const Pattern::Term& a, const Pattern::Term& b) {
                        return a.input == b.input && a.weights == b.weights;
                    };
                    return std::equal(terms.begin(), terms.end(), pattern.terms.begin(), pattern.terms.end(), equal);
                };
                auto found = std::find_if(backward.begin(), backward.end(), same);
                if (found == backward.end()) found = backward.insert(found, Pattern{terms, {}});
                found->outputs.push_back({from * position, at * in_position(), at});
            }
        }
        for (Pattern& pattern : backward) {
            const std::vector<Pattern::Output> first = pattern.outputs;
            for (int image = 1; image < images; ++image) {
                for (const Pattern::Output& output : first) {
                    const ptrdiff_t input = output.input + image * image_size, to = output.output + image * below_size;
                    pattern.outputs.push_back({input, to, output.position});
                }
            }
        }
    }

    // f(output, kernel offset) for the outputs that see an input, along one axis, in order.
    template <class F>
    void for_each_output(int input, F&& f) const {
        for (int k = kernel_side - 1; k >= 0; --k) {
            const int output = (input - k) / step;
            if (input >= k && (input - k) % step == 0 && output < shape.side) f(output, k);
        }
    }

    // Floats of a position of the inputs (pixels are the same for all networks) and of a tap of the kernel.
    ptrdiff_t in_position() const { return static_cast<ptrdiff_t>(shape.in_channels) * (first_layer ? 1 : lanes); }
    ptrdiff_t tap_size() const { return shape.in_channels * position; }
    float* map_of(int image) { return map.data() + image * image_size; }
    float* delta_of(int image) { return delta.data() + image * image_size; }
};

// Activations of one image. `start` is the counter of the layer's first word in the image.
template <bool pixels, Activation activation>
__attribute__((noinline)) void convolve(InterleavedConvolution& layer, const float* in, const float* weights,
                                        const float* bias, const Masks& masks, std::uint32_t start, float* out) {
    const Convolution& shape = layer.shape;
    const Product product{in, weights, shape.in_channels, layer.position, lanes};
    in_channels(shape.channels, [&](int channel, auto channels) CNNZOO_LAMBDA {
        Vec from[channels];
        unroll<channels>([&](auto k) CNNZOO_LAMBDA { from[k] = load(bias + (channel + k) * lanes); });
        in_tiles<outputs_of_tile(channels)>(layer.forward, layer.forward.outputs.size(), [&](auto outputs, auto& output) CNNZOO_LAMBDA {
            const auto finish = [&](auto& sums) CNNZOO_LAMBDA {
                float* to = out + output[0]->output + channel * lanes;
                const int first = output[0]->position / 2 * shape.channels + channel;
                std::uint32_t counter = (start + static_cast<std::uint32_t>(first)) * weyl;
                unroll<outputs / 2>([&](auto pair) CNNZOO_LAMBDA {
                    unroll<channels>([&](auto k) CNNZOO_LAMBDA {
                        const Vec one = sums[2 * pair][k], two = sums[2 * pair + 1][k];
                        float* second = to + layer.position;
                        if (masks.any) {
                            const Word drawn = mix(masks.key[0] + (counter + k * weyl), masks.key[1]);
                            store(to + k * lanes, activate_kept(activation, one, drawn << 16, masks.threshold));
                            store(second + k * lanes, activate_kept(activation, two, drawn, masks.threshold));
                        } else {
                            store(to + k * lanes, activate(activation, one));
                            store(second + k * lanes, activate(activation, two));
                        }
                    });
                    to += 2 * layer.position;
                    counter += static_cast<std::uint32_t>(shape.channels) * weyl;
                });
            };
            sum_tile<pixels, channels, outputs>(product, layer.forward, output, from, channel, finish);
        });
    });
}

// Gradient before activation of the map below, for `images` images.
template <Activation activation>
__attribute__((noinline)) void input_gradient(InterleavedConvolution& layer, const float* weights, int images,
                                              InterleavedConvolution& below) {
    const Vec zeros[most_channels] = {};
    const Product product{layer.delta.data(), weights, layer.shape.channels, lanes, layer.position};
    for (const Pattern& pattern : layer.backward) {
        const size_t count = pattern.outputs.size() / static_cast<size_t>(layer.images) * static_cast<size_t>(images);
        in_channels(below.shape.channels, [&](int channel, auto channels) CNNZOO_LAMBDA {
            const float* map = below.map.data() + channel * lanes;
            float* delta = below.delta.data() + channel * lanes;
            in_tiles<outputs_of_tile(channels)>(pattern, count, [&](auto outputs, auto& output) CNNZOO_LAMBDA {
                const auto finish = [&](auto& sums) CNNZOO_LAMBDA {
                    unroll<outputs>([&](auto n) CNNZOO_LAMBDA {
                        const ptrdiff_t at = output[n]->output;
                        unroll<channels>([&](auto k) CNNZOO_LAMBDA {
                            const Vec after = load(map + at + k * lanes);
                            store(delta + at + k * lanes, before_activation(activation, after, sums[n][k]));
                        });
                    });
                };
                sum_tile<false, channels, outputs>(product, pattern, output, zeros, channel, finish);
            });
        });
    }
}

// Where an outer_product_tile runs.
struct Walk {
    const float* const* in;  // images
    const float* deltas;
    int images, side;
    ptrdiff_t in_line, in_column, line, column, image;  // strides in floats: of the inputs, of the deltas
};

// Adds input x delta to rows * inputs gradients of some channels, and delta to a bias's. The inputs of a row lie side by
// side; the first is `from` floats into an image.
template <bool pixels, int rows, int inputs, int channels, bool with_bias>
__attribute__((noinline)) void outer_product_tile(const Walk& walk, ptrdiff_t from, ptrdiff_t in_row, int channel,
                                                  float* gradient, ptrdiff_t gradient_row, float* bias) {
    constexpr int count = rows * inputs, grain = pixels ? 1 : lanes;
    Vec sums[count][channels], total[channels];
    if constexpr (with_bias) {
        unroll<channels>([&](auto k) CNNZOO_LAMBDA { total[k] = load(bias + k * lanes); });
    }
    unroll<count * channels>([&](auto n) CNNZOO_LAMBDA {
        sums[n / channels][n % channels] = load(gradient + n / channels * gradient_row + n % channels * lanes);
    });
    for (int image = 0; image < walk.images; ++image) {
        for (int row = 0; row < walk.side; ++row) {
            const float* x = walk.in[image] + from + row * walk.in_line;
            const float* delta = walk.deltas + image * walk.image + row * walk.line + channel * lanes;
#pragma GCC unroll 1
            for (int column = 0; column < walk.side; ++column, x += walk.in_column, delta += walk.column) {
                Vec d[channels];
                unroll<channels>([&](auto k) CNNZOO_LAMBDA {
                    d[k] = load(delta + k * lanes);
                    if constexpr (with_bias) total[k] += d[k];
                });
                unroll<count>([&](auto n) CNNZOO_LAMBDA {
                    const float* at = x + n / inputs * in_row + n % inputs * grain;
                    const Vec value = pixels ? splat<lanes>(*at) : load(at);
                    unroll<channels>([&](auto k) CNNZOO_LAMBDA { sums[n][k] = fused(value, d[k], sums[n][k]); });
                });
            }
        }
    }
    unroll<count * channels>([&](auto n) CNNZOO_LAMBDA {
        store(gradient + n / channels * gradient_row + n % channels * lanes, sums[n / channels][n % channels]);
    });
    if constexpr (with_bias) {
        unroll<channels>([&](auto k) CNNZOO_LAMBDA { store(bias + k * lanes, total[k]); });
    }
}

class InterleavedPasses final : public Passes {
    const Architecture shape;
    const Layout layout;
    const int block;
    std::vector<InterleavedConvolution> layers;
    Buffer scaled, sums;   // weights as the passes want them, gradients: Vec (P)
    Buffer pooled, score;  // Vec (block, C), Vec (block, K): logits, then their gradient
    Masks masks{};
    Vec scale{}, l2reg{};

    Vec dense_scale() const { return scale / static_cast<float>(layout.convolutions.back().positions()); }

    // f(first weight, count, scale) for the kernels.
    template <class F>
    void for_each_kernel(F&& f) const {
        for (const InterleavedConvolution& layer : layers) {
            f(layer.shape.kernel, layer.shape.kernel_size(), layer.first_layer ? splat<lanes>(1.0f) : scale);
        }
        f(layout.kernel, layout.count - layout.kernel, dense_scale());
    }

    float* weight(size_t index) { return scaled.data() + index * lanes; }
    float* sum(size_t index) { return sums.data() + index * lanes; }

    void prepare(const Member* members, int count) {
        masks.any = false;
        for (int lane = 0; lane < lanes; ++lane) {  // idle lanes repeat the last network
            const Member& member = members[std::min(lane, count - 1)];
            for (int i = 0; i < 2; ++i) masks.key[i][lane] = member.dropout.key[i];
            masks.threshold[lane] = member.dropout.threshold << 16;
            masks.any = masks.any || member.dropout.threshold;
            scale[lane] = member.dropout.scale;
            l2reg[lane] = member.l2reg;
            for (size_t i = 0; i < layout.count; ++i) weight(i)[lane] = member.weights[i];
        }
        for_each_kernel([&](size_t start, size_t size, Vec factor) {
            for (size_t i = start; i < start + size; ++i) store(weight(i), load(weight(i)) * factor);
        });
    }

    template <Activation activation>
    void forward(const float* image, int slot, std::uint32_t number) {
        const float* in = image;
        for (InterleavedConvolution& layer : layers) {
            const std::uint32_t start = number * layout.image_words + layer.shape.first_word;
            const auto run = layer.first_layer ? convolve<true, activation> : convolve<false, activation>;
            run(layer, in, weight(layer.shape.kernel), weight(layer.shape.bias), masks, start, layer.map_of(slot));
            in = layer.map_of(slot);
        }
        pool_and_score(in, slot);
    }

    void pool_and_score(const float* map, int slot) {
        const int positions = layout.convolutions.back().positions(), inputs = layout.inputs, classes = layout.outputs;
        float* pool = pooled.data() + slot * inputs * lanes;
        for (int c = 0; c < inputs; ++c) {
            Vec total = load(map + c * lanes);
            for (int position = 1; position < positions; ++position) total += load(map + (position * inputs + c) * lanes);
            store(pool + c * lanes, total);
        }
        for (int k = 0; k < classes; ++k) {
            Vec total = load(weight(layout.bias + static_cast<size_t>(k)));
            for (int c = 0; c < inputs; ++c) {
                const Vec w = load(weight(layout.kernel + static_cast<size_t>(c * classes + k)));
                total = fused(load(pool + c * lanes), w, total);
            }
            store(score.data() + (slot * classes + k) * lanes, total);
        }
    }

    template <Activation activation>
    void backward_dense(int slot) {
        const int inputs = layout.inputs, classes = layout.outputs;
        const float* d = score.data() + slot * classes * lanes;
        InterleavedConvolution& last = layers.back();
        for (int k = 0; k < classes; ++k) {
            float* to = sum(layout.bias + static_cast<size_t>(k));
            store(to, load(to) + load(d + k * lanes));
        }
        for (int c = 0; c < inputs; ++c) {
            const Vec feature = load(pooled.data() + (slot * inputs + c) * lanes);
            Vec back{};
            for (int k = 0; k < classes; ++k) {
                const size_t i = layout.kernel + static_cast<size_t>(c * classes + k);
                const Vec gradient = load(d + k * lanes);
                store(sum(i), fused(feature, gradient, load(sum(i))));
                back = fused(gradient, load(weight(i)), back);
            }
            for (int position = 0; position < last.shape.positions(); ++position) {
                const ptrdiff_t at = position * last.position + c * lanes;
                store(last.delta_of(slot) + at, before_activation(activation, load(last.map_of(slot) + at), back));
            }
        }
    }

    template <Activation activation>
    void backward(const float* const* images, int count) {
        for (int slot = 0; slot < count; ++slot) backward_dense<activation>(slot);
        for (size_t l = layers.size(); l-- > 0;) {
            InterleavedConvolution& layer = layers[l];
            const float* in[most_images];
            for (int slot = 0; slot < count; ++slot) in[slot] = l ? layers[l - 1].map_of(slot) : images[slot];
            add_gradient(layer, in, count);
            if (!l) break;
            input_gradient<activation>(layer, weight(layer.shape.kernel), count, layers[l - 1]);
        }
    }

    void add_gradient(InterleavedConvolution& layer, const float* const* in, int images) {
        const Convolution& at = layer.shape;
        const ptrdiff_t column = layer.in_position(), line = at.in_side * column, row = layer.position;
        const Walk walk{in,          layer.delta.data(),        images,        at.side, step * line, step * column,
                        at.side * row, row, layer.image_size};
        const int run = kernel_side * at.in_channels;  // inputs of a kernel row lie side by side
        in_channels(at.channels, [&](int channel, auto channels) CNNZOO_LAMBDA {
            float* to = sum(at.kernel) + channel * lanes;
            float* bias = sum(at.bias) + channel * lanes;
            if (at.in_channels == 1) {  // too few inputs for a tile of one run: all three runs together
                constexpr int most = registers == 32 ? 2 : 1;
                constexpr int side = kernel_side;
                for (int k = 0; k < channels; k += most) {
                    const auto both = layer.first_layer ? outer_product_tile<true, side, side, most, true>
                                                        : outer_product_tile<false, side, side, most, true>;
                    const auto one = layer.first_layer ? outer_product_tile<true, side, side, 1, true>
                                                       : outer_product_tile<false, side, side, 1, true>;
                    const auto tile = channels - k >= most ? both : one;
                    tile(walk, 0, line, channel + k, to + k * lanes, row, bias + k * lanes);
                }
                return;
            }
            constexpr int most = inputs_of_tile, least = kernel_side;
            for (int ky = 0; ky < kernel_side; ++ky, to += run * row) {
                for (int i = 0, count; i < run; i += count) {
                    count = run - i >= most ? most : least;
                    const bool first = !ky && !i;  // once, beside the first inputs
                    const auto large = first ? outer_product_tile<false, 1, most, channels, true>
                                             : outer_product_tile<false, 1, most, channels, false>;
                    const auto small = outer_product_tile<false, 1, least, channels, false>;
                    (count == most ? large : small)(walk, ky * line + i * lanes, 0, channel, to + i * row, row, bias);
                }
            }
        });
    }

    // The sums as rows: with dropout's scale, which the passes left out of kernels' gradients, and the L2 term.
    void finish(const Member* members, int count, float* const* gradients) {
        for_each_kernel([&](size_t start, size_t size, Vec factor) {
            for (size_t i = start; i < start + size; ++i) {
                Vec weights{};
                for (int lane = 0; lane < count; ++lane) weights[lane] = members[lane].weights[i];
                store(sum(i), load(sum(i)) * factor + 2.0f * l2reg * weights);
            }
        });
        for (int lane = 0; lane < count; ++lane) {
            for (size_t i = 0; i < layout.count; ++i) gradients[lane][i] = sum(i)[lane];
        }
    }

    const float* image_at(const Batch& batch, int i) const {
        return batch.images + batch.indices[i] * shape.image_size * shape.image_size;
    }

    template <Activation activation>
    void accumulate(const Batch& batch) {
        const float share = 1.0f / static_cast<float>(batch.size);
        const float* images[most_images];
        for (int first = 0; first < batch.size; first += block) {
            const int count = std::min(block, batch.size - first);
            for (int slot = 0; slot < count; ++slot) {
                images[slot] = image_at(batch, first + slot);
                forward<activation>(images[slot], slot, static_cast<std::uint32_t>(first + slot));
                differentiate_loss<Vec>(VectorScores<lanes>{score.data() + slot * layout.outputs * lanes}, layout.outputs,
                                        batch.labels[batch.indices[first + slot]], share);
            }
            backward<activation>(images, count);
        }
    }

  public:
    explicit InterleavedPasses(const Architecture& architecture)
        : shape(architecture), layout(architecture), block(images_of_block(architecture.units)) {
        layers.reserve(layout.convolutions.size());
        for (const Convolution& layer : layout.convolutions) {
            layers.emplace_back(layer, layers.empty() ? nullptr : &layers.back(), block);
        }
        scaled.resize(layout.count * lanes);
        sums.resize(layout.count * lanes);
        pooled.resize(static_cast<size_t>(block * layout.inputs * lanes));
        score.resize(static_cast<size_t>(block * layout.outputs * lanes));
    }

    void gradients(const Member* members, int count, const Batch& batch, float* const* gradients) override {
        prepare(members, count);
        std::fill(sums.begin(), sums.end(), 0.0f);
        shape.activation == Activation::relu ? accumulate<Activation::relu>(batch)
                                             : accumulate<Activation::tanh>(batch);
        finish(members, count, gradients);
    }

    void logits(const Member* members, int count, const Batch& batch, float* const* logits,
                float* const* maps) override {
        prepare(members, count);
        masks.any = false;
        for (int i = 0; i < batch.size; ++i) {
            shape.activation == Activation::relu ? forward<Activation::relu>(image_at(batch, i), 0, 0)
                                                 : forward<Activation::tanh>(image_at(batch, i), 0, 0);
            for (int lane = 0; lane < count; ++lane) {
                float* to = logits[lane] + static_cast<ptrdiff_t>(i) * layout.outputs;
                for (int k = 0; k < layout.outputs; ++k) to[k] = score[static_cast<size_t>(k * lanes + lane)];
                if (!maps) continue;
                const InterleavedConvolution& last = layers.back();
                const ptrdiff_t size = static_cast<ptrdiff_t>(last.shape.positions()) * last.shape.channels;
                for (ptrdiff_t k = 0; k < size; ++k) {
                    maps[lane][i * size + k] = last.map[static_cast<size_t>(k * lanes + lane)];
                }
            }
        }
    }
};

}  // namespace

std::unique_ptr<Passes> interleaved_passes(const Architecture& architecture) {
    return std::make_unique<InterleavedPasses>(architecture);
}

}  // namespace cnnzoo
