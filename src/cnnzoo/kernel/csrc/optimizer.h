// Optimizers as Keras 2 defines them; constants as in engines/base.py.
#pragma once

#include "elementary.h"

namespace cnnzoo {
namespace {

constexpr float beta_1 = 0.9f, beta_2 = 0.999f, rho = 0.9f, epsilon = 1e-7f;

// Learning rate of one step, with Adam's correction of the bias of its averages; `step` counts from 1.
CNNZOO_FUNCTION float step_size(Optimizer optimizer, double learning_rate, std::uint32_t step) {
    if (optimizer != Optimizer::adam) return static_cast<float>(learning_rate);
    return static_cast<float>(learning_rate * square_root(1.0 - power(0.999, step)) / (1.0 - power(0.9, step)));
}

// Moves `count` weights; m and v are the optimizer's slots.
CNNZOO_FUNCTION void update(Optimizer optimizer, float rate, const float* __restrict gradient, float* __restrict weights,
                   float* __restrict m, float* __restrict v, std::size_t count) {
    switch (optimizer) {
        case Optimizer::sgd:
            for (std::size_t i = 0; i < count; ++i) weights[i] -= rate * gradient[i];
            break;
        case Optimizer::rmsprop:
            for (std::size_t i = 0; i < count; ++i) {
                v[i] = rho * v[i] + (1.0f - rho) * (gradient[i] * gradient[i]);
                weights[i] -= rate * gradient[i] / (square_root(v[i]) + epsilon);
            }
            break;
        case Optimizer::adam:
            for (std::size_t i = 0; i < count; ++i) {
                m[i] = beta_1 * m[i] + (1.0f - beta_1) * gradient[i];
                v[i] = beta_2 * v[i] + (1.0f - beta_2) * (gradient[i] * gradient[i]);
                weights[i] -= rate * m[i] / (square_root(v[i]) + epsilon);
            }
            break;
    }
}

}  // namespace
}  // namespace cnnzoo
