// The passes for the published network: 16 channels, 3 layers, a fixed image size; relu or tanh. Everything is a
// constant here, which is worth a tenth of the time against tiled.cpp; the arithmetic is that of network.h.
//
// Everything of a block of images stays in cache. A 3x3 convolution is a sum over 9 taps x 16 input channels of
// (weights of 16 output channels: a vector) x (one input: a broadcast); the accumulators of many positions stay in
// registers. The scale 1 / (1 - rate) of dropout is not applied to activations but to the next layer's weights, once
// a minibatch, and to its gradient.
//
// Positions of a feature map are row * side + column; an activation is float [position][channel].
//
// Where the time goes, 28x28, relu, adam, dropout, Zen 4 (AVX-512, gcc 12; share of the core's multiply-add peak that
// each part reaches): second and third layer forward 97%, their kernel gradients 99%, input gradient of the second
// layer 95%, first layer's gradient 99%. The rest, 7% of the time, was dropout with relu (4%; then 24 vector
// instructions for 2 positions, now 17, that do not overlap with multiply-adds), the dense layer and softmax, and the
// optimizer. Emerald Rapids has twice the peak for the same rest: 95%, 98%, 91%; dropout with relu takes 6%. On Zen 3
// (AVX2) all parts together reach 80% of the peak: second layer forward 97%, its gradients 95% (kernel) and 82% (input).
#include <algorithm>
#include <cmath>
#include <iterator>

#include "arithmetic.h"
#include "dropout.h"
#include "loss.h"
#include "network.h"
#include "simd.h"

