#include "engine.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <numeric>
#include <vector>

#include "arithmetic.h"
#include "dropout.h"
#include "optimizer.h"
#include "simd.h"
#include "threads.h"

namespace cnnzoo {
namespace {

using std::size_t;

std::unique_ptr<Passes> passes_of(const Cohort& cohort) {
    if (cohort.reference) return reference_passes(cohort.architecture);
    std::unique_ptr<Passes> passes = fixed_passes(cohort.architecture);
    return passes ? std::move(passes) : tiled_passes(cohort.architecture);
}

// The key and threshold of one step's masks, as training/dropout.py defines them.
Dropout dropout_at(double rate, const std::uint32_t key[2], std::uint32_t step) {
    return {{word(step, key), word(step + 0x80000000u, key)},
            static_cast<std::uint32_t>(std::nearbyint(rate * 65536.0)),
            static_cast<float>(1.0 / (1.0 - rate))};
}

// One network of a cohort while its thread works on it.
struct Row {
    const Cohort& cohort;
    size_t network, count;

    float* of(float* array) const { return array ? array + network * count : nullptr; }
    float l2reg() const { return static_cast<float>(cohort.l2reg[network]); }

    void gradient(Passes& passes, const Images& images, const Minibatches& minibatches, int step, float* to) const {
        const std::int64_t* indices = minibatches.indices + static_cast<size_t>(step) * minibatches.size;
        const Batch batch{images.pixels, images.labels, indices, minibatches.size};
        const Dropout drop = dropout_at(cohort.dropout[network], cohort.keys + 2 * network,
                                        minibatches.first_step + static_cast<std::uint32_t>(step));
        passes.gradient(of(cohort.weights), l2reg(), drop, batch, to);
    }

    void step(Passes& passes, const Images& images, const Minibatches& minibatches, int step, float* work) const {
        gradient(passes, images, minibatches, step, work);
        const std::uint32_t number = minibatches.first_step + static_cast<std::uint32_t>(step) + 1;
        update(cohort.optimizer, step_size(cohort.optimizer, cohort.learning_rate[network], number), work,
               of(cohort.weights), of(cohort.m), of(cohort.v), count);
    }

    // l2reg * sum(kernel^2).
    double penalty(const Layout& layout) const {
        const float* weights = of(cohort.weights);
        double sum = 0.0;
        const auto add = [&](size_t start, size_t size) {
            for (size_t i = start; i < start + size; ++i) sum += static_cast<double>(weights[i]) * weights[i];
        };
        for (const Convolution& layer : layout.convolutions) add(layer.kernel, layer.kernel_size());
        add(layout.kernel, layout.count - layout.kernel);
        return cohort.l2reg[network] * sum;
    }
};

constexpr int scored_together = 128;

// CPU time of this thread: what other programs take of the core does not count.
double thread_seconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

bool train(const Cohort& cohort, const Images& images, const Minibatches& minibatches, int threads,
           const KeepGoing& keep_going) {
    const size_t count = Layout(cohort.architecture).count;
    return spread(cohort.networks, threads, keep_going, [&](const auto& take, const std::atomic<bool>& stop) {
        const std::unique_ptr<Passes> passes = passes_of(cohort);
        std::vector<float> work(count);
        for (size_t network = take(); network < cohort.networks; network = take()) {
            const Row row{cohort, network, count};
            for (int step = 0; step < minibatches.steps && !stop; ++step) {
                row.step(*passes, images, minibatches, step, work.data());
            }
        }
    });
}

bool evaluate(const Cohort& cohort, const Images& images, int threads, const KeepGoing& keep_going, double* accuracy,
              double* loss) {
    const Layout layout(cohort.architecture);
    const size_t count = layout.count;
    const int classes = cohort.architecture.classes;
    return spread(cohort.networks, threads, keep_going, [&](const auto& take, const std::atomic<bool>& stop) {
        const std::unique_ptr<Passes> passes = passes_of(cohort);
        std::vector<float> scores(static_cast<size_t>(scored_together) * classes);
        std::vector<std::int64_t> indices(scored_together);
        for (size_t network = take(); network < cohort.networks; network = take()) {
            const Row row{cohort, network, count};
            size_t correct = 0;
            double entropy = 0.0;
            for (size_t first = 0; first < images.count && !stop; first += scored_together) {
                const int size = static_cast<int>(std::min<size_t>(scored_together, images.count - first));
                std::iota(indices.begin(), indices.end(), static_cast<std::int64_t>(first));
                const Batch batch{images.pixels, images.labels, indices.data(), size};
                passes->logits(row.of(cohort.weights), batch, scores.data());
                for (int i = 0; i < size; ++i) {
                    const float* score = scores.data() + static_cast<size_t>(i) * classes;
                    const int label = images.labels[first + i];
                    correct += argmax(score, classes) == label;
                    entropy += cross_entropy(score, classes, label);
                }
            }
            const double total = static_cast<double>(images.count);
            accuracy[network] = static_cast<double>(correct) / total;
            loss[network] = entropy / total + row.penalty(layout);
        }
    });
}

void gradients(const Cohort& cohort, const Images& images, const Minibatches& minibatches, float* gradient) {
    const DenormalsAreZero guard;
    const size_t count = Layout(cohort.architecture).count;
    const std::unique_ptr<Passes> passes = passes_of(cohort);
    for (size_t network = 0; network < cohort.networks; ++network) {
        const Row row{cohort, network, count};
        row.gradient(*passes, images, minibatches, 0, gradient + network * count);
    }
}

double fma_peak(double seconds, int threads) {
    constexpr int chains = registers == 32 ? 20 : 12, turns = 20000;
    std::vector<double> rates(static_cast<size_t>(threads));
    spread(rates.size(), threads, [] { return true; }, [&](const auto& take, const std::atomic<bool>&) {
        const size_t thread = take();
        if (thread >= rates.size()) return;
        using Vec = Floats<lanes>;
        Vec sums[chains];
        unroll<chains>([&](auto n) CNNZOO_LAMBDA { sums[n] = splat<lanes>(static_cast<float>(n)); });
        Vec factor = splat<lanes>(0.5f), term = splat<lanes>(1.0f);
        const double start = thread_seconds();
        double elapsed = 0.0, turns_done = 0.0;
        while (elapsed < seconds) {
            for (int turn = 0; turn < turns; ++turn) {
                asm volatile("" : "+m"(factor));  // opaque, so that the loop is not computed in advance
                const Vec f = factor;
                unroll<chains>([&](auto n) CNNZOO_LAMBDA { sums[n] = fused(sums[n], f, term); });
                unroll<chains>([&](auto n) CNNZOO_LAMBDA { sums[n] = fused(sums[n], f, term); });
            }
            turns_done += turns;
            elapsed = thread_seconds() - start;
        }
        Vec total = Vec{};
        unroll<chains>([&](auto n) CNNZOO_LAMBDA { total += sums[n]; });
        asm volatile("" ::"m"(total));
        rates[thread] = turns_done * 2 * chains * lanes * 2 / elapsed;
    });
    return std::accumulate(rates.begin(), rates.end(), 0.0) / static_cast<double>(threads);
}

#if defined(__AVX512F__)
const char* const instruction_set = "avx512";
#elif defined(__AVX2__)
const char* const instruction_set = "avx2";
#elif defined(__aarch64__)
const char* const instruction_set = "neon";
#else
const char* const instruction_set = "generic";
#endif

}  // namespace cnnzoo
