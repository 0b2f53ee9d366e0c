// The fast passes, for every network of the family: tiles of sums in registers.
//
// Eight images go through the network together (a block). An activation is float [image][position][channel], where the
// channels of a position are padded to a multiple of 8 (the stride) and positions are row * side + column. Two kernels
// do nearly all the work:
// - convolve_tiles: one position of some images x some vectors of channels at a time: forward, and back to the inputs
//   with the transposed kernel; the dense layer is a convolution of one position.
// - outer_product_tile: some inputs of a kernel x some vectors of output channels, summed over a block.
// Both read an input once, broadcast, for several multiply-adds, and keep every sum of network.h in a lane of its own.
#include <algorithm>
#include <vector>

#include "arithmetic.h"
#include "dropout.h"
#include "loss.h"
#include "network.h"
#include "simd.h"

namespace cnnzoo {
namespace {

using std::size_t;

constexpr int block = 8;
constexpr int channel_grain = 8;

// Register tiles: accumulators, the operands beside them, and what a broadcast needs fit the registers.
constexpr int most_vectors = registers == 32 ? 3 : 2;
constexpr int images_of_tile(int vectors) { return registers == 32 || vectors == 1 ? 8 : 4; }
constexpr int inputs_of_tile(int vectors) { return registers == 32 ? (vectors == 1 ? 16 : 8) : vectors == 1 ? 8 : 6; }
constexpr int input_grain = 48;  // a multiple of all inputs_of_tile

constexpr int round_up(int value, int grain) { return (value + grain - 1) / grain * grain; }
constexpr int stride_of(int channels) { return round_up(channels, channel_grain); }

// Calls f(first channel, Constant<lanes>, Constant<vectors>) for groups of vectors that cover `stride` channels: as
// even as they can be, and one of half the lanes where the stride is an odd multiple of it.
template <class F>
CNNZOO_INLINE void in_vectors(int stride, int most, F&& f) {
    int at = 0;
    for (int left = stride / lanes; left > 0;) {
        const int groups = (left + most - 1) / most, vectors = (left + groups - 1) / groups;
        if (vectors == 1) f(at, Constant<lanes>{}, Constant<1>{});
        else if (vectors == 2 || most_vectors < 3) f(at, Constant<lanes>{}, Constant<2>{});
        else f(at, Constant<lanes>{}, Constant<most_vectors>{});
        at += vectors * lanes;
        left -= vectors;
    }
    if constexpr (lanes > channel_grain) {
        if (at < stride) f(at, Constant<channel_grain>{}, Constant<1>{});
    }
}

// Inputs that lie side by side, with the rows of weights that meet them.
struct Segment {
    int input, row, count;  // offset in floats, first row of weights, how many
};

// Which inputs an output is a sum of: for each output, its position and its segments, which follow on one another.
struct Gather {
    struct Output {
        int position, segments;
        int shift = 0;  // not 0: the next output's inputs lie so many floats further, and it can share a tile
    };
    std::vector<Output> outputs;
    std::vector<Segment> segments;

    void begin(int position) { outputs.push_back({position, 0, 0}); }
    void add(Segment next) {
        if (outputs.back().segments) {  // one with the segment before, if they touch
            Segment& last = segments.back();
            if (last.input + last.count == next.input && last.row + last.count == next.row) {
                last.count += next.count;
                return;
            }
        }
        segments.push_back(next);
        ++outputs.back().segments;
    }

    // Finds the pairs of neighbours that can share a tile.
    void pair() {
        const Segment* of = segments.data();
        for (size_t i = 0; i + 1 < outputs.size(); ++i) {
            Output& output = outputs[i];
            const Segment* next = of + output.segments;
            const int shift = next->input - of->input;
            const auto shifted = [&](const Segment& a, const Segment& b) {
                return a.row == b.row && a.count == b.count && b.input - a.input == shift;
            };
            if (output.segments == outputs[i + 1].segments && std::equal(of, next, next, shifted)) {
                output.shift = shift;
                of = next;
                ++i;
            }
            of += outputs[i].segments;
        }
    }
};

// Rows of weights, or of their gradients, with the output channels padded to the stride.
struct Matrix {
    int stride = 0;
    Buffer values;

