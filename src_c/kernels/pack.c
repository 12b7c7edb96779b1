/* Packing: rows of ONNX weight matrices become panel lines of 16 lanes. Biases are added and weights rounded here, so the
 * floating-point mode is the engine's: packed weights do not depend on the caller's. */
#include "../base/arena.h"
#include "../base/fpmode.h"
#include "../base/status.h"
#include "cell_layout.h"
#include "dense.h"
#include "half.h"
#include <string.h>

/* What goes into a line of a panel: weights of some units of an ONNX matrix, element (k, j) at w[j * n_stride + k * k_stride]. */
typedef struct source { const float *w; int64_t k_stride, n_stride, units; } source;
/* The panel is zero before. */
typedef struct panel { float *at; int weights; int64_t K, lines; } panel;
/* Lanes first_lane .. first_lane + lanes - 1 of a panel's line. */
typedef struct place { int64_t line, first_lane, lanes; } place;

static void pack_f32(const panel *p, const place *to, const source *from) {
    for (int64_t k = 0; k < p->K; k++)
        for (int64_t j = 0; j < from->units; j++)
            p->at[(k * p->lines + to->line) * GI_BLOCK + to->first_lane + j] = from->w[j * from->n_stride + k * from->k_stride];
}

static void put_bf16(float *words, int64_t j, int half, float w) {
    uint32_t word;
    memcpy(&word, words + j, sizeof word);
    word |= (uint32_t)gi_bf16_bits(w) << 16 * half;
    memcpy(words + j, &word, sizeof word);
}

static void put_f16(float *words, int64_t j, int half, float w) {
    const uint16_t bits = gi_f16_bits(w);
    memcpy((char *)words + (half * GI_BLOCK + j) * (int64_t)sizeof bits, &bits, sizeof bits);
}

static void pack_16bit(const panel *p, const place *to, const source *from) {
    const int alone = to->line == p->lines / 2 * 2;
    for (int64_t k = 0; k < p->K; k++) {
        const int64_t word_line = alone ? p->lines - 1 : k % 2 * (p->lines / 2) + to->line / 2;
        const int half = (int)(alone ? k % 2 : to->line % 2);
        float *words = p->at + (k / 2 * p->lines + word_line) * GI_BLOCK;
        for (int64_t j = 0; j < from->units; j++) {
            const float w = from->w[j * from->n_stride + k * from->k_stride];
            if (p->weights == GI_WEIGHTS_BF16) put_bf16(words, to->first_lane + j, half, w);
            else put_f16(words, to->first_lane + j, half, w);
        }
    }
}

static void pack_units(const panel *p, place to, source from) {
    if (from.units > to.lanes) from.units = to.lanes;
    if (p->weights == GI_WEIGHTS_F32) pack_f32(p, &to, &from);
    else pack_16bit(p, &to, &from);
}

/* All blocks of N units in groups of up to GI_DENSE_GROUP. dst is zeroed. */
static void pack_grouped(float *dst, int weights, int64_t K, int64_t N, const float *w, int64_t k_stride, int64_t n_stride) {
    const int64_t blocks = gi_blocks(N);
    for (int64_t first = 0, lines; first < blocks; first += lines) {
        lines = gi_group_lines(blocks, GI_DENSE_GROUP, first);
        const panel p = {dst + first * gi_line_floats(weights, K), weights, K, lines};
        for (int64_t line = 0, unit = first * GI_BLOCK; line < lines; line++, unit += GI_BLOCK)
            pack_units(&p, (place){line, 0, GI_BLOCK}, (source){w + unit * n_stride, k_stride, n_stride, N - unit});
    }
}

/* Where gate `gate` lies in block `block`. */
static place place_of(const gi_cell_layout *at, int64_t block, int64_t gate) {
    const int64_t lanes = gi_gate_lanes(at, block);
    return (place){gate * lanes / GI_BLOCK, gate * lanes % GI_BLOCK, lanes};
}

/* Gates of one matrix M [G*H, K] side by side: a panel per block from gate blocks 0 .. gates - 1 of M. */
static void pack_gates(float *dst, const gi_cell *cell, const gi_cell_layout *at, const float *M, int64_t K, int64_t gates) {
    const int64_t H = cell->hidden_size;
    for (int64_t block = 0; block < gi_blocks(H); block++) {
        const int64_t unit = block * GI_BLOCK;
        const panel p = {dst + block * gates * gi_line_floats(cell->weights, K), cell->weights, K, gi_block_lines(at, block, gates)};
        for (int64_t g = 0; g < gates; g++)
            pack_units(&p, place_of(at, block, g), (source){M + (g * H + unit) * K, 1, K, H - unit});
    }
}