namespace cnnzoo {
namespace {

// The 16 channels of one position are one AVX-512 register, two of AVX2, four of NEON or SSE. Kernels work on tiles:
// some positions x `vectors` of the registers, so that an input, once broadcast, serves several multiply-adds (AVX2 can
// load two values a cycle and multiply-add two: a broadcast for each would take every load there is).
constexpr int channels = 16;

// Accumulators that leave room for the operands of a multiply-add; a tile is `vectors` of channels x some positions.
constexpr int most_accumulators = registers == 32 ? 24 : 12;
constexpr int vectors = lanes == 16 ? 1 : registers == 32 ? 4 : 2;
constexpr int tile_channels = vectors * lanes;
constexpr int most_positions = most_accumulators / vectors;

using Vec = Floats<lanes>;
CNNZOO_INLINE Vec load(const float* from) { return load<lanes>(from); }
CNNZOO_INLINE void store(float* to, Vec value) { store<lanes>(to, value); }
CNNZOO_INLINE Vec splat(float value) { return splat<lanes>(value); }

// Inline where there are many registers; with 16, gcc gives them out better in a function of its own (4 to 6%).
#if defined(__AVX512F__) || defined(__aarch64__)
#define CNNZOO_INLINE_IF_ROOMY CNNZOO_INLINE
#else
#define CNNZOO_INLINE_IF_ROOMY __attribute__((noinline))
#endif

constexpr int padded_classes = 16;
constexpr int block = 8;  // images that go through the network together

// The largest divisor of `block` up to a limit, at least 1.
constexpr int divisor_of_block(int limit) {
    int divisor = block;
    while (divisor > 1 && divisor > limit) divisor /= 2;
    return divisor;
}

// Divides 0 ... total - 1 into chunks of equal size, at most `most`, but for the last one, which takes what remains;
// calls f(first, count) with constants.
template <int total, int most, class F>
CNNZOO_INLINE void in_chunks(F&& f) {
    constexpr int passes = (total + most - 1) / most, size = (total + passes - 1) / passes;
    unroll<passes>([&](auto pass) CNNZOO_LAMBDA {
        constexpr int first = pass * size;
        f(Constant<first>{}, Constant<(first + size < total ? size : total - first)>{});
    });
}

// The same with sizes that differ by one at most, where the last chunk would keep too few accumulators busy: 16
// channels as 6, 5, 5 instead of 6, 6, 4 made the kernel's gradient 15% faster with AVX2. (13 columns of the first layer
// are faster as 5, 5, 3 than as 5, 4, 4.)
template <int total, int most, class F>
CNNZOO_INLINE void in_even_chunks(F&& f) {
    constexpr int passes = (total + most - 1) / most, size = total / passes, larger = total % passes;
    unroll<passes>([&](auto pass) CNNZOO_LAMBDA {
        constexpr int first = pass * size + (pass < larger ? pass : larger);
        f(Constant<first>{}, Constant<size + (pass < larger)>{});
    });
}

constexpr int next_side(int side) { return (side - 3) / 2 + 1; }

// Floats of one image's feature map: an even number of positions, as dropout draws for pairs of them.
constexpr int map_size(int side) { return (side * side + 1) / 2 * 2 * channels; }

// Starts fetching the share of the next image that falls to one row of the first layer. Minibatches jump about in the
// data set; waiting for the first bytes of each image took 4% of the time, and asking for all of it at once 2%.
template <int side>
CNNZOO_INLINE void prefetch_share(const float* image, int row) {
    constexpr int line = 16, rows = next_side(side);
    constexpr int share = (side * side + rows * line - 1) / (rows * line) * line;
    for (int pixel = row * share; pixel < (row + 1) * share; pixel += line) {
        __builtin_prefetch(image + std::min(pixel, side * side - 1));
    }
}

// --- forward -------------------------------------------------------------------------------------------------------

// Pre-activations of one row of the first layer. `image` starts at input row 2 * row, `out` at the row's first
// position.
template <int In>
CNNZOO_INLINE_IF_ROOMY void convolve_image_row(const float* image, const float* weights, const float* bias,
                                               float* out) {
    in_chunks<next_side(In), most_positions>([&](auto first, auto columns) CNNZOO_LAMBDA {
        for (int g = 0; g < channels; g += tile_channels) {
            Vec sums[columns][vectors];
            unroll<columns * vectors>([&](auto n) CNNZOO_LAMBDA {
                sums[n / vectors][n % vectors] = load(bias + g + n % vectors * lanes);
            });
            unroll<taps>([&](auto tap) CNNZOO_LAMBDA {
                Vec w[vectors];
                unroll<vectors>([&](auto v) CNNZOO_LAMBDA { w[v] = load(weights + tap * channels + g + v * lanes); });
                const float* x = image + tap / 3 * In + tap % 3 + 2 * first;
                unroll<columns>([&](auto c) CNNZOO_LAMBDA {
                    const Vec value = splat(x[2 * c]);
                    unroll<vectors>([&](auto v) CNNZOO_LAMBDA { sums[c][v] = fused(w[v], value, sums[c][v]); });
                });
            });
            unroll<columns * vectors>([&](auto n) CNNZOO_LAMBDA {
                store(out + (first + n / vectors) * channels + g + n % vectors * lanes, sums[n / vectors][n % vectors]);
            });
        }
    });
}

// Pre-activations of `rows` rows of `images` images, `columns` columns each; `in` and `out` start at the first position
// of the first image.
template <int In, int images, int rows, int columns>
__attribute__((noinline)) void convolve_tile(const float* in, const float* weights, const float* bias, float* out) {
    constexpr int out_side = next_side(In);
    constexpr int positions = rows * columns, count = images * positions;
    // Offsets of position n of the tile in the input and the output maps.
    constexpr auto from = [](int n) {
        const int y = n % positions / columns, x = n % columns;
        return n / positions * map_size(In) + (y * In + x) * 2 * channels;
    };
    constexpr auto to = [](int n) {
        const int y = n % positions / columns, x = n % columns;
        return n / positions * map_size(out_side) + (y * out_side + x) * channels;
    };
    for (int g = 0; g < channels; g += tile_channels) {
        Vec sums[count][vectors];
        unroll<count * vectors>([&](auto n) CNNZOO_LAMBDA {
            sums[n / vectors][n % vectors] = load(bias + g + n % vectors * lanes);
        });
        const float* w = weights + g;
        for (int tap = 0; tap < taps; ++tap) {
            const float* x = in + (tap / 3 * In + tap % 3) * channels;
#pragma GCC unroll 4
            for (int c = 0; c < channels; ++c, ++x, w += channels) {
                Vec row[vectors];
                unroll<vectors>([&](auto v) CNNZOO_LAMBDA { row[v] = load(w + v * lanes); });
                unroll<count>([&](auto n) CNNZOO_LAMBDA {
                    const Vec value = splat(x[from(n)]);
                    unroll<vectors>([&](auto v) CNNZOO_LAMBDA { sums[n][v] = fused(row[v], value, sums[n][v]); });
                });
            }
        }
        unroll<count * vectors>([&](auto n) CNNZOO_LAMBDA {
            store(out + to(n / vectors) + g + n % vectors * lanes, sums[n / vectors][n % vectors]);
        });
    }
}

// Pre-activations of whole feature maps of `images` images, in tiles that fill the registers.
template <int In, int images>
CNNZOO_INLINE void convolve_maps(const float* in, const float* weights, const float* bias, float* out) {
    constexpr int out_side = next_side(In);
    constexpr int most_columns = std::max(1, most_positions / images);
    constexpr int most_rows = std::max(1, most_columns / out_side);
    in_chunks<out_side, most_rows>([&](auto row, auto rows) CNNZOO_LAMBDA {
        in_chunks<out_side, most_columns>([&](auto column, auto columns) CNNZOO_LAMBDA {
            convolve_tile<In, images, rows, columns>(in + (row * In + column) * 2 * channels, weights, bias,
                                                     out + (row * out_side + column) * channels);
        });
    });
}

// The words of one layer's dropout mask in one image, as mix() wants them.
struct Words16 {
    std::uint32_t start;  // first counter * weyl + first key word
    std::uint32_t key;
    std::uint32_t threshold;  // << 16
};

// Applies activation and dropout in place to position pairs [first, last).
template <Activation activation, bool dropout>
CNNZOO_INLINE void activate_pairs(float* map, int first, int last, const Words16& words) {
    const Words<lanes> threshold = Words<lanes>{} + words.threshold, key = Words<lanes>{} + words.key;
    const std::uint32_t start = words.start + static_cast<std::uint32_t>(first * channels) * weyl;
    Words<lanes> counters = lane_numbers<lanes>() * weyl + start;
    for (int pair = first; pair < last; ++pair) {
        for (int g = 0; g < channels; g += lanes) {
            float* at = map + pair * 2 * channels + g;
            const Vec one = load(at), two = load(at + channels);
            if constexpr (dropout) {
                const Words<lanes> drawn = mix(counters, key);
                counters += static_cast<std::uint32_t>(lanes) * weyl;
                store(at, activate_kept(activation, one, drawn << 16, threshold));
                store(at + channels, activate_kept(activation, two, drawn, threshold));
            } else {
                store(at, activate(activation, one));
                store(at + channels, activate(activation, two));
            }
        }
    }
}

// --- backward ------------------------------------------------------------------------------------------------------

// Adds to the kernel's gradient (9, 16, 16) what `images` images contribute: input map x gradient of pre-activations.
template <int In>
__attribute__((noinline)) void add_kernel_gradient(const float* in, const float* deltas, int images, float* gradient) {
    constexpr int out_side = next_side(In);
    constexpr int most_inputs = std::min(channels, most_positions);  // input channels at a time
    for (int tap = 0; tap < taps; ++tap) {
        in_even_chunks<channels, most_inputs>([&](auto first, auto inputs) CNNZOO_LAMBDA {
            for (int g = 0; g < channels; g += tile_channels) {
                float* to = gradient + (tap * channels + first) * channels + g;
                Vec sums[inputs][vectors];
                unroll<inputs * vectors>([&](auto n) CNNZOO_LAMBDA {
                    sums[n / vectors][n % vectors] = load(to + n / vectors * channels + n % vectors * lanes);
                });
                for (int image = 0; image < images; ++image) {
                    const float* delta = deltas + image * map_size(out_side) + g;
                    for (int row = 0; row < out_side; ++row) {
                        const float* x =
                            in + image * map_size(In) + ((2 * row + tap / 3) * In + tap % 3) * channels + first;
                        for (int column = 0; column < out_side; ++column, delta += channels, x += 2 * channels) {
                            Vec d[vectors];
                            unroll<vectors>([&](auto v) CNNZOO_LAMBDA { d[v] = load(delta + v * lanes); });
                            unroll<inputs>([&](auto c) CNNZOO_LAMBDA {
                                const Vec value = splat(x[c]);
                                unroll<vectors>([&](auto v) CNNZOO_LAMBDA {
                                    sums[c][v] = fused(d[v], value, sums[c][v]);
                                });
                            });
                        }
                    }
                }
                unroll<inputs * vectors>([&](auto n) CNNZOO_LAMBDA {
                    store(to + n / vectors * channels + n % vectors * lanes, sums[n / vectors][n % vectors]);
                });
            }
        });
    }
}

// The same for the first layer, whose input is one image, and for its bias.
template <int In>
__attribute__((noinline)) void add_image_gradient(const float* image, const float* deltas, float* kernel, float* bias) {
    constexpr int out_side = next_side(In);
    in_chunks<taps, most_positions>([&](auto first, auto count) CNNZOO_LAMBDA {
        constexpr bool last = first + count == taps;  // the smallest chunk: it has room for the bias
        for (int g = 0; g < channels; g += tile_channels) {
            Vec sums[count][vectors], total[vectors];
            unroll<count * vectors>([&](auto n) CNNZOO_LAMBDA {
                sums[n / vectors][n % vectors] =
                    load(kernel + (first + n / vectors) * channels + g + n % vectors * lanes);
            });
            unroll<vectors>([&](auto v) CNNZOO_LAMBDA { total[v] = load(bias + g + v * lanes); });
            const float* delta = deltas + g;
            for (int row = 0; row < out_side; ++row) {
                const float* x = image + 2 * row * In;
                // Not unrolled: gcc would keep inputs that neighbours share in registers and spill the sums (86% of
                // the peak instead of 99%).
#pragma GCC unroll 1
                for (int column = 0; column < out_side; ++column, delta += channels, x += 2) {
                    Vec d[vectors];
                    unroll<vectors>([&](auto v) CNNZOO_LAMBDA {
                        d[v] = load(delta + v * lanes);
                        if constexpr (last) total[v] += d[v];
                    });
                    unroll<count>([&](auto n) CNNZOO_LAMBDA {
                        constexpr int tap = first + n;
                        const Vec value = splat(x[tap / 3 * In + tap % 3]);
                        unroll<vectors>([&](auto v) CNNZOO_LAMBDA { sums[n][v] = fused(d[v], value, sums[n][v]); });
                    });
                }
            }
            unroll<count * vectors>([&](auto n) CNNZOO_LAMBDA {
                store(kernel + (first + n / vectors) * channels + g + n % vectors * lanes,
                      sums[n / vectors][n % vectors]);
            });
            if constexpr (last) {
                unroll<vectors>([&](auto v) CNNZOO_LAMBDA { store(bias + g + v * lanes, total[v]); });
            }
        }
    });
}

// Adds the sum over positions to a bias's gradient.
inline void add_bias_gradient(const float* deltas, int positions, float* bias) {
    for (int g = 0; g < channels; g += lanes) {
        Vec sum = load(bias + g);
        for (int position = 0; position < positions; ++position) sum += load(deltas + position * channels + g);
        store(bias + g, sum);
    }
}

// One row of the gradient before activation of a convolution's input, for `images` images. An input row lies under
// one kernel row (odd) or two (even, less at the border). `transposed` is the kernel as (9, out, in).
template <Activation activation, int In, int images>
CNNZOO_INLINE void input_gradient_row(const float* deltas, const float* transposed, int row, const float* in,
                                      float* in_deltas) {
    constexpr int out_side = next_side(In);
    constexpr int width = 2 * out_side + 1;  // an even input has one more column, which no output sees
    constexpr int count = images * width;
    const int top = row % 2 ? 1 : (row / 2 < out_side ? 0 : 2), bottom = row % 2 ? 1 : (row ? 2 : 0);
    for (int g = 0; g < channels; g += lanes) {
        Vec sums[count];
        unroll<count>([&](auto n) CNNZOO_LAMBDA { sums[n] = Vec{}; });
        for (int ky = bottom; ky >= top; ky -= 2) {
            const float* d = deltas + (row - ky) / 2 * out_side * channels;
            const float* w = transposed + ky * 3 * channels * channels + g;
            const auto column = [](int n) { return n / out_side * width + 2 * (n % out_side); };
            // Even columns lie under the kernel's last column and then, one output further, under its first.
#pragma GCC unroll 2
            for (int c = 0; c < channels; ++c) {
                const Vec middle = load(w + (channels + c) * channels), last = load(w + (2 * channels + c) * channels);
                unroll<images * out_side>([&](auto n) CNNZOO_LAMBDA {
                    const Vec delta = splat(d[n / out_side * map_size(out_side) + n % out_side * channels + c]);
                    sums[column(n) + 1] = fused(middle, delta, sums[column(n) + 1]);
                    sums[column(n) + 2] = fused(last, delta, sums[column(n) + 2]);
                });
            }
#pragma GCC unroll 4
            for (int c = 0; c < channels; ++c) {
                const Vec first = load(w + c * channels);
                unroll<images * out_side>([&](auto n) CNNZOO_LAMBDA {
                    const Vec delta = splat(d[n / out_side * map_size(out_side) + n % out_side * channels + c]);
                    sums[column(n)] = fused(first, delta, sums[column(n)]);
                });
            }
        }
        unroll<count>([&](auto n) CNNZOO_LAMBDA {
            constexpr int at = n / width * map_size(In) + n % width * channels;
            const int offset = at + row * In * channels + g;
            store(in_deltas + offset, before_activation(activation, load(in + offset), sums[n]));
        });
    }
}

// The same with few registers: one column of the kernel at a time, which meets every second input column. Even columns
// lie under the kernel's last column and, one output further, under its first; their sums wait in `in_deltas` in
// between, as the order of the sums demands.
template <Activation activation, int In, int images>
CNNZOO_INLINE void input_gradient_row_by_columns(const float* deltas, const float* transposed, int row, const float* in,
                                                 float* in_deltas) {
    constexpr int out_side = next_side(In);
    const int top = row % 2 ? 1 : (row / 2 < out_side ? 0 : 2), bottom = row % 2 ? 1 : (row ? 2 : 0);
    const int row_start = row * In * channels;
    // Offsets of position n of the images' output rows, and of the input column below its kernel's first column.
    constexpr auto from = [](int n) { return n / out_side * map_size(out_side) + n % out_side * channels; };
    constexpr auto to = [](int n) { return n / out_side * map_size(In) + n % out_side * 2 * channels; };
    const auto finish = [&](int offset, Vec sum) CNNZOO_LAMBDA {
        store(in_deltas + offset, before_activation(activation, load(in + offset), sum));
    };
    const auto add_column = [&](int from_ky, int to_ky, auto kx, bool fresh, bool last) CNNZOO_LAMBDA {
        in_chunks<images * out_side, most_positions>([&](auto first, auto count) CNNZOO_LAMBDA {
            for (int g = 0; g < channels; g += tile_channels) {
                const int start = row_start + kx * channels + g;
                Vec sums[count][vectors];
                unroll<count * vectors>([&](auto n) CNNZOO_LAMBDA {
                    const int offset = start + to(first + n / vectors) + n % vectors * lanes;
                    sums[n / vectors][n % vectors] = fresh ? Vec{} : load(in_deltas + offset);
                });
                for (int ky = from_ky; ky >= to_ky; ky -= 2) {
                    const float* d = deltas + (row - ky) / 2 * out_side * channels;
                    const float* w = transposed + (ky * 3 + kx) * channels * channels + g;
#pragma GCC unroll 2
                    for (int c = 0; c < channels; ++c, ++d, w += channels) {
                        Vec weights[vectors];
                        unroll<vectors>([&](auto v) CNNZOO_LAMBDA { weights[v] = load(w + v * lanes); });
                        unroll<count>([&](auto n) CNNZOO_LAMBDA {
                            const Vec delta = splat(d[from(first + n)]);
                            unroll<vectors>([&](auto v) CNNZOO_LAMBDA {
                                sums[n][v] = fused(weights[v], delta, sums[n][v]);
                            });
                        });
                    }
                }
                unroll<count * vectors>([&](auto n) CNNZOO_LAMBDA {
                    const int offset = start + to(first + n / vectors) + n % vectors * lanes;
                    const Vec sum = sums[n / vectors][n % vectors];
                    last ? finish(offset, sum) : store(in_deltas + offset, sum);
                });
            }
        });
    };
    for (int image = 0; image < images; ++image) {
        float* start = in_deltas + image * map_size(In) + row_start;
        for (int g = 0; g < channels; g += lanes) store(start + g, Vec{});
    }
    for (int ky = bottom; ky >= top; ky -= 2) {
        add_column(ky, ky, Constant<2>{}, ky == bottom, false);
        add_column(ky, ky, Constant<0>{}, false, ky == top);
    }
    for (int image = 0; image < images; ++image) {
        const int end = image * map_size(In) + row_start + 2 * out_side * channels;
        for (int g = 0; g < channels; g += lanes) finish(end + g, load(in_deltas + end + g));
    }
    add_column(bottom, top, Constant<1>{}, true, true);
}

// Gradient before activation of a convolution's input maps (whose unseen last row and column stay as they are: zero).
template <Activation activation, int In, int images>
__attribute__((noinline)) void input_gradient(const float* deltas, const float* transposed, const float* in,
                                              float* in_deltas) {
    for (int row = 0; row <= 2 * next_side(In); ++row) {
        if constexpr (registers == 32) {
            input_gradient_row<activation, In, images>(deltas, transposed, row, in, in_deltas);
        } else {
            input_gradient_row_by_columns<activation, In, images>(deltas, transposed, row, in, in_deltas);
        }
    }
}

// --- the network -----------------------------------------------------------------------------------------------------

// Calls f.operator()<n>(first image) for groups of n images, then one by one for what remains.
template <int n, class F>
CNNZOO_INLINE void in_groups(int images, F&& f) {
    int image = 0;
    for (; image + n <= images; image += n) f(Constant<n>{}, image);
    if constexpr (n > 1) {
        for (; image < images; ++image) f(Constant<1>{}, image);
    }
}

// Where the variables of a layer start in a row of weights.
constexpr int kernel_size = taps * channels * channels;
constexpr int bias_1 = 0, kernel_1 = bias_1 + channels;
constexpr int bias_2 = kernel_1 + taps * channels, kernel_2 = bias_2 + channels;
constexpr int bias_3 = kernel_2 + kernel_size, kernel_3 = bias_3 + channels;
constexpr int bias_4 = kernel_3 + kernel_size;

template <int side, Activation activation>
class FixedPasses final : public SinglePasses {
    static constexpr int side_1 = next_side(side), side_2 = next_side(side_1), side_3 = next_side(side_2);
    static constexpr int positions_1 = side_1 * side_1, positions_2 = side_2 * side_2, positions_3 = side_3 * side_3;
    static constexpr int pairs_1 = (positions_1 + 1) / 2, pairs_2 = (positions_2 + 1) / 2,
                         pairs_3 = (positions_3 + 1) / 2;
    static constexpr std::uint32_t image_words = (pairs_1 + pairs_2 + pairs_3) * channels;