    Matrix() = default;
    Matrix(int rows, int stride) : stride(stride), values(static_cast<size_t>(rows) * static_cast<size_t>(stride)) {}
    float* row(int index) { return values.data() + static_cast<std::ptrdiff_t>(index) * stride; }
    const float* row(int index) const { return values.data() + static_cast<std::ptrdiff_t>(index) * stride; }
};

// Activations of a block or their gradients.
struct Maps {
    int stride = 0;
    std::ptrdiff_t size = 0;  // floats of an image
    Buffer values;

    Maps() = default;
    // An even number of positions, as dropout draws for pairs; outer_product_tile reads beyond the last input.
    Maps(int positions, int stride)
        : stride(stride),
          size(static_cast<std::ptrdiff_t>(round_up(positions, 2)) * stride),
          values(static_cast<size_t>(block * size + input_grain)) {}
    float* at(int image, int position = 0) {
        return values.data() + image * size + static_cast<std::ptrdiff_t>(position) * stride;
    }
};

// What a layer reads: where each image of the block starts.
struct Views {
    const float* image[block];

    Views() = default;
    explicit Views(Maps& maps) {
        for (int i = 0; i < block; ++i) image[i] = maps.at(i);
    }
};

// What becomes of the sums of a convolution.
struct Epilogue {
    const float* bias;      // where the sums start; null: zero
    Maps* after;            // null, or activations like the outputs: the sums become gradients before them
    Activation activation;
};

// Sums over each output's segments, for images_of_tile(vectors) images from `image` on; two outputs at a time, where
// one leaves half of the accumulators idle.
template <int width, int vectors>
__attribute__((noinline)) void convolve_tiles(const Gather& gather, const Views& in, int image, const Matrix& weights,
                                              int channel, const Epilogue& epilogue, Maps& out) {
    constexpr int images = images_of_tile(vectors);
    const float* x[images];
    unroll<images>([&](auto n) CNNZOO_LAMBDA { x[n] = in.image[image + n]; });
    Floats<width> start[vectors];
    unroll<vectors>([&](auto v) CNNZOO_LAMBDA {
        start[v] = epilogue.bias ? load<width>(epilogue.bias + channel + v * width) : Floats<width>{};
    });
    const std::ptrdiff_t stride = weights.stride;
    const Segment* segment = gather.segments.data();
    const auto make_outputs = [&](auto outputs, const Gather::Output* output) CNNZOO_LAMBDA {
        const Segment* end = segment + output->segments;
        const std::ptrdiff_t shift = output->shift;
        Floats<width> sums[outputs][images][vectors];
        unroll<outputs * images * vectors>([&](auto n) CNNZOO_LAMBDA {
            sums[n / vectors / images][n / vectors % images][n % vectors] = start[n % vectors];
        });
        for (; segment != end; ++segment) {
            const float* w = weights.values.data() + channel + segment->row * stride;
            const std::ptrdiff_t last = segment->input + segment->count;
#pragma GCC unroll 4
            for (std::ptrdiff_t i = segment->input; i < last; ++i, w += stride) {
                Floats<width> row[vectors];
                unroll<vectors>([&](auto v) CNNZOO_LAMBDA { row[v] = load<width>(w + v * width); });
                unroll<outputs * images>([&](auto n) CNNZOO_LAMBDA {
                    constexpr int o = n / images, m = n % images;
                    const Floats<width> value = splat<width>(x[m][i + (o ? shift : 0)]);
                    unroll<vectors>([&](auto v) CNNZOO_LAMBDA { sums[o][m][v] = fused(value, row[v], sums[o][m][v]); });
                });
            }
        }
        unroll<outputs>([&](auto o) CNNZOO_LAMBDA {
            float* to = out.at(image, output[o].position) + channel;
            const float* after = epilogue.after ? epilogue.after->at(image, output[o].position) + channel : nullptr;
            const auto finish = [&](auto differentiate) CNNZOO_LAMBDA {
                unroll<images>([&](auto n) CNNZOO_LAMBDA {
                    unroll<vectors>([&](auto v) CNNZOO_LAMBDA {
                        store<width>(to + v * width, differentiate(sums[o][n][v], v * width));
                    });
                    to += out.size;
                    after += out.size;
                });
            };
            if (!after) finish([&](Floats<width> sum, int) CNNZOO_LAMBDA { return sum; });
            else if (epilogue.activation == Activation::relu) finish([&](Floats<width> sum, int v) CNNZOO_LAMBDA {
                return before_activation(Activation::relu, load<width>(after + v), sum);
            });
            else finish([&](Floats<width> sum, int v) CNNZOO_LAMBDA {
                return before_activation(Activation::tanh, load<width>(after + v), sum);
            });
        });
    };
    const Gather::Output* last = gather.outputs.data() + gather.outputs.size();
    for (const Gather::Output* output = gather.outputs.data(); output != last; ++output) {
        if (registers == 32 && vectors == 1 && output->shift) {
            make_outputs(Constant<2>{}, output);
            segment += (++output)->segments;
        } else {
            make_outputs(Constant<1>{}, output);
        }
    }
}

// The same for all channels and `images` images; a tile may go beyond them, over leftovers of an earlier block.
void convolve(const Gather& gather, int images, const Views& in, const Matrix& weights, const Epilogue& epilogue,
              Maps& out) {
    in_vectors(weights.stride, most_vectors, [&](int channel, auto width, auto vectors) CNNZOO_LAMBDA {
        for (int image = 0; image < images; image += images_of_tile(vectors)) {
            convolve_tiles<width, vectors>(gather, in, image, weights, channel, epilogue, out);
        }
    });
}

// Where an outer_product_tile runs: over images, rows and columns, with the steps of the inputs and of the deltas.
struct Walk {
    struct Axis {
        int count;
        std::ptrdiff_t input, delta;  // steps; those of the inputs from image to image are in the views
    } images, rows, columns;
};

// Adds input x delta to rows * inputs gradients, and delta to a bias's. The inputs of a row lie side by side; the first
// is `from` floats into an image.
template <int width, int vectors, int rows, int inputs, bool with_bias>
__attribute__((noinline)) void outer_product_tile(const Views& in, std::ptrdiff_t from, std::ptrdiff_t in_row,
                                                  const float* deltas, const Walk& walk, float* gradient, int stride,
                                                  float* bias) {
    constexpr int count = rows * inputs;
    Floats<width> sums[count][vectors], total[vectors];
    unroll<count * vectors>([&](auto n) CNNZOO_LAMBDA {
        sums[n / vectors][n % vectors] = load<width>(gradient + n / vectors * stride + n % vectors * width);
    });
    if constexpr (with_bias) {
        unroll<vectors>([&](auto v) CNNZOO_LAMBDA { total[v] = load<width>(bias + v * width); });
    }
    for (int image = 0; image < walk.images.count; ++image) {
        for (int row = 0; row < walk.rows.count; ++row) {
            const float* x = in.image[image] + from + row * walk.rows.input;
            const float* delta = deltas + image * walk.images.delta + row * walk.rows.delta;
            // Not unrolled: gcc would keep inputs that neighbours share in registers and spill the sums.
#pragma GCC unroll 1
            for (int column = 0; column < walk.columns.count; ++column) {
                Floats<width> d[vectors];
                unroll<vectors>([&](auto v) CNNZOO_LAMBDA {
                    d[v] = load<width>(delta + v * width);
                    if constexpr (with_bias) total[v] += d[v];
                });
                unroll<rows>([&](auto r) CNNZOO_LAMBDA {
                    const float* line = x + r * in_row;
                    unroll<inputs>([&](auto i) CNNZOO_LAMBDA {
                        const Floats<width> value = splat<width>(line[i]);
                        unroll<vectors>([&](auto v) CNNZOO_LAMBDA {
                            sums[r * inputs + i][v] = fused(value, d[v], sums[r * inputs + i][v]);
                        });
                    });
                });
                x += walk.columns.input;
                delta += walk.columns.delta;
            }
        }
    }
    unroll<count * vectors>([&](auto n) CNNZOO_LAMBDA {
        store<width>(gradient + n / vectors * stride + n % vectors * width, sums[n / vectors][n % vectors]);
    });
    if constexpr (with_bias) {
        unroll<vectors>([&](auto v) CNNZOO_LAMBDA { store<width>(bias + v * width, total[v]); });
    }
}

// Applies activation and dropout in place to the maps of `images` images. `start` is the counter of the layer's first
// word in the block's first image.
template <int width>
CNNZOO_INLINE void activate_channels(Maps& maps, int images, int pairs, int channel, int channels,
                                     Activation activation, std::uint32_t start, std::uint32_t image_words,
                                     const Dropout& drop) {
    const Words<width> threshold = Words<width>{} + (drop.threshold << 16), key = Words<width>{} + drop.key[1];
    for (int image = 0; image < images; ++image) {
        float* at = maps.at(image) + channel;
        const std::uint32_t first = start + static_cast<std::uint32_t>(image) * image_words;
        Words<width> counters = lane_numbers<width>() + first + static_cast<std::uint32_t>(channel);
        counters = counters * weyl + drop.key[0];
        for (int pair = 0; pair < pairs; ++pair) {
            const Floats<width> one = load<width>(at), two = load<width>(at + maps.stride);
            if (drop.threshold) {
                const Words<width> drawn = mix(counters, key);
                counters += static_cast<std::uint32_t>(channels) * weyl;
                store<width>(at, activate_kept(activation, one, drawn << 16, threshold));
                store<width>(at + maps.stride, activate_kept(activation, two, drawn, threshold));
            } else {
                store<width>(at, activate(activation, one));
                store<width>(at + maps.stride, activate(activation, two));
            }
            at += 2 * maps.stride;
        }
    }
}

// A convolution as the tiles want it. The rows of its weights are its inputs in the order of the sums: (kernel row,
// kernel column, input channel) forward, (kernel row, kernel column in the order 2, 0, 1, output channel) backward, so
// that the outputs that see an input lie in memory like the rows that they meet.
struct TiledConvolution {
    Convolution shape;
    bool first_layer;  // its inputs are pixels
    int in_stride, stride;
    bool side_by_side;  // the inputs of one kernel row: no padding between them
    Gather forward, backward;
    Matrix weights, transposed, gradient;
    std::vector<float> bias, bias_gradient;
    Maps map, delta;

