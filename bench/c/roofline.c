/* Cells on the compiled core alone, next to the limits of this machine measured in the same run.
 *
 *     roofline [isa [f32 | bf16 | f16]] > roofline.jsonl
 *
 * One JSON object per line. Every figure is the fastest of many short bursts: noise on a shared machine only adds time,
 * and a limit is what the machine can do. A cell's `limit` is the larger of its bytes at the measured read bandwidth of a
 * working set of its size and its multiply-adds at the measured FMA peak; `share` is limit / time. */
#include "burst.h"
#include "cells/hoist.h"
#include "kernels/cell_layout.h"
#include <stdio.h>
#include <string.h>

enum { BURSTS = 60 };
static const double BURST_SECONDS = 4e-4, MOST_SECONDS = 0.4;   /* of one burst, of one figure */

/* Seconds per call of the fastest burst. */
static double fastest(void (*call)(void *), void *arg) {
    const double begin = now();
    double best = 1e30, start = begin;
    call(arg);
    int64_t count = (int64_t)(BURST_SECONDS / (now() - start + 1e-9)) + 1;
    for (int burst = 0; burst < BURSTS && now() - begin < MOST_SECONDS; burst++) {
        start = now();
        for (int64_t i = 0; i < count; i++) call(arg);
        double seconds = (now() - start) / (double)count;
        if (seconds < best) best = seconds;
    }
    return best;
}

/* ---- limits: plain reads, and multiply-adds on data that stays in registers or L1 ---- */

typedef float wide __attribute__((vector_size(64)));
typedef struct span { const float *p; int64_t n; float sum; } span;

#if defined(__x86_64__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3"), noinline))
#else
#define WIDE __attribute__((noinline))
#endif

WIDE static void read_all(void *arg) {
    span *s = arg;
    const wide *p = (const wide *)s->p;
    wide a = {0}, b = {0}, c = {0}, d = {0};
    for (int64_t i = 0; i < s->n / 16; i += 4) a += p[i], b += p[i + 1], c += p[i + 2], d += p[i + 3];
    a += b + c + d;
    s->sum += a[0];
}

static double read_bandwidth(int64_t bytes) {
    span s = {.n = (bytes + 255) / 256 * 64};
    float *p = floats(s.n);
    s.p = p;
    double seconds = fastest(read_all, &s);
    return (double)s.n * sizeof(float) / seconds;
}

/* The best the product kernel itself does on data in L1: an attained peak, not the data sheet's. */
typedef struct peak { const gi_kernels *kernels; gi_product p; } peak;
static void run_product(void *arg) { peak *k = arg; k->kernels->product(&k->p); }

static double fma_peak(const gi_kernels *kernels) {
    enum { ROWS = 24, K = 64, N = 64 };
    float *x = floats(ROWS * K), *w = floats(K * N + N), *out = floats(ROWS * N);
    peak k = {kernels, {.rows = ROWS, .K = K, .width = N, .lines = GI_DENSE_GROUP, .x = x, .x_stride = K, .panels = w + N,
                        .depth = K, .start = w, .out = out, .out_stride = N}};
    double seconds = fastest(run_product, &k);
    return 2.0 * ROWS * K * N / seconds;
}

/* ---- cells ---- */

/* As a stream does: every other call reads weights from their end. */
static void run_layer(void *arg) {
    gi_layer *l = arg;
    l->backward = !l->backward;
    gi_layer_run(l);
}

typedef struct shape { int kind, weights; int64_t T, M, H; } shape;