    // Images at a time in the third layer, whose maps are small.
    static constexpr int forward_group = divisor_of_block(most_positions / positions_3);
    static constexpr int backward_group =
        divisor_of_block(registers == 32 ? most_accumulators / (2 * side_3 + 1) : most_positions / side_3);

    const int classes;
    LossGradient loss;

    // Weights as the passes want them: dropout's scale inside, transposed for the way back.
    alignas(64) float weights_2[kernel_size];
    alignas(64) float weights_3[kernel_size];
    alignas(64) float transposed_2[kernel_size];
    alignas(64) float transposed_3[kernel_size];
    alignas(64) float bias_dense[padded_classes];
    alignas(64) float dense[channels * padded_classes];
    alignas(64) float dense_transposed[padded_classes * channels];

    // Activations and gradients of a block of images.
    alignas(64) float map_1[block * map_size(side_1)] = {};
    alignas(64) float map_2[block * map_size(side_2)] = {};
    alignas(64) float map_3[block * map_size(side_3)] = {};
    alignas(64) float delta_1[map_size(side_1)] = {};
    alignas(64) float delta_2[block * map_size(side_2)] = {};
    alignas(64) float delta_3[block * map_size(side_3)] = {};
    alignas(64) float pooled[block * channels];  // sums over positions
    alignas(64) float scores[block * padded_classes];  // logits, then their gradient