    static int transposed_row(int tap, int channels) {
        constexpr int order[kernel_side] = {1, 2, 0};
        return (tap / kernel_side * kernel_side + order[tap % kernel_side]) * channels;
    }

    TiledConvolution(const Convolution& shape, bool first_layer)
        : shape(shape),
          first_layer(first_layer),
          in_stride(first_layer ? 1 : stride_of(shape.in_channels)),
          stride(stride_of(shape.channels)),
          side_by_side(in_stride == shape.in_channels),
          weights(shape.inputs(), stride),
          transposed(taps * shape.channels, in_stride),
          gradient(runs() * run_rows(), stride),
          bias(static_cast<size_t>(stride)),
          bias_gradient(static_cast<size_t>(stride)),
          map(shape.positions(), stride),
          delta(shape.positions(), stride) {
        for (int row = 0; row < shape.side; ++row) {
            for (int column = 0; column < shape.side; ++column) {
                forward.begin(row * shape.side + column);
                for (int tap = 0; tap < taps; ++tap) {
                    const int y = step * row + tap / kernel_side, x = step * column + tap % kernel_side;
                    forward.add({(y * shape.in_side + x) * in_stride, tap * shape.in_channels, shape.in_channels});
                }
            }
        }
        forward.pair();
        // Inputs by the parity of their row and column: those of a kind have as many segments, and no branch is a
        // surprise. The last row and column of an even side are seen by no output: their gradient stays zero.
        const int seen = step * shape.side + 1;
        for (int kind = 0; kind < step * step; ++kind) {
            for (int y = kind / step; y < seen; y += step) {
                for (int x = kind % step; x < seen; x += step) add_input(y, x);
            }
        }
        backward.pair();
    }

