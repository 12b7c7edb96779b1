/* Packing: rows of ONNX weight matrices become panel lines of 16 lanes. */
#include "../base/arena.h"
#include "../base/status.h"
#include "cell_layout.h"
#include "dense.h"
#include <string.h>

/* dst[k][line of `lines`][16] for one line: lane j of step k is w[(unit + j) * n_stride + k * k_stride], 0 past `units`. */
static void pack_line(float *dst, int64_t lines, int64_t K, const float *w, int64_t k_stride, int64_t n_stride,
                      int64_t units) {
    int64_t lanes = units < GI_BLOCK ? units : GI_BLOCK;
    for (int64_t k = 0; k < K; k++)
        for (int64_t j = 0; j < lanes; j++) dst[k * lines * GI_BLOCK + j] = w[j * n_stride + k * k_stride];
}

/* All blocks of N units in groups of GI_DENSE_GROUP. dst is zeroed. Returns the floats taken. */
static int64_t pack_grouped(float *dst, int64_t K, int64_t N, const float *w, int64_t k_stride, int64_t n_stride) {
    int64_t blocks = gi_blocks(N);
    for (int64_t block = 0; block < blocks; block++) {
        int64_t group = block / GI_DENSE_GROUP * GI_DENSE_GROUP;
        int64_t lines = blocks - group < GI_DENSE_GROUP ? blocks - group : GI_DENSE_GROUP;
        float *line = dst + group * GI_BLOCK * K + (block - group) * GI_BLOCK;
        pack_line(line, lines, K, w + block * GI_BLOCK * n_stride, k_stride, n_stride, N - block * GI_BLOCK);
    }
    return blocks * GI_BLOCK * K;
}

/* Gates of one matrix M [G*H, K] side by side: dst [nb][K][gates][16] from gate blocks first .. first + gates - 1 of M. */
static void pack_gates(float *dst, const float *M, int64_t H, int64_t K, int64_t first, int64_t gates) {
    for (int64_t unit = 0; unit < H; unit += GI_BLOCK, dst += K * gates * GI_BLOCK)
        for (int64_t g = 0; g < gates; g++)
            pack_line(dst + g * GI_BLOCK, gates, K, M + ((first + g) * H + unit) * K, 1, K, H - unit);
}

/* dst [nb][lines][16], line `line`, = a + b (b may be NULL). a, b [H] */
static void pack_bias(float *dst, int64_t lines, int64_t line, int64_t H, const float *a, const float *b) {
    for (int64_t unit = 0; unit < H; unit++)
        dst[(unit / GI_BLOCK * lines + line) * GI_BLOCK + unit % GI_BLOCK] = a[unit] + (b ? b[unit] : 0.0f);
}

static int check_activation(const gi_activation *act, gi_error *err) {
    if (act->kind >= 0 && act->kind < GI_ACTIVATION_COUNT) return GI_OK;
    return gi_fail(err, GI_ERR_ARGUMENT, "activation %d is not one of the %d known", act->kind, GI_ACTIVATION_COUNT);
}

int64_t gi_cell_packed_size(const gi_cell *cell, gi_error *err) {
    static const int activations[] = {[GI_LSTM] = 3, [GI_GRU] = 2, [GI_RNN] = 1};
    if (cell->kind < GI_LSTM || cell->kind > GI_RNN) return gi_fail(err, GI_ERR_ARGUMENT, "unknown cell kind %d", cell->kind);
    if (cell->hidden_size < 1 || cell->input_size < 0)
        return gi_fail(err, GI_ERR_ARGUMENT, "hidden_size %lld or input_size %lld is out of range",
                       (long long)cell->hidden_size, (long long)cell->input_size);
    if (!(cell->clip >= 0)) return gi_fail(err, GI_ERR_ARGUMENT, "clip must be >= 0");
    for (int i = 0; i < activations[cell->kind]; i++)
        if (check_activation(&cell->act[i], err) < 0) return GI_ERR_ARGUMENT;
    int64_t lanes = gi_size_mul(gi_size_add(cell->hidden_size, GI_BLOCK), 8);
    int64_t columns = gi_size_add(gi_size_add(cell->input_size, cell->hidden_size), 8);
    if (gi_size_mul(gi_size_mul(lanes, columns), (int64_t)sizeof(float)) < 0)
        return gi_fail(err, GI_ERR_LIMIT, "packed weights do not fit in memory");
    return gi_cell_place(cell).size;
}

