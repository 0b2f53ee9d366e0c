// The passes and the optimizer for a GPU: a network stays with one block of threads for a whole call, in shared memory.
//
// Compiled when training starts, for one shape: the macros of engines/cuda.py. Every number has the bits of network.h:
// a thread owns outputs and runs their chains in the defined order, GROUP images at a time; sums over the minibatch
// stay in global memory between groups.
//
// A map is float [position][channel], a kernel [tap and input channel][channel], channels padded to an odd number of
// quads: so neighbouring positions, or rows of a kernel, lie in other banks. A gradient takes the place of its map.
#ifdef __CUDACC_RTC__
namespace std {
using uint8_t = unsigned char;
using uint32_t = unsigned int;
using uint64_t = unsigned long long;
using int64_t = long long;
using size_t = unsigned long;
template <bool holds, class Yes, class No>
struct conditional {
    using type = Yes;
};
template <class Yes, class No>
struct conditional<false, Yes, No> {
    using type = No;
};
template <bool holds, class Yes, class No>
using conditional_t = typename conditional<holds, Yes, No>::type;
}  // namespace std
#else
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#endif

#define CNNZOO_FUNCTION __device__ inline
#define CNNZOO_INLINE __device__ __forceinline__

#include "kinds.h"

namespace cnnzoo {
namespace {

template <class Float>
struct Kin {
    using Words = std::uint32_t;
};

template <class To, class From>
CNNZOO_INLINE To bits_of(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same number of bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

CNNZOO_INLINE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
CNNZOO_INLINE float square_root(float x) { return __fsqrt_rn(x); }
CNNZOO_INLINE double square_root(double x) { return __dsqrt_rn(x); }

}  // namespace
}  // namespace cnnzoo

#include "dropout.h"
#include "elementary.h"
#include "optimizer.h"

namespace cnnzoo {
namespace {

using std::size_t;
using std::uint32_t;

constexpr int units = UNITS, layers = LAYERS, classes = CLASSES;
constexpr int group = GROUP;                     // images in shared memory at a time
constexpr int threads = THREADS;                 // of a block
constexpr int quad = 4;                          // channels of a tile: what one load brings
constexpr int quads = (units + quad - 1) / quad;
constexpr int row_size = quad * (quads | 1);     // floats of a position or of a row of a kernel
constexpr Activation activation = Activation::ACTIVATION;
constexpr Optimizer optimizer = Optimizer::OPTIMIZER;

// The positions of one thread's tile, of so many: four, to use a weight four times, or less to give all threads work.
__host__ __device__ constexpr int tile_of(int positions) {
    int tile = 4;
    while (tile > 1 && 3 * positions * quads < 2 * threads * tile) tile /= 2;
    return tile;
}

// The layers, 0 being the first convolution; see Layout.
__host__ __device__ constexpr int side_of(int layer) {
    int side = IMAGE_SIDE;
    for (int l = 0; l <= layer; ++l) side = (side - kernel_side) / step + 1;
    return side;
}
__host__ __device__ constexpr int in_side_of(int layer) { return layer ? side_of(layer - 1) : IMAGE_SIDE; }
__host__ __device__ constexpr int positions_of(int layer) { return side_of(layer) * side_of(layer); }
__host__ __device__ constexpr int in_channels_of(int layer) { return layer ? units : 1; }
__host__ __device__ constexpr int bias_of(int layer) {
    int at = 0;
    for (int l = 0; l < layer; ++l) at += units + taps * in_channels_of(l) * units;
    return at;
}
__host__ __device__ constexpr int kernel_of(int layer) { return bias_of(layer) + units; }
__host__ __device__ constexpr uint32_t first_word_of(int layer) {
    uint32_t word = 0;
    for (int l = 0; l < layer; ++l) word += (positions_of(l) + 1) / 2 * units;
    return word;
}
constexpr int last = layers - 1, last_positions = positions_of(last);
constexpr int dense_bias = bias_of(layers), dense_kernel = dense_bias + classes;
constexpr int parameters = dense_kernel + units * classes;
constexpr uint32_t image_words = first_word_of(layers);
constexpr int image_size = IMAGE_SIDE * IMAGE_SIDE;

// Where everything lies among the floats of a block: scaled kernels first, then the group's images and maps. Layer
// `layers` is what follows the last.
__host__ __device__ constexpr int rounded(int floats) { return (floats + quad - 1) / quad * quad; }
__host__ __device__ constexpr int scaled_of(int layer) {
    int at = 0;
    for (int l = 0; l < layer; ++l) at += taps * in_channels_of(l) * row_size;
    return at;
}
constexpr int scaled_dense = scaled_of(layers), scaled_size = rounded(scaled_dense + units * classes);
constexpr int biases_at = KERNELS_SHARED ? scaled_size : 0;  // of the convolutions, row_size each, then of the classes
constexpr int images_at = rounded(biases_at + layers * row_size + classes);
__host__ __device__ constexpr int map_of(int layer) {
    int at = images_at + rounded(group * image_size);
    for (int l = 0; l < layer; ++l) at += group * positions_of(l) * row_size;
    return at;
}
constexpr int pooled_at = map_of(layers), scores_at = pooled_at + group * row_size;
constexpr int block_floats = rounded(scores_at + group * classes);

struct Quad {
    float at[quad];
};

CNNZOO_INLINE Quad load(const float* from) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    return {{four.x, four.y, four.z, four.w}};
}
CNNZOO_INLINE void store(float* to, const Quad& q) {
    *reinterpret_cast<float4*>(to) = make_float4(q.at[0], q.at[1], q.at[2], q.at[3]);
}
template <int channels>
CNNZOO_INLINE Quad load_channels(const float* from) {  // an image has one channel, and is not aligned
    if constexpr (channels == 1) return {{*from, 0.0f, 0.0f, 0.0f}};
    else return load(from);
}

struct Images {
    const float* pixels;         // (M, H, W)
    const std::uint8_t* labels;  // (M)
};

// Dropout of this network at one step; see network.h.
struct Dropout {
    uint32_t key[2];
    uint32_t threshold;
    float scale;
};

struct Block {
    float* shared;    // block_floats
    float* scaled;    // scaled_size: the kernels with dropout's scale, shared or global
    float* sums;      // parameters: the gradient so far, global
    int me;           // this thread