    void add_input(int y, int x) {
        backward.begin(y * shape.in_side + x);
        for_each_output(y, [&](int row, int ky) {
            for_each_output(x, [&](int column, int kx) {
                backward.add({(row * shape.side + column) * stride,
                              transposed_row(ky * kernel_side + kx, shape.channels), shape.channels});
            });
        });
    }

    // f(output, kernel offset) for the outputs that see an input, along one axis, in order.
    template <class F>
    void for_each_output(int input, F&& f) const {
        for (int k = kernel_side - 1; k >= 0; --k) {
            const int output = (input - k) / step;
            if (input >= k && (input - k) % step == 0 && output < shape.side) f(output, k);
        }
    }

    // The gradient's rows come in runs of inputs that lie side by side, padded for whole tiles.
    int runs() const { return side_by_side ? kernel_side : taps; }
    int run_length() const { return shape.inputs() / runs(); }
    int run_rows() const { return first_layer ? kernel_side : round_up(run_length(), input_grain); }
    int gradient_row(int input) const { return input / run_length() * run_rows() + input % run_length(); }

    void prepare(const float* row, float scale, bool backward_too) {
        const int n = shape.channels;
        std::copy_n(row + shape.bias, n, bias.begin());
        const float* kernel = row + shape.kernel;
        for (int i = 0; i < shape.inputs(); ++i) {
            for (int k = 0; k < n; ++k) weights.row(i)[k] = kernel[static_cast<std::ptrdiff_t>(i) * n + k] * scale;
        }
        if (!backward_too) return;
        std::fill(gradient.values.begin(), gradient.values.end(), 0.0f);
        std::fill(bias_gradient.begin(), bias_gradient.end(), 0.0f);
        if (first_layer) return;
        for (int tap = 0; tap < taps; ++tap) {
            for (int c = 0; c < shape.in_channels; ++c) {
                const float* from = weights.row(tap * shape.in_channels + c);
                for (int k = 0; k < n; ++k) transposed.row(transposed_row(tap, n) + k)[c] = from[k];
            }
        }
    }