static void pack_biases(const gi_cell *cell, const gi_cell_layout *at, const float *B, float *packed) {
    int64_t H = cell->hidden_size, G = gi_cell_gates(cell);
    int keeps_rb = cell->kind == GI_GRU && cell->linear_before_reset;
    for (int64_t g = 0; g < G; g++) {
        int separate = keeps_rb && g == 2;
        pack_bias(packed + at->bias, G, g, H, B + g * H, separate ? NULL : B + (G + g) * H);
        if (separate) pack_bias(packed + at->extra, 1, 0, H, B + (G + g) * H, NULL);
    }
}

int gi_cell_pack(const gi_cell *cell, const float *W, const float *R, const float *B, const float *P, float *packed,
                 gi_error *err) {
    int64_t size = gi_cell_packed_size(cell, err), H = cell->hidden_size, I = cell->input_size, G = gi_cell_gates(cell);
    if (size < 0) return (int)size;
    if (P && cell->kind != GI_LSTM) return gi_fail(err, GI_ERR_ARGUMENT, "only an LSTM has peepholes");
    gi_cell_layout at = gi_cell_place(cell);
    memset(packed, 0, (size_t)size * sizeof(float));
    if (B) pack_biases(cell, &at, B, packed);
    if (cell->kind == GI_RNN) {
        pack_grouped(packed + at.w, I, H, W, 1, I);
        pack_grouped(packed + at.r, H, H, R, 1, H);
        return GI_OK;
    }
    int split = cell->kind == GI_GRU && !cell->linear_before_reset;
    pack_gates(packed + at.w, W, H, I, 0, G);
    pack_gates(packed + at.r, R, H, H, 0, split ? 2 : G);
    if (split) pack_grouped(packed + at.r_candidate, H, H, R + 2 * H * H, 1, H);
    packed[0] = P ? 1.0f : 0.0f;
    for (int64_t g = 0; P && g < 3; g++) pack_bias(packed + at.extra, 3, g, H, P + g * H, NULL);
    return GI_OK;
}

int64_t gi_dense_packed_size(int64_t K, int64_t N, gi_error *err) {
    if (K < 0 || N < 0) return gi_fail(err, GI_ERR_ARGUMENT, "a dense weight needs sizes >= 0");
    int64_t lanes = gi_size_add(N, GI_BLOCK), size = gi_size_mul(lanes, gi_size_add(K, 1));
    if (gi_size_mul(size, (int64_t)sizeof(float)) < 0) return gi_fail(err, GI_ERR_LIMIT, "packed weights do not fit in memory");
    return gi_blocks(N) * GI_BLOCK * (gi_dense_is_striped(K, N) ? 1 : K + 1) + (gi_dense_is_striped(K, N) ? N * K : 0);
}

int gi_dense_pack(int64_t K, int64_t N, const float *w, int64_t k_stride, int64_t n_stride, const float *bias,
                  float *packed, gi_error *err) {
    int64_t size = gi_dense_packed_size(K, N, err);
    if (size < 0) return (int)size;
    memset(packed, 0, (size_t)size * sizeof(float));
    if (bias) memcpy(packed, bias, (size_t)N * sizeof(float));
    float *panels = packed + gi_blocks(N) * GI_BLOCK;
    if (!gi_dense_is_striped(K, N)) {
        pack_grouped(panels, K, N, w, k_stride, n_stride);
        return GI_OK;
    }
    for (int64_t n = 0; n < N; n++)
        for (int64_t k = 0; k < K; k++) panels[n * K + k] = w[k * k_stride + n * n_stride];
    return GI_OK;
}

void gi_dense_run(const gi_kernels *kernels, const float *packed, int64_t rows, int64_t K, int64_t N, const float *x,
                  int64_t x_stride, float *out, int64_t out_stride) {
    const float *panels = packed + gi_blocks(N) * GI_BLOCK;
    if (!gi_dense_is_striped(K, N)) {
        gi_product product = {.rows = rows, .K = K, .width = N, .lines = GI_DENSE_GROUP, .x = x, .x_stride = x_stride,
                              .panels = panels, .bias = packed, .out = out, .out_stride = out_stride};
        kernels->product(&product);
        return;
    }
    for (int64_t m = 0; m < rows; m++)
        for (int64_t n = 0; n < N; n++)
            out[m * out_stride + n] = packed[n] + kernels->dot(x + m * x_stride, panels + n * K, K);
}
