#include "network.h"

namespace cnnzoo {

Layout::Layout(const Architecture& architecture) {
    std::size_t at = 0;
    int side = architecture.image_size, channels = 1;
    for (int l = 0; l < architecture.layers; ++l) {
        if (side < kernel_side) return;
        Convolution layer{};
        layer.in_side = side;
        layer.in_channels = channels;
        layer.side = side = (side - kernel_side) / step + 1;
        layer.channels = channels = architecture.units;
        layer.bias = at;
        layer.kernel = at + static_cast<std::size_t>(channels);
        layer.first_word = image_words;
        at = layer.kernel + layer.kernel_size();
        image_words += layer.words();
        convolutions.push_back(layer);
    }
    inputs = channels;
    outputs = architecture.classes;
    bias = at;
    kernel = bias + static_cast<std::size_t>(outputs);
    count = kernel + static_cast<std::size_t>(inputs) * static_cast<std::size_t>(outputs);
}

}  // namespace cnnzoo