    void add_gradient(const Views& in, int images) {
        const std::ptrdiff_t line = static_cast<std::ptrdiff_t>(shape.in_side) * in_stride;
        const Walk walk{{images, 0, delta.size},
                        {shape.side, step * line, static_cast<std::ptrdiff_t>(shape.side) * stride},
                        {shape.side, step * in_stride, stride}};
        if (first_layer) return add_first_gradient(in, line, walk);
        in_vectors(stride, most_vectors, [&](int channel, auto width, auto vectors) CNNZOO_LAMBDA {
            constexpr int inputs = inputs_of_tile(vectors);
            for (int run = 0; run < runs(); ++run) {
                const int tap = run * (taps / runs());
                const std::ptrdiff_t from = tap / kernel_side * line + tap % kernel_side * in_stride;
                for (int input = 0; input < run_length(); input += inputs) {
                    float* to = gradient.row(run * run_rows() + input) + channel;
                    float* bias_to = bias_gradient.data() + channel;  // once, beside the first inputs
                    const auto tile = run || input ? outer_product_tile<width, vectors, 1, inputs, false>
                                                   : outer_product_tile<width, vectors, 1, inputs, true>;
                    tile(in, from + input, 0, delta.at(0) + channel, walk, to, stride, bias_to);
                }
            }
        });
    }

    // The first layer has too few inputs for tiles of one run: all three runs together.
    void add_first_gradient(const Views& in, std::ptrdiff_t line, const Walk& walk) {
        constexpr int most = registers == 32 ? 2 : 1;
        in_vectors(stride, most, [&](int channel, auto width, auto vectors) CNNZOO_LAMBDA {
            constexpr int fitting = vectors > most ? most : vectors;
            outer_product_tile<width, fitting, kernel_side, kernel_side, true>(in, 0, line, delta.at(0) + channel, walk,
                                                                               gradient.row(0) + channel, stride,
                                                                               bias_gradient.data() + channel);
        });
    }

    void finish(const float* row, float l2reg, float scale, float* to) const {
        const int n = shape.channels;
        std::copy_n(bias_gradient.begin(), n, to + shape.bias);
        for (int i = 0; i < shape.inputs(); ++i) {
            const float* sums = gradient.row(gradient_row(i));
            const size_t at = shape.kernel + static_cast<size_t>(i) * static_cast<size_t>(n);
            for (int k = 0; k < n; ++k) {
                to[at + static_cast<size_t>(k)] = sums[k] * scale + 2.0f * l2reg * row[at + static_cast<size_t>(k)];
            }
        }
    }
};

class TiledPasses final : public SinglePasses {
    const Architecture shape;
    const Layout layout;
    std::vector<TiledConvolution> layers;
    Views inputs{};            // the block's images
    Maps pooled, score, back;  // sums over positions; logits, then their gradient; gradient of the pooled sums
    Matrix dense, dense_transposed, dense_gradient;
    std::vector<float> dense_bias, dense_bias_gradient;
    Gather dense_forward, dense_backward;
    LossGradient loss;

    float dense_scale(float scale) const { return scale / static_cast<float>(layout.convolutions.back().positions()); }