/* Gate `gate` of the bias = a + b (b may be NULL). a, b [H] */
static void pack_bias(float *packed, const gi_cell *cell, const gi_cell_layout *at, int64_t gate, const float *a, const float *b) {
    const int64_t gates = gi_cell_gates(cell);
    for (int64_t unit = 0; unit < cell->hidden_size; unit++) {
        const int64_t block = unit / GI_BLOCK, first = block * gates * GI_BLOCK + gate * gi_gate_lanes(at, block);
        packed[at->bias + first + unit % GI_BLOCK] = a[unit] + (b ? b[unit] : 0.0f);
    }
}

/* Line `line` of each block of dst [nb][lines][16] = a [H]. */
static void pack_extra(float *dst, int64_t lines, int64_t line, int64_t H, const float *a) {
    for (int64_t unit = 0; unit < H; unit++) dst[(unit / GI_BLOCK * lines + line) * GI_BLOCK + unit % GI_BLOCK] = a[unit];
}

static int check_activation(const gi_activation *act, gi_error *err) {
    if (act->kind >= 0 && act->kind < GI_ACTIVATION_COUNT) return GI_OK;
    return gi_fail(err, GI_ERR_ARGUMENT, "activation %d is not one of the %d known", act->kind, GI_ACTIVATION_COUNT);
}

static int check_weights(int weights, gi_error *err) {
    if (weights >= 0 && weights < GI_WEIGHTS_COUNT) return GI_OK;
    return gi_fail(err, GI_ERR_ARGUMENT, "format %d of weights is not one of the %d known", weights, GI_WEIGHTS_COUNT);
}

static float rounded(int weights, float w) {
    return weights == GI_WEIGHTS_BF16 ? gi_bf16_value(gi_bf16_bits(w)) : weights == GI_WEIGHTS_F16 ? gi_f16_value(gi_f16_bits(w)) : w;
}

static int is_finite(float x) { return (gi_float_bits(x) & 0x7f800000u) != 0x7f800000u; }

int gi_round_weights(int weights, int64_t n, const float *from, float *to, gi_error *err) {
    if (check_weights(weights, err) < 0) return GI_ERR_ARGUMENT;
    gi_fpmode caller;
    gi_fpmode_enter(&caller);
    int64_t beyond = -1;
    for (int64_t i = 0; i < n && beyond < 0; i++) {
        const float w = from[i], nearest = rounded(weights, w);
        if (is_finite(w) && !is_finite(nearest)) beyond = i;
        else to[i] = nearest;
    }
    gi_fpmode_leave(&caller);
    if (beyond < 0) return GI_OK;
    const int is_f16 = weights == GI_WEIGHTS_F16;
    return gi_fail(err, GI_ERR_ARGUMENT, "a weight of %.6g is beyond %s, which ends at %s; %s larger ones", (double)from[beyond],
                   is_f16 ? "float16" : "bf16", is_f16 ? "65504" : "3.3895e38", is_f16 ? "bf16 and f32 take" : "f32 takes");
}

int64_t gi_cell_packed_size(const gi_cell *cell, gi_error *err) {
    static const int activations[] = {[GI_LSTM] = 3, [GI_GRU] = 2, [GI_RNN] = 1};
    if (cell->kind < GI_LSTM || cell->kind > GI_RNN) return gi_fail(err, GI_ERR_ARGUMENT, "unknown cell kind %d", cell->kind);
    if (cell->hidden_size < 1 || cell->input_size < 0)
        return gi_fail(err, GI_ERR_ARGUMENT, "hidden_size %lld or input_size %lld is out of range",
                       (long long)cell->hidden_size, (long long)cell->input_size);
    if (check_weights(cell->weights, err) < 0) return GI_ERR_ARGUMENT;
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
        pack_bias(packed, cell, at, g, B + g * H, separate ? NULL : B + (G + g) * H);
        if (separate) pack_extra(packed + at->extra, 1, 0, H, B + (G + g) * H);
    }
}

/* Without a way out of the loop, so that a compiler makes vectors of it. */
static int all_finite(const float *x, int64_t n) {
    int others = 0;
    for (int64_t i = 0; i < n; i++) others |= !is_finite(x[i]);
    return !others;
}