    __device__ float* map(int layer) const { return shared + map_of(layer); }
    template <int layer>
    __device__ const float* input(int image) const {
        if constexpr (layer == 0) return shared + images_at + image * image_size;
        else return shared + map_of(layer - 1) + image * positions_of(layer - 1) * row_size;
    }
    template <int layer>
    __host__ __device__ static constexpr int input_stride() { return layer == 0 ? 1 : row_size; }
    __device__ float* bias(int layer) const { return shared + biases_at + layer * row_size; }
    __device__ float* pooled(int image) const { return shared + pooled_at + image * row_size; }
    __device__ float* scores(int image) const { return shared + scores_at + image * classes; }

    static __device__ float dense_scale(float scale) { return scale / static_cast<float>(last_positions); }

    // Scales the kernels and copies the biases of weights (P).
    __device__ void prepare(const float* weights, float scale) const {
        for (int layer = 0; layer < layers; ++layer) {
            const int rows = taps * in_channels_of(layer);
            for (int i = me; i < rows * row_size; i += threads) {
                const int channel = i % row_size;
                const float w = channel < units ? weights[kernel_of(layer) + i / row_size * units + channel] : 0.0f;
                scaled[scaled_of(layer) + i] = w * (layer ? scale : 1.0f);
            }
            for (int i = me; i < row_size; i += threads) bias(layer)[i] = i < units ? weights[bias_of(layer) + i] : 0.0f;
        }
        for (int i = me; i < units * classes; i += threads) {
            scaled[scaled_dense + i] = weights[dense_kernel + i] * dense_scale(scale);
        }
        for (int i = me; i < classes; i += threads) bias(layers)[i] = weights[dense_bias + i];
    }

    // Copies the images `index(0 .. live - 1)`. All of a thread's loads are on their way before the first is stored.
    template <class Index>
    __device__ void fetch(const Images& images, int live, const Index& index) const {
        using Part = std::conditional_t<image_size % quad == 0, float4, float>;
        constexpr int parts = image_size * sizeof(float) / sizeof(Part), each = (group * parts + threads - 1) / threads;
        Part got[each];
#pragma unroll
        for (int n = 0; n < each; ++n) {
            const int i = me + n * threads, image = i / parts;
            if (image < live) got[n] = reinterpret_cast<const Part*>(images.pixels)[index(image) * parts + i % parts];
        }
#pragma unroll
        for (int n = 0; n < each; ++n) {
            const int i = me + n * threads;
            if (i / parts < live) reinterpret_cast<Part*>(shared + images_at)[i] = got[n];
        }
    }