    // Sums over the minibatch, in the layout of a row of weights up to the dense layer, which is padded.
    alignas(64) float sums[bias_4 + padded_classes + channels * padded_classes];

    float* sums_bias_dense() { return sums + bias_4; }
    float* sums_dense() { return sums + bias_4 + padded_classes; }

    void prepare(const float* weights, float scale) {
        for (int i = 0; i < kernel_size; ++i) weights_2[i] = weights[kernel_2 + i] * scale;
        for (int i = 0; i < kernel_size; ++i) weights_3[i] = weights[kernel_3 + i] * scale;
        const float* kernel_4 = weights + bias_4 + classes;
        for (int k = 0; k < padded_classes; ++k) {
            bias_dense[k] = k < classes ? weights[bias_4 + k] : 0.0f;
            for (int c = 0; c < channels; ++c) {
                const float w = k < classes ? kernel_4[c * classes + k] * (scale / positions_3) : 0.0f;
                dense[c * padded_classes + k] = dense_transposed[k * channels + c] = w;
            }
        }
    }

    void prepare_backward() {
        for (int tap = 0; tap < taps; ++tap) {
            for (int out = 0; out < channels; ++out) {
                for (int in = 0; in < channels; ++in) {
                    const int to = (tap * channels + out) * channels + in;
                    const int from = (tap * channels + in) * channels + out;
                    transposed_2[to] = weights_2[from];
                    transposed_3[to] = weights_3[from];
                }
            }
        }
        std::fill(std::begin(sums), std::end(sums), 0.0f);
    }

