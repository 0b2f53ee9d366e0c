// Training and scoring of a cohort: its networks are spread over threads, each network stays with one thread. Narrow
// networks pass in groups, the others one by one.
//
// Shape letters: N networks, P parameters, S steps, B images of a minibatch, M images.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "network.h"

namespace cnnzoo {

// The networks to train side by side. Slots that the optimizer does not use are null.
struct Cohort {
    Architecture architecture;
    bool reference;             // the definition in plain loops instead of the fast kernel
    Optimizer optimizer;
    std::size_t networks;       // N
    float* weights;             // (N, P)
    float* m;                   // (N, P)
    float* v;                   // (N, P)
    const double* learning_rate;  // (N)
    const double* l2reg;          // (N)
    const double* dropout;        // (N)
    const std::uint32_t* keys;    // (N, 2)
};

struct Images {
    const float* pixels;         // (M, H, W), as the networks see them
    const std::uint8_t* labels;  // (M)
    std::size_t count;           // M
};

struct Minibatches {
    const std::int64_t* indices;  // (S, B)
    int steps;
    int size;
    std::uint32_t first_step;
};

// Called by the waiting thread a few times a second; false ends the work early.
using KeepGoing = std::function<bool()>;

// Runs all steps on every network. False if it ended early: then the networks are at different steps.
bool train(const Cohort& cohort, const Images& images, const Minibatches& minibatches, int threads,
           const KeepGoing& keep_going);

// Fills accuracy (N) and mean cross-entropy + L2 term (N) over all images, without dropout.
bool evaluate(const Cohort& cohort, const Images& images, int threads, const KeepGoing& keep_going, double* accuracy,
              double* loss);

// Gradient (N, P) of the first minibatch's loss.
void gradients(const Cohort& cohort, const Images& images, const Minibatches& minibatches, float* gradient);

// Fills logits (N, M, classes) and the last feature maps (N, M, positions, units) of networks with `weights` (N, P),
// without dropout. `images` need no labels.
void forward(const Architecture& architecture, const float* weights, std::size_t networks, const Images& images,
             bool reference, float* logits, float* maps);

// How many networks of a large cohort pass together: `lanes` of narrow ones, one of others.
int side_by_side(const Architecture& architecture);

// Multiply-adds in registers alone: returns the floating point operations per second of CPU time and thread, at the
// full vector width, over `seconds` on each of `threads` threads.
double fma_peak(double seconds, int threads);

// "avx512", "avx2", "neon" or "generic": what this module was compiled for.
extern const char* const instruction_set;

// Whether this processor has the instructions this module was compiled for. Safe to call on any processor.
bool processor_fits();

}  // namespace cnnzoo
