// The module cnnzoo.kernel._native: private, called by training/engines/native.py and network/forward.py, which check
// and document.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "engine.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace cnnzoo {
namespace {

template <class T, int dimensions>
using Array = nb::ndarray<T, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;

using Slot = std::optional<Array<float, 2>>;

void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

Architecture architecture_of(int image_size, int units, int layers, int classes, const std::string& activation) {
    require(activation == "relu" || activation == "tanh", "the activation is relu or tanh");
    require(units > 0 && layers > 0 && classes > 0, "a network has units, layers and classes");
    const Architecture architecture{image_size, units, layers, classes,
                                    activation == "tanh" ? Activation::tanh : Activation::relu};
    require(Layout(architecture).count, "the layers do not fit the images");
    return architecture;
}

// Owns references to a cohort's arrays, which numpy made and the kernels change in place.
class NativeCohort {
    Array<float, 2> weights_;
    Slot m_, v_;
    Array<const double, 1> learning_rate_, l2reg_, dropout_;
    Array<const std::uint32_t, 2> keys_;

  public:
    Cohort cohort;

    NativeCohort(int image_size, int units, int layers, int classes, const std::string& activation,
                 const std::string& optimizer, Array<float, 2> weights, Slot m, Slot v,
                 Array<const double, 1> learning_rate, Array<const double, 1> l2reg, Array<const double, 1> dropout,
                 Array<const std::uint32_t, 2> keys, bool reference)
        : weights_(weights),
          m_(m),
          v_(v),
          learning_rate_(learning_rate),
          l2reg_(l2reg),
          dropout_(dropout),
          keys_(keys) {
        const Architecture architecture = architecture_of(image_size, units, layers, classes, activation);
        const Optimizer kind = optimizer == "adam"      ? Optimizer::adam
                               : optimizer == "rmsprop" ? Optimizer::rmsprop
                                                        : Optimizer::sgd;
        const std::size_t count = Layout(architecture).count, n = weights.shape(0);
        require(weights.shape(1) == count, "weights do not have the shape of the architecture");
        const auto fits = [&](const Slot& slot) { return slot && slot->shape(0) == n && slot->shape(1) == count; };
        require(kind != Optimizer::adam || fits(m), "adam needs the slot m");
        require(kind == Optimizer::sgd || fits(v), "adam and rmsprop need the slot v");
        require(learning_rate.shape(0) == n && l2reg.shape(0) == n && dropout.shape(0) == n && keys.shape(0) == n &&
                    keys.shape(1) == 2,
                "one value of each hyperparameter for each network");
        for (std::size_t i = 0; i < n; ++i) {
            const double rate = dropout.data()[i];
            require(rate >= 0.0 && rate < 0.9999, "0 <= dropout < 0.9999");
        }
        cohort = {architecture, reference, kind, n, weights.data(), m ? m->data() : nullptr, v ? v->data() : nullptr,
                  learning_rate.data(), l2reg.data(), dropout.data(), keys.data()};
    }
};

using Pixels = Array<const float, 3>;
using Labels = Array<const std::uint8_t, 1>;
using Indices = Array<const std::int64_t, 2>;

Images images_of(const Cohort& cohort, const Pixels& pixels, const Labels& labels) {
    const std::size_t side = static_cast<std::size_t>(cohort.architecture.image_size), count = pixels.shape(0);
    require(pixels.shape(1) == side && pixels.shape(2) == side, "images do not have the size of the architecture");
    require(labels.shape(0) == count, "one label for each image");
    for (std::size_t i = 0; i < count; ++i) {
        require(labels.data()[i] < cohort.architecture.classes, "a label is not below the number of classes");
    }
    return {pixels.data(), labels.data(), count};
}

Minibatches minibatches_of(const Images& images, const Indices& indices, std::uint32_t first_step) {
    const std::size_t steps = indices.shape(0), size = indices.shape(1);
    require(size > 0, "a minibatch has images");
    for (std::size_t i = 0; i < steps * size; ++i) {
        const std::size_t index = static_cast<std::size_t>(indices.data()[i]);  // huge if it was negative
        require(index < images.count, "an index is not below the number of images");
    }
    return {indices.data(), static_cast<int>(steps), static_cast<int>(size), first_step};
}

// Lets Ctrl-C through while the threads work.
bool no_signal_came() {
    const nb::gil_scoped_acquire acquired;
    return PyErr_CheckSignals() == 0;
}

void train_cohort(const NativeCohort& self, const Pixels& pixels, const Labels& labels, const Indices& indices,
                  std::uint32_t first_step, int threads) {
    const Images images = images_of(self.cohort, pixels, labels);
    const Minibatches minibatches = minibatches_of(images, indices, first_step);
    bool whole;
    {
        const nb::gil_scoped_release released;
        whole = train(self.cohort, images, minibatches, threads, no_signal_came);
    }
    if (!whole) throw nb::python_error();
}

void evaluate_cohort(const NativeCohort& self, const Pixels& pixels, const Labels& labels, int threads,
                     const Array<double, 1>& accuracy, const Array<double, 1>& loss) {
    const Images images = images_of(self.cohort, pixels, labels);
    require(images.count > 0, "at least one image is needed");
    require(accuracy.shape(0) == self.cohort.networks && loss.shape(0) == self.cohort.networks, "one score a network");
    bool whole;
    {
        const nb::gil_scoped_release released;
        whole = evaluate(self.cohort, images, threads, no_signal_came, accuracy.data(), loss.data());
    }
    if (!whole) throw nb::python_error();
}

void gradient_of_cohort(const NativeCohort& self, const Pixels& pixels, const Labels& labels, const Indices& indices,
                        std::uint32_t step, const Array<float, 2>& gradient) {
    const Images images = images_of(self.cohort, pixels, labels);
    const Minibatches minibatches = minibatches_of(images, indices, step);
    require(minibatches.steps == 1, "the gradient is that of one minibatch");
    require(gradient.shape(0) == self.cohort.networks && gradient.shape(1) == Layout(self.cohort.architecture).count,
            "the gradient has the shape of the weights");
    gradients(self.cohort, images, minibatches, gradient.data());
}

void forward_of_networks(int image_size, int units, int layers, int classes, const std::string& activation,
                         const Array<const float, 2>& weights, const Pixels& pixels, const Array<float, 3>& logits,
                         const Array<float, 4>& maps, bool reference) {
    const Architecture architecture = architecture_of(image_size, units, layers, classes, activation);
    const Layout layout(architecture);
    const std::size_t side = static_cast<std::size_t>(image_size), networks = weights.shape(0), count = pixels.shape(0);
    require(weights.shape(1) == layout.count, "weights do not have the shape of the architecture");
    require(pixels.shape(1) == side && pixels.shape(2) == side, "images do not have the size of the architecture");
    const auto fits = [&](const auto& array) { return array.shape(0) == networks && array.shape(1) == count; };
    const std::size_t positions = static_cast<std::size_t>(layout.convolutions.back().positions());
    require(fits(logits) && logits.shape(2) == static_cast<std::size_t>(classes), "logits of every network and image");
    require(fits(maps) && maps.shape(2) == positions && maps.shape(3) == static_cast<std::size_t>(units),
            "feature maps of every network and image");
    const nb::gil_scoped_release released;
    forward(architecture, weights.data(), networks, {pixels.data(), nullptr, count}, reference, logits.data(), maps.data());
}

int networks_side_by_side(int image_size, int units, int layers, int classes) {
    return side_by_side(architecture_of(image_size, units, layers, classes, "relu"));
}

double peak(double seconds, int threads) {
    require(threads > 0, "at least one thread is needed");
    const nb::gil_scoped_release released;
    return fma_peak(seconds, threads);
}

}  // namespace
}  // namespace cnnzoo