    // Activations of one image in layers 1 and 2. `image_number` counts within the minibatch.
    template <bool dropout>
    void forward_image(const float* weights, const float* image, const float* next_image, int slot,
                       std::uint32_t image_number, const Dropout& drop) {
        const std::uint32_t start = image_number * image_words * weyl + drop.key[0];
        const std::uint32_t threshold = drop.threshold << 16;
        float* one = map_1 + slot * map_size(side_1);
        float* two = map_2 + slot * map_size(side_2);
        const Words16 words_1{start, drop.key[1], threshold};
        int pair = 0;
        for (int row = 0; row < side_1; ++row) {
            prefetch_share<side>(next_image, row);
            convolve_image_row<side>(image + 2 * row * side, weights + kernel_1, weights + bias_1,
                                     one + row * side_1 * channels);
            const int done = row + 1 < side_1 ? (row + 1) * side_1 / 2 : pairs_1;
            activate_pairs<activation, dropout>(one, pair, done, words_1);
            pair = done;
        }
        convolve_maps<side_1, 1>(one, weights_2, weights + bias_2, two);
        const Words16 words_2{start + pairs_1 * channels * weyl, drop.key[1], threshold};
        activate_pairs<activation, dropout>(two, 0, pairs_2, words_2);
    }

    // Everything of `images` images, up to the logits.
    template <bool dropout>
    void forward(const float* weights, const float* const* inputs, int images, std::uint32_t first_number,
                 const Dropout& drop) {
        for (int i = 0; i < images; ++i) {
            forward_image<dropout>(weights, inputs[i], inputs[i + 1], i, first_number + i, drop);
        }
        in_groups<forward_group>(images, [&](auto n, int i) {
            convolve_maps<side_2, n>(map_2 + i * map_size(side_2), weights_3, weights + bias_3,
                                     map_3 + i * map_size(side_3));
        });
        for (int i = 0; i < images; ++i) {
            const std::uint32_t start = ((first_number + i) * image_words + (pairs_1 + pairs_2) * channels) * weyl;
            float* map = map_3 + i * map_size(side_3);
            activate_pairs<activation, dropout>(map, 0, pairs_3,
                                                {start + drop.key[0], drop.key[1], drop.threshold << 16});
            pool_and_score(map, i);
        }
    }

