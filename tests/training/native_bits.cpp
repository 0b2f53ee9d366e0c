// Trains small cohorts of many shapes with the native kernel and prints a digest of their bits, a line each: a program
// without Python, for processors that only an emulator has. With the argument `reference` it takes the definition of the
// arithmetic instead of the fast kernels, with `published` only the published shape.
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <vector>

#include "engine.h"

namespace {

using namespace cnnzoo;

// Numbers that are the same everywhere: Numerical Recipes' generator, its upper half.
struct Random {
    std::uint32_t state;
    std::uint32_t bits() { return (state = state * 1664525u + 1013904223u) >> 16; }
    float centred() { return static_cast<float>(bits()) / 32768.0f - 1.0f; }
};

// FNV-1a of bytes.
struct Digest {
    std::uint64_t value = 0xCBF29CE484222325u;
    template <class T>
    void add(const std::vector<T>& values) {
        std::vector<unsigned char> bytes(values.size() * sizeof(T));
        std::memcpy(bytes.data(), values.data(), bytes.size());
        for (unsigned char byte : bytes) value = (value ^ byte) * 0x100000001B3u;
    }
};

constexpr int image_count = 30, steps = 3, minibatch = 13;

std::uint64_t digest(const Architecture& architecture, Optimizer optimizer, double rate, std::size_t networks,
                     bool reference) {
    Random random{17};
    const std::size_t count = Layout(architecture).count, n = networks * count;
    std::vector<float> weights(n), m(n), v(n), pixels(static_cast<std::size_t>(image_count * architecture.image_size) *
                                                      static_cast<std::size_t>(architecture.image_size));
    std::vector<std::uint8_t> labels(image_count);
    std::vector<std::int64_t> indices(steps * minibatch);
    std::vector<double> learning_rate(networks, 0.01), l2reg(networks, 0.001), dropout(networks, rate);
    std::vector<std::uint32_t> keys(2 * networks);
    const float scale = 1.0f / static_cast<float>(architecture.units > 4 ? architecture.units / 4 : 1);
    for (float& weight : weights) weight = random.centred() * scale;
    for (float& pixel : pixels) pixel = random.centred();
    for (std::uint8_t& label : labels) label = static_cast<std::uint8_t>(random.bits() % 10);
    for (std::int64_t& index : indices) index = random.bits() % image_count;
    for (std::uint32_t& key : keys) key = random.bits() << 16 | random.bits();

    const Cohort cohort{architecture, reference, optimizer, networks, weights.data(), m.data(), v.data(),
                        learning_rate.data(), l2reg.data(), dropout.data(), keys.data()};
    const Images images{pixels.data(), labels.data(), image_count};
    const auto going = [] { return true; };
    train(cohort, images, {indices.data(), steps, minibatch, 0}, 1, going);
    std::vector<double> accuracy(networks), loss(networks);
    evaluate(cohort, images, 1, going, accuracy.data(), loss.data());
    Digest all;
    all.add(weights), all.add(m), all.add(v), all.add(accuracy), all.add(loss);
    return all.value;
}

}  // namespace

int main(int arguments, char** argument) {
    const auto given = [&](const char* name) { return arguments > 1 && !std::strcmp(argument[1], name); };
    std::fprintf(stderr, "%s\n", instruction_set);
    int number = 0;
    for (int units : {1, 3, 8, 12, 16, 20, 24, 32, 64}) {
        for (int layers = 1; layers <= 4; ++layers) {
            for (int side : {28, 31, 32}) {
                const Activation activation = number / 3 % 2 ? Activation::tanh : Activation::relu;
                const Architecture architecture{side, units, layers, 10, activation};
                const Optimizer optimizer = static_cast<Optimizer>(number % 3);
                const double rate = number / 6 % 2 ? 0.7 : 0.0;
                ++number;
                if (!Layout(architecture).count) continue;
                if (given("published") && (units != 16 || layers != 3)) continue;
                const std::size_t networks = units < 24 ? 9 : 2;  // enough for those that pass side by side
                std::printf("%d units, %d layers, %d px, %s, optimizer %d, dropout %.1f: %016" PRIx64 "\n", units, layers,
                            side, activation == Activation::tanh ? "tanh" : "relu", static_cast<int>(optimizer), rate,
                            digest(architecture, optimizer, rate, networks, given("reference")));
            }
        }
    }
}