    void prepare(const float* weights, float scale, bool backward_too) {
        for (TiledConvolution& layer : layers) layer.prepare(weights, layer.first_layer ? 1.0f : scale, backward_too);
        std::copy_n(weights + layout.bias, layout.outputs, dense_bias.begin());
        for (int c = 0; c < layout.inputs; ++c) {
            for (int k = 0; k < layout.outputs; ++k) {
                const float w = weights[layout.kernel + static_cast<size_t>(c * layout.outputs + k)];
                dense.row(c)[k] = dense_transposed.row(k)[c] = w * dense_scale(scale);
            }
        }
        std::fill(dense_gradient.values.begin(), dense_gradient.values.end(), 0.0f);
        std::fill(dense_bias_gradient.begin(), dense_bias_gradient.end(), 0.0f);
    }

    // Points at a block's images and starts fetching the next ones: minibatches jump about in the data set. A tile may
    // go beyond the last image.
    void gather(const Batch& batch, int first, int images) {
        const int pixels = shape.image_size * shape.image_size;
        for (int i = 0; i < block; ++i) {
            inputs.image[i] = batch.images + batch.indices[first + std::min(i, images - 1)] * pixels;
        }
        for (int i = first + images; i < std::min(first + images + block, batch.size); ++i) {
            const float* next = batch.images + batch.indices[i] * pixels;
            for (int pixel = 0; pixel < pixels; pixel += 16) __builtin_prefetch(next + pixel, 0, 2);
        }
    }

    void forward(int images, std::uint32_t first_number, const Dropout& drop) {
        Views in = inputs;
        for (TiledConvolution& layer : layers) {
            const Epilogue from_bias{layer.bias.data(), nullptr, shape.activation};
            convolve(layer.forward, images, in, layer.weights, from_bias, layer.map);
            const std::uint32_t start = first_number * layout.image_words + layer.shape.first_word;
            const int pairs = (layer.shape.positions() + 1) / 2;
            in_vectors(layer.stride, 1, [&](int channel, auto width, auto) CNNZOO_LAMBDA {
                activate_channels<width>(layer.map, images, pairs, channel, layer.shape.channels, shape.activation,
                                         start, layout.image_words, drop);
            });
            in = Views(layer.map);
        }
        pool(images);
        convolve(dense_forward, images, Views(pooled), dense, {dense_bias.data(), nullptr, shape.activation}, score);
    }

    void pool(int images) {
        TiledConvolution& last = layers.back();
        // A tile of images at a time, as one sum waits for its last addition.
        constexpr int tile = 4;
        for (int image = 0; image < images; image += tile) {
            in_vectors(last.stride, 1, [&](int channel, auto width, auto) CNNZOO_LAMBDA {
                Floats<width> sums[tile];
                unroll<tile>([&](auto n) CNNZOO_LAMBDA { sums[n] = load<width>(last.map.at(image + n) + channel); });
                for (int position = 1; position < last.shape.positions(); ++position) {
                    unroll<tile>([&](auto n) CNNZOO_LAMBDA {
                        sums[n] += load<width>(last.map.at(image + n, position) + channel);
                    });
                }
                unroll<tile>([&](auto n) CNNZOO_LAMBDA { store<width>(pooled.at(image + n) + channel, sums[n]); });
            });
        }
    }

    void backward_dense(int images) {
        const Walk walk{{images, 0, score.size}, {1, 0, 0}, {1, 0, 0}};
        const Views features(pooled);
        in_vectors(score.stride, 1, [&](int channel, auto width, auto) CNNZOO_LAMBDA {
            constexpr int tile = inputs_of_tile(1);
            for (int input = 0; input < layout.inputs; input += tile) {
                float* to = dense_gradient.row(input) + channel;
                const float* deltas = score.at(0) + channel;
                const auto add = input ? outer_product_tile<width, 1, 1, tile, false>
                                       : outer_product_tile<width, 1, 1, tile, true>;
                add(features, input, 0, deltas, walk, to, score.stride, dense_bias_gradient.data() + channel);
            }
        });
        convolve(dense_backward, images, Views(score), dense_transposed, {nullptr, nullptr, shape.activation}, back);
        TiledConvolution& last = layers.back();
        for (int image = 0; image < images; ++image) {
            in_vectors(last.stride, 1, [&](int channel, auto width, auto) CNNZOO_LAMBDA {
                const Floats<width> gradient = load<width>(back.at(image) + channel);
                for (int position = 0; position < last.shape.positions(); ++position) {
                    const Floats<width> after = load<width>(last.map.at(image, position) + channel);
                    store<width>(last.delta.at(image, position) + channel,
                                 before_activation(shape.activation, after, gradient));
                }
            });
        }
    }