    static __device__ bool kept(int layer, int position, int channel, uint32_t number, const Dropout& drop) {
        const uint32_t counter = number * image_words + first_word_of(layer) +
                                 static_cast<uint32_t>(position / 2 * units + channel);
        const uint32_t drawn = word(counter, drop.key);
        return position % 2 ? keeps_second(drawn, drop.threshold) : keeps_first(drawn, drop.threshold);
    }

    // The map of a layer for all images of the group, `first` being the number of the first one in the minibatch.
    template <int layer>
    __device__ void convolve(uint32_t first, const Dropout& drop) const {
        constexpr int side = side_of(layer), in_side = in_side_of(layer), channels = in_channels_of(layer);
        constexpr int stride = input_stride<layer>(), all = group * positions_of(layer);
        constexpr int tile = tile_of(all), tiles = (all + tile - 1) / tile;
        const float* kernel = scaled + scaled_of(layer);
        for (int item = me; item < tiles * quads; item += threads) {
            const int out = item % quads * quad, start = item / quads;
            const float* from[tile];
            Quad sums_of[tile];
            const Quad starts = load(bias(layer) + out);
#pragma unroll
            for (int j = 0; j < tile; ++j) {
                const int at = start + j * tiles < all ? start + j * tiles : all - 1;
                const int image = at / positions_of(layer), position = at % positions_of(layer);
                from[j] = input<layer>(image) + (position / side * in_side + position % side) * step * stride;
                sums_of[j] = starts;
            }
#pragma unroll 1
            for (int row = 0; row < kernel_side; ++row) {
#pragma unroll 1
                for (int column = 0; column < kernel_side; ++column) {
                    const int offset = (row * in_side + column) * stride;
                    const float* weights = kernel + (row * kernel_side + column) * channels * row_size + out;
#pragma unroll 1
                    for (int c = 0; c < channels; c += quad) {
                        Quad x[tile];
#pragma unroll
                        for (int j = 0; j < tile; ++j) x[j] = load_channels<channels>(from[j] + offset + c);
#pragma unroll
                        for (int i = 0; i < quad && c + i < channels; ++i) {
                            const Quad w = load(weights + (c + i) * row_size);
#pragma unroll
                            for (int j = 0; j < tile; ++j) {
#pragma unroll
                                for (int k = 0; k < quad; ++k) {
                                    sums_of[j].at[k] = fused(x[j].at[i], w.at[k], sums_of[j].at[k]);
                                }
                            }
                        }
                    }
                }
            }
#pragma unroll
            for (int j = 0; j < tile; ++j) {
                const int at = start + j * tiles;
                if (at >= all) continue;
                const int image = at / positions_of(layer), position = at % positions_of(layer);
#pragma unroll
                for (int k = 0; k < quad; ++k) {
                    float& a = sums_of[j].at[k];
                    const bool keep =
                        !drop.threshold || kept(layer, position, out + k, first + static_cast<uint32_t>(image), drop);
                    a = keep ? activate(activation, a) : dropped(activation);
                }
                store(map(layer) + at * row_size + out, sums_of[j]);
            }
        }
        __syncthreads();
        if constexpr (layer < last) convolve<layer + 1>(first, drop);
    }

    // The scores of the group's images.
    __device__ void score() const {
        for (int i = me; i < group * units; i += threads) {
            const int image = i / units, channel = i % units;
            const float* from = map(last) + image * last_positions * row_size + channel;
            float sum = from[0];
            for (int position = 1; position < last_positions; ++position) sum += from[position * row_size];
            pooled(image)[channel] = sum;
        }
        __syncthreads();
        for (int i = me; i < group * classes; i += threads) {
            const int image = i / classes, k = i % classes;
            float sum = bias(layers)[k];
            for (int c = 0; c < units; ++c) {
                sum = fused(pooled(image)[c], scaled[scaled_dense + c * classes + k], sum);
            }
            scores(image)[k] = sum;
        }
        __syncthreads();
    }

    // From the gradient of the scores: the dense layer's, and that before the last activation.
    __device__ void backward_dense(int live) const {
        for (int i = me; i < classes * (units + 1); i += threads) {
            const int k = i % classes, c = i / classes;
            float& sum_of = sums[c < units ? dense_kernel + i : dense_bias + k];
            float sum = sum_of;
            for (int image = 0; image < live; ++image) {
                const float gradient = scores(image)[k];
                sum = c < units ? fused(pooled(image)[c], gradient, sum) : sum + gradient;
            }
            sum_of = sum;
        }
        for (int i = me; i < group * units; i += threads) {
            const int image = i / units, channel = i % units;
            float back = 0.0f;
            for (int k = 0; k < classes; ++k) {
                back = fused(scores(image)[k], scaled[scaled_dense + channel * classes + k], back);
            }
            float* at = map(last) + image * last_positions * row_size + channel;
            for (int position = 0; position < last_positions; ++position, at += row_size) {
                *at = before_activation(activation, *at, back);
            }
        }
        __syncthreads();
    }

