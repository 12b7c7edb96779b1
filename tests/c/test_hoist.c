/* Looking ahead on layers of any size (narrower kernels, which do not, have up to 8 units), whatever this CPU's caches make of it: the bits of the same layer that makes all input
 * products first, on every table. Exit status 1 on any failure. */
#include "cells/hoist.h"
#include "check.h"
#include "kernels/cell_layout.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { T_MAX = 3 * GI_AHEAD_ROWS + 1, SIZE_MAX_ = 120, FLOATS = 1 << 17 };

static int failures;
static unsigned seed = 1;

static float *random_floats(int64_t n) {
    float *p = aligned_alloc(64, (size_t)(n * 4 + 63) / 64 * 64);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (float)(seed >> 8) / 16777216.0f - 0.5f;
    }
    return p;
}

typedef struct layer { gi_cell cell; int64_t T; int reverse; float *packed, *x; } layer;

static layer make_layer(int kind, int64_t I, int64_t H, int64_t T, int reverse) {
    layer p = {.T = T, .reverse = reverse, .x = random_floats(T * I),
               .cell = {.kind = kind, .linear_before_reset = 1, .input_size = I, .hidden_size = H,
                        .act = {{GI_SIGMOID, 0, 0}, {GI_TANH, 0, 0}, {GI_TANH, 0, 0}}}};
    const int64_t G = gi_cell_gates(&p.cell);
    float *W = random_floats(G * H * I), *R = random_floats(G * H * H), *B = random_floats(2 * G * H);
    p.packed = random_floats(gi_cell_packed_size(&p.cell, NULL));
    gi_cell_pack(&p.cell, W, R, B, NULL, p.packed, NULL);
    free(W), free(R), free(B);
    return p;
}

/* y [T, H] of zero states. Whether the walk looked ahead. */
static int run(const layer *p, const gi_kernels *kernels, int ahead, int backward, float *y) {
    static _Alignas(64) float scratch[FLOATS];
    const int64_t I = p->cell.input_size, H = p->cell.hidden_size, row = gi_hoist_row_size(&p->cell, 1);
    float *h[2] = {scratch, scratch + SIZE_MAX_}, *c = h[1] + SIZE_MAX_, *columns = c + SIZE_MAX_ + 8, *pre = columns + SIZE_MAX_ * GI_AHEAD_ROWS;
    const gi_cell_layout at = gi_cell_place(&p->cell);
    gi_layer l = {.kernels = kernels, .cell = &p->cell, .at = &at, .packed = p->packed, .T = p->T, .M = 1, .reverse = p->reverse,
                  .backward = backward, .x = {p->x, I, I}, .y = {y, H, H}, .h = {{h[0], 0, H}, {h[1], 0, H}}, .c = {c, 0, H},
                  .pre = {pre, row, row}, .pre_steps = 2 * GI_AHEAD_ROWS};
    if (ahead) l.ahead = (gi_series){columns, 0, I * GI_AHEAD_ROWS};
    gi_hoist hoist;
    gi_hoist_start(&hoist, &l);
    gi_layer_run(&l);
    return hoist.looks_ahead;
}

static void check_layer(const layer *p, const gi_kernels *kernels, const char *label) {
    float expected[T_MAX * SIZE_MAX_], y[T_MAX * SIZE_MAX_];
    const size_t bytes = (size_t)(p->T * p->cell.hidden_size) * sizeof *y;
    run(p, &gi_kernels_scalar, 0, 0, expected);
    for (int backward = 0; backward < 2; backward++)
        for (int ahead = 0; ahead <= kernels->looks_ahead; ahead++) {
            memset(y, 255, sizeof y);
            const int looked = run(p, kernels, ahead, backward, y);
            if (looked != (ahead && p->T >= GI_AHEAD_ROWS + 2)) failures++, printf("FAIL %s: looked ahead: %d\n", label, looked);
            if (memcmp(y, expected, bytes)) failures++, printf("FAIL %s: other bits, ahead %d backward %d\n", label, ahead, backward);
        }
}

int main(void) {
    static const int64_t sizes[] = {9, 15, 16, 17, 24, 25, 31, 32, 40, 48, 63, 64, 70, 100, 104, 120}, inputs[] = {1, 3, 12, 16, 40, 64, 120};
    gi_error err;
    for (int table = 0; table < 3; table++) {
        const gi_kernels *kernels = gi_kernels_get((const char *[]){"scalar", "avx2", "avx512"}[table], &err);
        for (int i = 0; kernels && i < 16 * 7 * 2; i++) {
            const int kind = i % 2 ? GI_LSTM : GI_GRU;
            layer p = make_layer(kind, inputs[i / 2 % 7], sizes[i / 14], T_MAX - i % (T_MAX - 1), i % 3 == 0);
            char label[80];
            snprintf(label, sizeof label, "%s kind %d I %d H %d T %d", gi_kernels_name(kernels), kind, (int)p.cell.input_size,
                     (int)p.cell.hidden_size, (int)p.T);
            check_layer(&p, kernels, label);
            free(p.packed), free(p.x);
        }
    }
    printf("looking ahead: %s\n", failures ? "failed" : "the same bits");
    return failures != 0;
}