    void backward(int images) {
        backward_dense(images);
        for (size_t l = layers.size(); l-- > 0;) {
            TiledConvolution& layer = layers[l];
            layer.add_gradient(l ? Views(layers[l - 1].map) : inputs, images);
            if (l) {
                TiledConvolution& below = layers[l - 1];
                const Epilogue to_gradient{nullptr, &below.map, shape.activation};
                convolve(layer.backward, images, Views(layer.delta), layer.transposed, to_gradient, below.delta);
            }
        }
    }

    void finish(const float* weights, float l2reg, float scale, float* gradient) const {
        for (const TiledConvolution& layer : layers) {
            layer.finish(weights, l2reg, layer.first_layer ? 1.0f : scale, gradient);
        }
        std::copy_n(dense_bias_gradient.begin(), layout.outputs, gradient + layout.bias);
        for (int c = 0; c < layout.inputs; ++c) {
            for (int k = 0; k < layout.outputs; ++k) {
                const size_t i = layout.kernel + static_cast<size_t>(c * layout.outputs + k);
                gradient[i] = dense_gradient.row(c)[k] * dense_scale(scale) + 2.0f * l2reg * weights[i];
            }
        }
    }

    // The last feature map of an image without padding; returns its end.
    float* copy_map(int image, float* to) {
        TiledConvolution& last = layers.back();
        for (int position = 0; position < last.shape.positions(); ++position) {
            to = std::copy_n(last.map.at(image, position), last.shape.channels, to);
        }
        return to;
    }

  public:
    explicit TiledPasses(const Architecture& architecture)
        : shape(architecture), layout(architecture), loss(layout.outputs) {
        for (const Convolution& layer : layout.convolutions) layers.emplace_back(layer, layers.empty());
        const int stride = stride_of(layout.inputs), classes = stride_of(layout.outputs);
        pooled = back = Maps(1, stride);
        score = Maps(1, classes);
        dense = Matrix(layout.inputs, classes);
        dense_transposed = Matrix(layout.outputs, stride);
        dense_gradient = Matrix(round_up(layout.inputs, input_grain), classes);
        dense_bias.resize(static_cast<size_t>(classes));
        dense_bias_gradient.resize(static_cast<size_t>(classes));
        dense_forward.begin(0);
        dense_forward.add({0, 0, layout.inputs});
        dense_backward.begin(0);
        dense_backward.add({0, 0, layout.outputs});
    }

    void gradient(const Member& member, const Batch& batch, float* gradient) override {
        const float* weights = member.weights;
        const Dropout& drop = member.dropout;
        prepare(weights, drop.scale, true);
        const float share = 1.0f / static_cast<float>(batch.size);
        for (int first = 0; first < batch.size; first += block) {
            const int images = std::min(block, batch.size - first);
            gather(batch, first, images);
            forward(images, static_cast<std::uint32_t>(first), drop);
            loss.differentiate(score.at(0), score.size, images, share,
                               [&](int i) { return batch.labels[batch.indices[first + i]]; });
            backward(images);
        }
        finish(weights, member.l2reg, drop.scale, gradient);
    }

    void logits(const float* weights, const Batch& batch, float* logits, float* maps) override {
        prepare(weights, 1.0f, false);
        for (int first = 0; first < batch.size; first += block) {
            const int images = std::min(block, batch.size - first);
            gather(batch, first, images);
            forward(images, 0, Dropout{{0, 0}, 0, 1.0f});
            for (int i = 0; i < images; ++i) {
                std::copy_n(score.at(i), layout.outputs, logits + static_cast<size_t>(first + i) * layout.outputs);
                if (maps) maps = copy_map(i, maps);
            }
        }
    }
};

}  // namespace

std::unique_ptr<Passes> tiled_passes(const Architecture& architecture) {
    return std::make_unique<TiledPasses>(architecture);
}

}  // namespace cnnzoo