    // Adds the gradient of a layer's kernel and bias over the first `live` images.
    template <int layer>
    __device__ void add_gradient(int live) const {
        constexpr int side = side_of(layer), in_side = in_side_of(layer), channels = in_channels_of(layer);
        constexpr int stride = input_stride<layer>(), in_quads = (channels + quad - 1) / quad;
        constexpr int in_tile = channels < quad ? channels : quad, kernels = taps * in_quads * quads;
        for (int item = me; item < kernels + units; item += threads) {
            const float* delta = map(layer);
            if (item >= kernels) {
                float& sum_of = sums[bias_of(layer) + item - kernels];
                float sum = sum_of;
                delta += item - kernels;
#pragma unroll 16
                for (int at = 0; at < live * positions_of(layer); ++at) sum += delta[at * row_size];
                sum_of = sum;
                continue;
            }
            const int out = item % quads * quad, in = item / quads % in_quads * quad, tap = item / quads / in_quads;
            float* at = sums + kernel_of(layer) + (tap * channels + in) * units + out;
            const auto each = [&](auto&& body) {
#pragma unroll
                for (int i = 0; i < in_tile; ++i) {
#pragma unroll
                    for (int k = 0; k < quad; ++k) {
                        if (in + i < channels && out + k < units) body(i, k);
                    }
                }
            };
            Quad sums_of[in_tile];
            for (Quad& zero : sums_of) zero = {};
            each([&](int i, int k) { sums_of[i].at[k] = at[i * units + k]; });
            const float* from = input<layer>(0) + (tap / kernel_side * in_side + tap % kernel_side) * stride + in;
            delta += out;
            for (int image = 0; image < live; ++image) {
                for (int row = 0; row < side; ++row) {
#pragma unroll
                    for (int column = 0; column < side; ++column) {
                        const Quad x = load_channels<channels>(from + column * step * stride);
                        const Quad d = load(delta + column * row_size);
#pragma unroll
                        for (int i = 0; i < in_tile; ++i) {
#pragma unroll
                            for (int k = 0; k < quad; ++k) sums_of[i].at[k] = fused(x.at[i], d.at[k], sums_of[i].at[k]);
                        }
                    }
                    from += step * in_side * stride;
                    delta += side * row_size;
                }
                from += (in_side - step * side) * in_side * stride;
            }
            each([&](int i, int k) { at[i * units + k] = sums_of[i].at[k]; });
        }
        __syncthreads();
    }