static double time_layer(const gi_kernels *kernels, shape s) {
    gi_cell cell = {.kind = s.kind, .weights = s.weights, .input_size = s.H, .hidden_size = s.H, .linear_before_reset = 1,
                    .act = {{GI_SIGMOID, 0, 0}, {GI_TANH, 0, 0}, {GI_TANH, 0, 0}}};
    const int64_t H = s.H, M = s.M, G = gi_cell_gates(&cell), span = gi_blocks(H) * GI_BLOCK, steps = 64, row = gi_hoist_row_size(&cell, M);
    float *W = floats(G * H * H), *R = floats(G * H * H), *B = floats(2 * G * H), *packed = floats(gi_cell_packed_size(&cell, NULL));
    gi_cell_pack(&cell, W, R, B, NULL, packed, NULL);
    float *x = floats(s.T * M * H), *y = floats(s.T * M * H), *state = floats(8 * M * span), *pre = floats(steps * M * row);
    float *ahead = floats(M * H * GI_AHEAD_ROWS);
    const gi_cell_layout at = gi_cell_place(&cell);
    gi_layer l = {.kernels = kernels, .cell = &cell, .at = &at, .packed = packed, .T = s.T, .M = M, .x = {x, M * H, H}, .y = {y, M * H, H},
                  .h0 = {state, 0, H}, .hn = {state + M * span, 0, H}, .h = {{state + 2 * M * span, 0, H}, {state + 3 * M * span, 0, H}},
                  .gate = {state + 4 * M * span, 0, 3 * span}, .pre_steps = steps};
    if (s.kind == GI_LSTM) l.c0 = (gi_series){state + 4 * M * span, 0, H}, l.cn = (gi_series){state + 5 * M * span, 0, H}, l.c = l.cn;
    if (s.T > 1) l.pre = (gi_series){pre, M * row, row};
    if (gi_hoist_pays_ahead(kernels, &cell, s.T)) l.ahead = (gi_series){ahead, 0, H * GI_AHEAD_ROWS};
    double seconds = fastest(run_layer, &l);
    return seconds / (double)s.T;
}

static void report(const gi_kernels *kernels, double peak_flops, shape s) {
    static const char *const names[] = {"lstm", "gru"};
    const double G = s.kind == GI_LSTM ? 4 : 3, H = (double)s.H, M = (double)s.M;
    /* A sequence reads R every step; a single step reads W, too. */
    const double bytes = G * H * H * (s.weights == GI_WEIGHTS_F32 ? 4 : 2) * (s.T > 1 ? 1 : 2), flops = 2 * G * H * 2 * H * M;
    const double bandwidth = read_bandwidth((int64_t)bytes), seconds = time_layer(kernels, s);
    const double by_bytes = bytes / bandwidth, by_flops = flops / peak_flops;
    const double limit = by_bytes > by_flops ? by_bytes : by_flops;
    printf("{\"cell\": \"%s\", \"size\": %lld, \"steps\": %lld, \"rows\": %lld, \"us\": %.4f, \"limit_us\": %.4f, \"share\": %.3f, "
           "\"GB_s\": %.1f, \"GFLOP_s\": %.1f}\n", names[s.kind], (long long)s.H, (long long)s.T, (long long)s.M, seconds * 1e6,
           limit * 1e6, limit / seconds, bytes / seconds / 1e9, flops / seconds / 1e9);
    fflush(stdout);
}

int main(int argc, char **argv) {
    gi_error err;
    const gi_kernels *kernels = gi_kernels_get(argc > 1 ? argv[1] : "auto", &err);
    if (!kernels) return fprintf(stderr, "%s\n", err.text), 2;
    static const char *const formats[] = {"f32", "bf16", "f16"};
    int weights = 0;
    while (argc > 2 && weights < GI_WEIGHTS_COUNT && strcmp(argv[2], formats[weights])) weights++;
    if (weights == GI_WEIGHTS_COUNT) return fprintf(stderr, "weights are f32, bf16 or f16\n"), 2;
    const double peak_flops = fma_peak(kernels);
    printf("{\"isa\": \"%s\", \"weights\": \"%s\", \"fma_peak_GFLOP_s\": %.1f, \"L1_GB_s\": %.1f, \"L2_GB_s\": %.1f, \"L3_GB_s\": %.1f}\n",
           gi_kernels_name(kernels), formats[weights], peak_flops / 1e9, read_bandwidth(16 << 10) / 1e9, read_bandwidth(256 << 10) / 1e9,
           read_bandwidth(6 << 20) / 1e9);
    static const int64_t sizes[] = {16, 32, 64, 128, 200, 256, 512, 1024};
    static const int64_t forms[][2] = {{1, 1}, {100, 1}, {1, 16}, {1, 64}};   /* steps, rows */
    for (int kind = GI_LSTM; kind <= GI_GRU; kind++)
        for (size_t f = 0; f < 4; f++)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
                report(kernels, peak_flops, (shape){kind, weights, forms[f][0], forms[f][1], sizes[i]});
    return 0;
}