/* packed is zero before. */
static void pack_cell(const gi_cell *cell, const float *W, const float *R, const float *B, const float *P, float *packed) {
    const int64_t H = cell->hidden_size, I = cell->input_size, G = gi_cell_gates(cell);
    const gi_cell_layout at = gi_cell_place(cell);
    packed[GI_W_IS_FINITE] = cell->weights == GI_WEIGHTS_F32 && all_finite(W, G * H * I) ? 1.0f : 0.0f;
    if (B) pack_biases(cell, &at, B, packed);
    if (cell->kind == GI_RNN) {
        pack_grouped(packed + at.w, cell->weights, I, H, W, 1, I);
        pack_grouped(packed + at.r, cell->weights, H, H, R, 1, H);
        return;
    }
    int split = cell->kind == GI_GRU && !cell->linear_before_reset;
    pack_gates(packed + at.w, cell, &at, W, I, G);
    pack_gates(packed + at.r, cell, &at, R, H, split ? 2 : G);
    if (split) pack_grouped(packed + at.r_candidate, cell->weights, H, H, R + 2 * H * H, 1, H);
    packed[GI_HAS_PEEPHOLE] = P ? 1.0f : 0.0f;
    for (int64_t g = 0; P && g < 3; g++) pack_extra(packed + at.extra, 3, g, H, P + g * H);
}

int gi_cell_pack(const gi_cell *cell, const float *W, const float *R, const float *B, const float *P, float *packed,
                 gi_error *err) {
    int64_t size = gi_cell_packed_size(cell, err);
    if (size < 0) return (int)size;
    if (P && cell->kind != GI_LSTM) return gi_fail(err, GI_ERR_ARGUMENT, "only an LSTM has peepholes");
    memset(packed, 0, (size_t)size * sizeof(float));
    gi_fpmode caller;
    gi_fpmode_enter(&caller);
    pack_cell(cell, W, R, B, P, packed);
    gi_fpmode_leave(&caller);
    return GI_OK;
}

int64_t gi_dense_packed_size(int weights, int64_t K, int64_t N, gi_error *err) {
    if (check_weights(weights, err) < 0) return GI_ERR_ARGUMENT;
    if (K < 0 || N < 0) return gi_fail(err, GI_ERR_ARGUMENT, "a dense weight needs sizes >= 0");
    int64_t lanes = gi_size_add(N, GI_BLOCK), size = gi_size_mul(lanes, gi_size_add(K, 1));
    if (gi_size_mul(size, (int64_t)sizeof(float)) < 0) return gi_fail(err, GI_ERR_LIMIT, "packed weights do not fit in memory");
    return gi_blocks(N) * GI_BLOCK + (gi_dense_is_striped(K, N) ? N * K : gi_blocks(N) * gi_line_floats(weights, K));
}

int gi_dense_pack(int weights, int64_t K, int64_t N, const float *w, int64_t k_stride, int64_t n_stride, const float *bias,
                  float *packed, gi_error *err) {
    int64_t size = gi_dense_packed_size(weights, K, N, err);
    if (size < 0) return (int)size;
    memset(packed, 0, (size_t)size * sizeof(float));
    if (bias) memcpy(packed, bias, (size_t)N * sizeof(float));
    float *panels = packed + gi_blocks(N) * GI_BLOCK;
    if (!gi_dense_is_striped(K, N)) {
        gi_fpmode caller;
        gi_fpmode_enter(&caller);
        pack_grouped(panels, weights, K, N, w, k_stride, n_stride);
        gi_fpmode_leave(&caller);
        return GI_OK;
    }
    for (int64_t n = 0; n < N; n++)
        for (int64_t k = 0; k < K; k++) panels[n * K + k] = w[k * k_stride + n * n_stride];
    return GI_OK;
}

void gi_dense_run(const gi_kernels *kernels, int weights, const float *packed, int64_t rows, int64_t K, int64_t N, const float *x,
                  int64_t x_stride, float *out, int64_t out_stride) {
    const float *panels = packed + gi_blocks(N) * GI_BLOCK;
    if (!gi_dense_is_striped(K, N)) {
        gi_product product = {.weights = weights, .rows = rows, .K = K, .width = N, .lines = GI_DENSE_GROUP, .x = x,
                              .x_stride = x_stride, .panels = panels, .depth = K, .start = packed, .out = out, .out_stride = out_stride};
        kernels->product(&product);
        return;
    }
    for (int64_t m = 0; m < rows; m++)
        for (int64_t n = 0; n < N; n++)
            out[m * out_stride + n] = packed[n] + kernels->dot(x + m * x_stride, panels + n * K, K);
}
