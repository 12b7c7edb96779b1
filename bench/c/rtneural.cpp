// RTNeural's compile-time layers as a peer of against.c; its backend is chosen with its own RTNEURAL_USE_... definitions.
// A layer stands alone in a ModelT, called frame by frame as RTNeural's README shows.
#include "peer.h"
#include <RTNeural/RTNeural.h>
#include <algorithm>

namespace {

using matrix = std::vector<std::vector<float>>;

// RTNeural's order of an LSTM's gates is i f c o, ONNX's i o f c; a GRU's is z r h in both.
const int lstm_order[] = {0, 2, 3, 1}, gru_order[] = {0, 1, 2};

// [columns][G*H], gates in RTNeural's order, from w [G*H, columns].
matrix transposed(const float *w, int gates, int H, int columns, const int *order) {
    matrix to(columns, std::vector<float>(gates * H));
    for (int k = 0; k < columns; k++)
        for (int j = 0; j < gates * H; j++) to[k][j] = w[(order[j / H] * H + j % H) * columns + k];
    return to;
}

template <int I, int H> using lstm = RTNeural::ModelT<float, I, H, RTNeural::LSTMLayerT<float, I, H>>;
template <int I, int H> using gru = RTNeural::ModelT<float, I, H, RTNeural::GRULayerT<float, I, H>>;

template <int I, int H> void *create_lstm(const float *W, const float *R, const float *B) {
    auto *model = new lstm<I, H>;
    auto &layer = model->template get<0>();
    layer.setWVals(transposed(W, 4, H, I, lstm_order));
    layer.setUVals(transposed(R, 4, H, H, lstm_order));
    std::vector<float> bias = transposed(B, 4, H, 1, lstm_order)[0];
    const std::vector<float> recurrent = transposed(B + 4 * H, 4, H, 1, lstm_order)[0];
    for (size_t i = 0; i < bias.size(); i++) bias[i] += recurrent[i];
    layer.setBVals(bias);
    model->reset();
    return model;
}

template <int I, int H> void *create_gru(const float *W, const float *R, const float *B) {
    auto *model = new gru<I, H>;
    auto &layer = model->template get<0>();
    layer.setWVals(transposed(W, 3, H, I, gru_order));
    layer.setUVals(transposed(R, 3, H, H, gru_order));
    layer.setBVals({transposed(B, 3, H, 1, gru_order)[0], transposed(B + 3 * H, 3, H, 1, gru_order)[0]});
    model->reset();
    return model;
}

template <class Model> void run(void *layer, const float *x, long count, float *y) {
    Model &model = *static_cast<Model *>(layer);
    for (long t = 0; t < count; t++) {
        model.forward(x + t * PEER_FRAME_FLOATS);
        __asm__ volatile("" ::: "memory");   // every step's result is wanted
    }
    std::copy_n(model.getOutputs(), Model::output_size, y);
}

template <int I, int H> constexpr peer_layer lstm_layer() { return {PEER_LSTM, I, H, create_lstm<I, H>, run<lstm<I, H>>}; }
template <int I, int H> constexpr peer_layer gru_layer() { return {PEER_GRU, I, H, create_gru<I, H>, run<gru<I, H>>}; }

const peer_layer layers[] = {
    lstm_layer<8, 8>(), lstm_layer<16, 16>(), lstm_layer<32, 32>(), lstm_layer<64, 64>(), lstm_layer<1, 8>(), lstm_layer<1, 16>(),
    lstm_layer<1, 20>(), lstm_layer<1, 32>(), lstm_layer<1, 40>(),
    gru_layer<8, 8>(), gru_layer<16, 16>(), gru_layer<32, 32>(), gru_layer<64, 64>(), gru_layer<1, 8>(), gru_layer<1, 16>(),
    gru_layer<1, 20>(), gru_layer<1, 32>(), gru_layer<1, 40>(),
};

}   // namespace

extern "C" __attribute__((visibility("default"))) const peer_layer *peer_layers(int *count) {
    *count = sizeof layers / sizeof *layers;
    return layers;
}