    // The gradient before the activation below a layer, for inputs of one class: those whose row and column are both
    // even, or both odd, or one of each, are seen by the same taps. `item` counts the class's tiles.
    template <int layer, int odd_row, int odd_column, int tile>
    __device__ void input_gradient_of(int item) const {
        constexpr int side = side_of(layer), in_side = in_side_of(layer);
        constexpr int height = (in_side + 1 - odd_row) / 2, width = (in_side + 1 - odd_column) / 2;
        constexpr int all = group * height * width, tiles = (all + tile - 1) / tile;
        const int first = item % quads, start = item / quads;
        int image[tile], row[tile], column[tile];
        float sums_of[tile][quad];
#pragma unroll
        for (int j = 0; j < tile; ++j) {
            const int at = start + j * tiles < all ? start + j * tiles : all - 1;
            image[j] = at / (height * width), row[j] = at / width % height, column[j] = at % width;
#pragma unroll
            for (int i = 0; i < quad; ++i) sums_of[j][i] = 0.0f;
        }
        const float* rows[quad];  // of the kernel
#pragma unroll
        for (int i = 0; i < quad; ++i) {
            const int channel = first + quads * i < units ? first + quads * i : units - 1;
            rows[i] = scaled + scaled_of(layer) + channel * row_size;
        }
#pragma unroll 1
        for (int up = odd_row ? 0 : -1; up <= 0; ++up) {
#pragma unroll 1
            for (int left = odd_column ? 0 : -1; left <= 0; ++left) {
                const int tap = (odd_row - 2 * up) * kernel_side + odd_column - 2 * left;
                const float* delta[tile];
                bool seen[tile];
                float before[tile][quad];
#pragma unroll
                for (int j = 0; j < tile; ++j) {
                    const int y = row[j] + up, x = column[j] + left;
                    seen[j] = y >= 0 && y < side && x >= 0 && x < side;
                    delta[j] = map(layer) + (seen[j] ? (image[j] * side + y) * side + x : 0) * row_size;
#pragma unroll
                    for (int i = 0; i < quad; ++i) before[j][i] = sums_of[j][i];
                }
#pragma unroll 1
                for (int k = 0; k < units; k += quad) {
                    Quad d[tile];
#pragma unroll
                    for (int j = 0; j < tile; ++j) d[j] = load(delta[j] + k);
#pragma unroll
                    for (int i = 0; i < quad; ++i) {
                        const Quad w = load(rows[i] + tap * units * row_size + k);
#pragma unroll
                        for (int j = 0; j < tile; ++j) {
#pragma unroll
                            for (int n = 0; n < quad && k + n < units; ++n) {
                                sums_of[j][i] = fused(d[j].at[n], w.at[n], sums_of[j][i]);
                            }
                        }
                    }
                }
#pragma unroll
                for (int j = 0; j < tile; ++j) {
#pragma unroll
                    for (int i = 0; i < quad; ++i) sums_of[j][i] = seen[j] ? sums_of[j][i] : before[j][i];
                }
            }
        }
#pragma unroll
        for (int j = 0; j < tile; ++j) {
            if (start + j * tiles >= all) continue;
            const int y = 2 * row[j] + odd_row, x = 2 * column[j] + odd_column;
            const bool seen = y <= 2 * side && x <= 2 * side;  // the last row and column of an even side are not
            float* at = map(layer - 1) + ((image[j] * in_side + y) * in_side + x) * row_size;
#pragma unroll
            for (int i = 0; i < quad; ++i) {
                const int channel = first + quads * i;
                if (channel < units) {
                    at[channel] = seen ? before_activation(activation, at[channel], sums_of[j][i]) : 0.0f;
                }
            }
        }
    }

    template <int layer>
    __device__ void input_gradient() const {
        constexpr int in_side = in_side_of(layer), even = (in_side + 1) / 2, odd = in_side / 2;
        constexpr int tile = tile_of(group * even * even);
        constexpr auto items = [](int places) { return (group * places + tile - 1) / tile * quads; };
        constexpr int a = items(even * even), b = a + items(even * odd), c = b + items(odd * even);
        constexpr int all = c + items(odd * odd);
        for (int item = me; item < all; item += threads) {
            if (item < a) input_gradient_of<layer, 0, 0, tile>(item);
            else if (item < b) input_gradient_of<layer, 0, 1, tile>(item - a);
            else if (item < c) input_gradient_of<layer, 1, 0, tile>(item - b);
            else input_gradient_of<layer, 1, 1, tile>(item - c);
        }
        __syncthreads();
    }

    template <int layer>
    __device__ void backward(int live) const {
        add_gradient<layer>(live);
        if constexpr (layer > 0) {
            input_gradient<layer>();
            backward<layer - 1>(live);
        }
    }

    // What the passes left out of the gradient of weight `i`: dropout's scale and the L2 term.
    static __device__ float finished(int i, float sum, float weight, float l2reg, float scale) {
        if (i >= dense_kernel) return sum * dense_scale(scale) + 2.0f * l2reg * weight;
        if (i >= dense_bias) return sum;
        int layer = 0;
        while (i >= bias_of(layer + 1)) ++layer;
        if (i < kernel_of(layer)) return sum;
        return sum * (layer ? scale : 1.0f) + 2.0f * l2reg * weight;
    }
};

__device__ Block block_of(float* shared, float* scaled, float* sums) {
    const int me = static_cast<int>(threadIdx.x);
    if constexpr (KERNELS_SHARED) return {shared, shared, sums, me};
    return {shared, scaled + static_cast<size_t>(blockIdx.x) * scaled_size, sums, me};
}

}  // namespace
}  // namespace cnnzoo

