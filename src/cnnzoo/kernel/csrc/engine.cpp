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

std::unique_ptr<Passes> single_passes(const Architecture& architecture, bool reference) {
    if (reference) return reference_passes(architecture);
    return has_fixed_passes(architecture) ? fixed_passes(architecture) : tiled_passes(architecture);
}

// From here on the networks that pass side by side no longer fit the cache.
constexpr int wide = 24;

bool is_narrow(const Architecture& architecture) {
    return architecture.units < wide && !has_fixed_passes(architecture);
}

// How the networks of a cohort pass: in groups of `together` and, what is left of them, as a smaller group or one by one.
class Division {
    const size_t networks;
    size_t together = 1;
    bool rest_together = false;

    size_t whole() const { return networks / together + (rest_together ? 1 : 0); }

  public:
    Division(const Architecture& architecture, size_t networks, size_t threads, bool reference) : networks(networks) {
        if (reference || !is_narrow(architecture)) return;
        // Side by side, a multiply-add of a vector serves one channel of all networks, else up to `lanes` of one.
        const size_t group_time = static_cast<size_t>(architecture.units), single_time = (group_time + lanes - 1) / lanes;
        const size_t groups = networks / lanes, rest = networks % lanes;
        const auto share = [&](size_t items) { return (items + threads - 1) / threads; };  // of the busiest thread
        const size_t all_singly = share(networks) * single_time;
        const size_t in_groups = share(groups + (rest ? 1 : 0)) * group_time;
        const size_t rest_singly = std::max(share(groups) * group_time, share(groups * group_time + rest * single_time));
        if (all_singly <= std::min(in_groups, rest_singly)) return;
        together = lanes;
        rest_together = rest && in_groups < rest_singly;
    }

    size_t items() const { return rest_together ? whole() : whole() + networks % together; }
    size_t first(size_t item) const { return item < whole() ? item * together : networks - (items() - item); }
    size_t size(size_t item) const { return item < whole() ? std::min(together, networks - first(item)) : 1; }
};

// The key and threshold of one step's masks, as training/dropout.py defines them.
Dropout dropout_at(double rate, const std::uint32_t key[2], std::uint32_t step) {
    return {{word(step, key), word(step + 0x80000000u, key)},
            static_cast<std::uint32_t>(std::nearbyint(rate * 65536.0)),
            static_cast<float>(1.0 / (1.0 - rate))};
}

// The images of a minibatch.
Batch batch_at(const Images& images, const Minibatches& minibatches, int step) {
    const std::int64_t* indices = minibatches.indices + static_cast<size_t>(step) * minibatches.size;
    return {images.pixels, images.labels, indices, minibatches.size};
}

// The networks of a cohort that pass together, while their thread works on them.
class Group {
    const Cohort& cohort;
    const size_t first, count;
    std::vector<Member> members;

    size_t network(size_t index) const { return first + index; }
    float* row(float* array, size_t index) const { return array ? array + network(index) * count : nullptr; }

  public:
    Group(const Cohort& cohort, size_t first, size_t size, size_t count)
        : cohort(cohort), first(first), count(count), members(size) {
        for (size_t i = 0; i < size; ++i) {
            members[i] = {row(cohort.weights, i), static_cast<float>(cohort.l2reg[network(i)]), {{0, 0}, 0, 1.0f}};
        }
    }

    size_t size() const { return members.size(); }

    void gradients(Passes& passes, const Batch& batch, std::uint32_t step, float* const* to) {
        for (size_t i = 0; i < size(); ++i) {
            members[i].dropout = dropout_at(cohort.dropout[network(i)], cohort.keys + 2 * network(i), step);
        }
        passes.gradients(members.data(), static_cast<int>(size()), batch, to);
    }

    void step(Passes& passes, const Batch& batch, std::uint32_t step, float* const* work) {
        gradients(passes, batch, step, work);
        for (size_t i = 0; i < size(); ++i) {
            update(cohort.optimizer, step_size(cohort.optimizer, cohort.learning_rate[network(i)], step + 1), work[i],
                   row(cohort.weights, i), row(cohort.m, i), row(cohort.v, i), count);
        }
    }

    void logits(Passes& passes, const Batch& batch, float* const* to) const {
        passes.logits(members.data(), static_cast<int>(size()), batch, to, nullptr);
    }

    // l2reg * sum(kernel^2).
    double penalty(size_t index, const Layout& layout) const {
        const float* weights = members[index].weights;
        double sum = 0.0;
        const auto add = [&](size_t start, size_t size) {
            for (size_t i = start; i < start + size; ++i) sum += static_cast<double>(weights[i]) * weights[i];
        };
        for (const Convolution& layer : layout.convolutions) add(layer.kernel, layer.kernel_size());
        add(layout.kernel, layout.count - layout.kernel);
        return cohort.l2reg[network(index)] * sum;
    }
};

// `count` rows of `size` numbers.
template <class T>
struct Rows {
    std::vector<T> values;
    std::vector<T*> each;

    Rows(size_t count, size_t size) : values(count * size) {
        for (size_t i = 0; i < count; ++i) each.push_back(values.data() + i * size);
    }
};