NB_MODULE(_native, module) {
    using namespace cnnzoo;
    if (!processor_fits()) {
        throw nb::import_error("compiled for a processor with more instructions than this one has; install again here");
    }
    module.attr("instruction_set") = instruction_set;
    nb::class_<NativeCohort>(module, "Cohort")
        .def(nb::init<int, int, int, int, const std::string&, const std::string&, Array<float, 2>, Slot, Slot,
                      Array<const double, 1>, Array<const double, 1>, Array<const double, 1>,
                      Array<const std::uint32_t, 2>, bool>(),
             "image_size"_a, "units"_a, "layers"_a, "classes"_a, "activation"_a, "optimizer"_a, "weights"_a.noconvert(),
             "m"_a.noconvert().none(), "v"_a.noconvert().none(), "learning_rate"_a.noconvert(), "l2reg"_a.noconvert(),
             "dropout"_a.noconvert(), "keys"_a.noconvert(), "reference"_a)
        .def("train", &train_cohort, "images"_a.noconvert(), "labels"_a.noconvert(), "minibatches"_a.noconvert(),
             "first_step"_a, "threads"_a)
        .def("evaluate", &evaluate_cohort, "images"_a.noconvert(), "labels"_a.noconvert(), "threads"_a,
             "accuracy"_a.noconvert(), "loss"_a.noconvert())
        .def("gradient", &gradient_of_cohort, "images"_a.noconvert(), "labels"_a.noconvert(),
             "minibatches"_a.noconvert(), "step"_a, "gradient"_a.noconvert());
    module.def("forward", &forward_of_networks, "image_size"_a, "units"_a, "layers"_a, "classes"_a, "activation"_a,
               "weights"_a.noconvert(), "images"_a.noconvert(), "logits"_a.noconvert(), "maps"_a.noconvert(),
               "reference"_a);
    module.def("side_by_side", &networks_side_by_side, "image_size"_a, "units"_a, "layers"_a, "classes"_a);
    module.def("fma_peak", &peak, "seconds"_a, "threads"_a);
}
