// The choices of a cohort that the kernels know.
#pragma once

namespace cnnzoo {

enum class Activation { relu, tanh };
enum class Optimizer { sgd, rmsprop, adam };

constexpr int kernel_side = 3, taps = kernel_side * kernel_side, step = 2;

}  // namespace cnnzoo