    void pool_and_score(const float* map, int slot) {
        float* pool = pooled + slot * channels;
        for (int g = 0; g < channels; g += lanes) {
            Vec sum = load(map + g);
            for (int position = 1; position < positions_3; ++position) sum += load(map + position * channels + g);
            store(pool + g, sum);
        }
        for (int g = 0; g < padded_classes; g += lanes) {
            Vec sum = load(bias_dense + g);
            for (int c = 0; c < channels; ++c) sum = fused(load(dense + c * padded_classes + g), splat(pool[c]), sum);
            store(scores + slot * padded_classes + g, sum);
        }
    }

    void backward_dense(int slot) {
        const float* pool = pooled + slot * channels;
        const float* score = scores + slot * padded_classes;
        for (int g = 0; g < padded_classes; g += lanes) {
            const Vec d = load(score + g);
            store(sums_bias_dense() + g, load(sums_bias_dense() + g) + d);
            for (int c = 0; c < channels; ++c) {
                float* sum = sums_dense() + c * padded_classes + g;
                store(sum, fused(d, splat(pool[c]), load(sum)));
            }
        }
        for (int g = 0; g < channels; g += lanes) {
            Vec back = Vec{};
            for (int k = 0; k < classes; ++k) {
                back = fused(load(dense_transposed + k * channels + g), splat(score[k]), back);
            }
            for (int position = 0; position < positions_3; ++position) {
                const int at = slot * map_size(side_3) + position * channels + g;
                store(delta_3 + at, before_activation(activation, load(map_3 + at), back));
            }
        }
    }