extern "C" {

// What a launch needs: bytes of shared memory of a block, floats of a network's scaled kernels.
__device__ int cnnzoo_shared_bytes = sizeof(float) * cnnzoo::block_floats, cnnzoo_scaled_size = cnnzoo::scaled_size;

// Runs all steps on network blockIdx.x. weights, m, v, sums (N, P); scaled (N, scaled_size) unless KERNELS_SHARED; the
// hyperparameters (N), keys (N, 2), thresholds and scales of dropout (N); pixels (M, H, W), labels (M), indices (S, B).
__global__ void __launch_bounds__(THREADS)
    cnnzoo_train(float* weights, float* m, float* v, float* sums, float* scaled, const double* learning_rate,
                 const double* l2reg, const std::uint32_t* keys, const std::uint32_t* thresholds, const float* scales,
                 const float* pixels, const std::uint8_t* labels, const std::int64_t* indices, int steps, int size,
                 std::uint32_t first_step) {
    using namespace cnnzoo;
    extern __shared__ __align__(16) float shared[];
    const size_t network = blockIdx.x, row = network * parameters;
    const Block block = block_of(shared, scaled, sums + row);
    const float rate_of_l2 = static_cast<float>(l2reg[network]), scale = scales[network];
    weights += row;
    for (int i = block.me; i < parameters; i += threads) block.sums[i] = 0.0f;
    for (int at = 0; at < steps; ++at, indices += size) {
        const std::uint32_t number = first_step + static_cast<std::uint32_t>(at), *key = keys + 2 * network;
        const Dropout drop{{word(number, key), word(number + 0x80000000u, key)}, thresholds[network], scale};
        block.prepare(weights, scale);
        for (int first = 0; first < size; first += group) {
            const int live = size - first < group ? size - first : group;
            __syncthreads();
            block.fetch({pixels, labels}, live, [&](int image) { return static_cast<size_t>(indices[first + image]); });
            __syncthreads();
            block.convolve<0>(static_cast<std::uint32_t>(first), drop);
            block.score();
            for (int image = block.me; image < live; image += threads) {
                differentiate_loss<float>(Scores{block.scores(image)}, classes, labels[indices[first + image]],
                                   1.0f / static_cast<float>(size));
            }
            __syncthreads();
            block.backward_dense(live);
            block.backward<last>(live);
        }
        const float rate = step_size(optimizer, learning_rate[network], number + 1);
        for (int i = block.me; i < parameters; i += threads) {
            const float gradient = Block::finished(i, block.sums[i], weights[i], rate_of_l2, scale);
            update(optimizer, rate, &gradient, weights + i, m + row + i, v + row + i, 1);
            block.sums[i] = 0.0f;
        }
        __syncthreads();
    }
}

// Fills accuracy (N) and loss (N): mean cross-entropy + L2 term over `count` images, without dropout.
__global__ void __launch_bounds__(THREADS)
    cnnzoo_evaluate(const float* weights, float* scaled, const double* l2reg, const float* pixels,
                    const std::uint8_t* labels, int count, double* accuracy, double* loss) {
    using namespace cnnzoo;
    extern __shared__ __align__(16) float shared[];
    const size_t network = blockIdx.x;
    const Block block = block_of(shared, scaled, nullptr);
    weights += network * parameters;
    block.prepare(weights, 1.0f);
    double correct = 0.0, entropy = 0.0;
    for (int first = 0; first < count; first += group) {
        const int live = count - first < group ? count - first : group;
        __syncthreads();
        block.fetch({pixels, labels}, live, [&](int image) { return static_cast<size_t>(first + image); });
        __syncthreads();
        block.convolve<0>(0, Dropout{{0, 0}, 0, 1.0f});
        block.score();
        for (int image = block.me; image < live; image += threads) {
            const int label = labels[first + image];
            double* of_image = reinterpret_cast<double*>(block.pooled(image));  // no longer needed
            of_image[0] = cross_entropy(block.scores(image), classes, label);
            of_image[1] = argmax(block.scores(image), classes) == label;
        }
        __syncthreads();
        for (int image = 0; block.me == 0 && image < live; ++image) {
            const double* of_image = reinterpret_cast<const double*>(block.pooled(image));
            entropy += of_image[0];
            correct += of_image[1];
        }
    }
    if (block.me != 0) return;
    double penalty = 0.0;
    const auto add = [&](int start, int size) {
        for (int i = start; i < start + size; ++i) penalty += static_cast<double>(weights[i]) * weights[i];
    };
    for (int layer = 0; layer < layers; ++layer) add(kernel_of(layer), taps * in_channels_of(layer) * units);
    add(dense_kernel, units * classes);
    accuracy[network] = correct / count;
    loss[network] = entropy / count + l2reg[network] * penalty;
}

}  // extern "C"