// Calls work(first network, their number, passes) for all items of the division of networks, on threads.
template <class Work>
bool for_each_item(const Architecture& architecture, size_t networks, bool reference, int threads,
                   const KeepGoing& keep_going, const Work& work) {
    const Division division(architecture, networks, static_cast<size_t>(std::max(threads, 1)), reference);
    return spread(division.items(), threads, keep_going, [&](const auto& take, const std::atomic<bool>& stop) {
        std::unique_ptr<Passes> single, group;
        for (size_t item = take(); item < division.items(); item = take()) {
            const size_t size = division.size(item);
            std::unique_ptr<Passes>& passes = size > 1 ? group : single;
            if (!passes) passes = size > 1 ? interleaved_passes(architecture) : single_passes(architecture, reference);
            work(division.first(item), size, *passes, stop);
        }
    });
}

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
    const auto work = [&](size_t first, size_t size, Passes& passes, const std::atomic<bool>& stop) {
        Group group(cohort, first, size, count);
        Rows<float> gradients(size, count);
        for (int step = 0; step < minibatches.steps && !stop; ++step) {
            const std::uint32_t number = minibatches.first_step + static_cast<std::uint32_t>(step);
            group.step(passes, batch_at(images, minibatches, step), number, gradients.each.data());
        }
    };
    return for_each_item(cohort.architecture, cohort.networks, cohort.reference, threads, keep_going, work);
}

bool evaluate(const Cohort& cohort, const Images& images, int threads, const KeepGoing& keep_going, double* accuracy,
              double* loss) {
    const Layout layout(cohort.architecture);
    const int classes = cohort.architecture.classes;
    const auto work = [&](size_t first, size_t size, Passes& passes, const std::atomic<bool>& stop) {
        const Group group(cohort, first, size, layout.count);
        Rows<float> scores(size, static_cast<size_t>(scored_together) * classes);
        std::vector<std::int64_t> indices(scored_together);
        std::vector<size_t> correct(size);
        std::vector<double> entropy(size);
        for (size_t start = 0; start < images.count && !stop; start += scored_together) {
            const int chunk = static_cast<int>(std::min<size_t>(scored_together, images.count - start));
            std::iota(indices.begin(), indices.end(), static_cast<std::int64_t>(start));
            group.logits(passes, {images.pixels, images.labels, indices.data(), chunk}, scores.each.data());
            for (size_t network = 0; network < size; ++network) {
                for (int i = 0; i < chunk; ++i) {
                    const float* score = scores.each[network] + static_cast<size_t>(i) * classes;
                    const int label = images.labels[start + i];
                    correct[network] += argmax(score, classes) == label;
                    entropy[network] += cross_entropy(score, classes, label);
                }
            }
        }
        const double total = static_cast<double>(images.count);
        for (size_t network = 0; network < size; ++network) {
            accuracy[first + network] = static_cast<double>(correct[network]) / total;
            loss[first + network] = entropy[network] / total + group.penalty(network, layout);
        }
    };
    return for_each_item(cohort.architecture, cohort.networks, cohort.reference, threads, keep_going, work);
}

void gradients(const Cohort& cohort, const Images& images, const Minibatches& minibatches, float* gradient) {
    const size_t count = Layout(cohort.architecture).count;
    const auto work = [&](size_t first, size_t size, Passes& passes, const std::atomic<bool>&) {
        std::vector<float*> to;
        for (size_t i = 0; i < size; ++i) to.push_back(gradient + (first + i) * count);
        Group group(cohort, first, size, count);
        group.gradients(passes, batch_at(images, minibatches, 0), minibatches.first_step, to.data());
    };
    for_each_item(cohort.architecture, cohort.networks, cohort.reference, 1, [] { return true; }, work);
}

void forward(const Architecture& architecture, const float* weights, size_t networks, const Images& images,
             bool reference, float* logits, float* maps) {
    const Layout layout(architecture);
    const Convolution& last = layout.convolutions.back();
    const size_t map_size = images.count * static_cast<size_t>(last.positions() * last.channels);
    const size_t logits_size = images.count * static_cast<size_t>(architecture.classes);
    std::vector<std::int64_t> indices(images.count);
    std::iota(indices.begin(), indices.end(), std::int64_t{0});
    const Batch batch{images.pixels, images.labels, indices.data(), static_cast<int>(images.count)};
    const auto work = [&](size_t first, size_t size, Passes& passes, const std::atomic<bool>&) {
        std::vector<Member> members;
        std::vector<float*> logits_of, maps_of;
        for (size_t network = first; network < first + size; ++network) {
            members.push_back({weights + network * layout.count, 0.0f, {{0, 0}, 0, 1.0f}});
            logits_of.push_back(logits + network * logits_size);
            maps_of.push_back(maps + network * map_size);
        }
        passes.logits(members.data(), static_cast<int>(size), batch, logits_of.data(), maps_of.data());
    };
    for_each_item(architecture, networks, reference, 1, [] { return true; }, work);
}

int side_by_side(const Architecture& architecture) {
    return Division(architecture, lanes, 1, false).size(0) > 1 ? lanes : 1;
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