    void backward(const float* const* inputs, int images) {
        for (int i = 0; i < images; ++i) backward_dense(i);
        for (int i = 0; i < images; ++i) {
            add_bias_gradient(delta_3 + i * map_size(side_3), positions_3, sums + bias_3);
        }
        add_kernel_gradient<side_2>(map_2, delta_3, images, sums + kernel_3);
        in_groups<backward_group>(images, [&](auto n, int i) {
            const int two = i * map_size(side_2), three = i * map_size(side_3);
            input_gradient<activation, side_2, n>(delta_3 + three, transposed_3, map_2 + two, delta_2 + two);
        });
        for (int i = 0; i < images; ++i) {
            add_bias_gradient(delta_2 + i * map_size(side_2), positions_2, sums + bias_2);
        }
        add_kernel_gradient<side_1>(map_1, delta_2, images, sums + kernel_2);
        for (int i = 0; i < images; ++i) {
            input_gradient<activation, side_1, 1>(delta_2 + i * map_size(side_2), transposed_2,
                                                  map_1 + i * map_size(side_1), delta_1);
            add_image_gradient<side>(inputs[i], delta_1, sums + kernel_1, sums + bias_1);
        }
    }

    // The gradient as a row: dropout's scale, which the passes left out, and the L2 term.
    void finish(const float* weights, float l2reg, float scale, float* gradient) {
        const auto add_kernel = [&](int start, int size, float factor) {
            for (int i = start; i < start + size; ++i) gradient[i] = sums[i] * factor + 2.0f * l2reg * weights[i];
        };
        for (int bias : {bias_1, bias_2, bias_3}) std::copy_n(sums + bias, channels, gradient + bias);
        add_kernel(kernel_1, taps * channels, 1.0f);
        add_kernel(kernel_2, kernel_size, scale);
        add_kernel(kernel_3, kernel_size, scale);
        std::copy_n(sums_bias_dense(), classes, gradient + bias_4);
        const int kernel_4 = bias_4 + classes;
        for (int c = 0; c < channels; ++c) {
            for (int k = 0; k < classes; ++k) {
                const int i = kernel_4 + c * classes + k;
                gradient[i] = sums_dense()[c * padded_classes + k] * (scale / positions_3) + 2.0f * l2reg * weights[i];
            }
        }
    }

    // Points at the images of a block and, for prefetching, at the one after.
    static void gather(const Batch& batch, int first, const float** inputs) {
        constexpr int pixels = side * side;
        for (int i = 0; i <= block; ++i) {
            inputs[i] = batch.images + batch.indices[std::min(first + i, batch.size - 1)] * pixels;
        }
    }

    template <bool dropout>
    void accumulate(const float* weights, const Dropout& drop, const Batch& batch) {
        const float share = 1.0f / static_cast<float>(batch.size);
        const float* inputs[block + 1];
        for (int first = 0; first < batch.size; first += block) {
            const int images = std::min(block, batch.size - first);
            gather(batch, first, inputs);
            forward<dropout>(weights, inputs, images, static_cast<std::uint32_t>(first), drop);
            loss.differentiate(scores, padded_classes, images, share,
                               [&](int i) { return batch.labels[batch.indices[first + i]]; });
            backward(inputs, images);
        }
    }

  public:
    explicit FixedPasses(int classes) : classes(classes), loss(classes) {}

    void gradient(const Member& member, const Batch& batch, float* gradient) override {
        const float* weights = member.weights;
        const Dropout& drop = member.dropout;
        prepare(weights, drop.scale);
        prepare_backward();
        drop.threshold ? accumulate<true>(weights, drop, batch) : accumulate<false>(weights, drop, batch);
        finish(weights, member.l2reg, drop.scale, gradient);
    }

    void logits(const float* weights, const Batch& batch, float* logits, float* maps) override {
        prepare(weights, 1.0f);
        const float* inputs[block + 1];
        for (int first = 0; first < batch.size; first += block) {
            const int images = std::min(block, batch.size - first);
            gather(batch, first, inputs);
            forward<false>(weights, inputs, images, 0, {});
            for (int i = 0; i < images; ++i) {
                std::copy_n(scores + i * padded_classes, classes, logits + (first + i) * classes);
                if (maps) maps = std::copy_n(map_3 + i * map_size(side_3), positions_3 * channels, maps);
            }
        }
    }
};

template <int side>
std::unique_ptr<Passes> passes_of_side(const Architecture& architecture) {
    if (architecture.activation == Activation::relu) {
        return std::make_unique<FixedPasses<side, Activation::relu>>(architecture.classes);
    }
    return std::make_unique<FixedPasses<side, Activation::tanh>>(architecture.classes);
}

}  // namespace

bool has_fixed_passes(const Architecture& architecture) {
    return architecture.units == channels && architecture.layers == 3 && architecture.classes <= padded_classes &&
           (architecture.image_size == 28 || architecture.image_size == 32);
}

std::unique_ptr<Passes> fixed_passes(const Architecture& architecture) {
    return architecture.image_size == 28 ? passes_of_side<28>(architecture) : passes_of_side<32>(architecture);
}

}  // namespace cnnzoo
