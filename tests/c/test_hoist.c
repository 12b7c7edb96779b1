/* Looking ahead on layers of nearly any size, whatever this CPU's caches make of it: the bits of the scalar table, which makes all
 * input products of a chunk first. Up to 8 units run on narrower kernels, which never look ahead. Leaving out inputs that are zero:
 * the bits, what is read and what is written. Exit status 1 on any failure. */
#include "cells/hoist.h"
#include "check.h"
#include "kernels/cell_layout.h"

enum { T_MAX = 3 * GI_AHEAD_ROWS + 1, SIZE_MAX_ = 120 };

static int looked;

static float *random_floats(int64_t n) {
    float *p = aligned_floats(n);
    for (int64_t i = 0; i < n; i++) p[i] = random_value(0.5f);
    return p;
}

static float *scratch(int64_t n) {
    float *p = aligned_floats(n);
    for (int64_t i = 0; i < n; i++) p[i] = NAN;
    return p;
}

/* x [T, I], h0 and c0 [H] */
typedef struct problem { gi_cell cell; int64_t T; int reverse; float *packed, *x, *h0, *c0; } problem;
typedef struct result { float y[T_MAX * SIZE_MAX_], hn[SIZE_MAX_], cn[SIZE_MAX_]; } result;

static problem make_problem(int kind, int64_t I, int64_t H) {
    problem p = {.x = random_floats(T_MAX * I), .h0 = random_floats(H), .c0 = random_floats(H),
                 .cell = {.kind = kind, .linear_before_reset = 1, .input_size = I, .hidden_size = H,
                          .act = {{GI_SIGMOID, 0, 0}, {GI_TANH, 0, 0}, {GI_TANH, 0, 0}}}};
    const int64_t G = gi_cell_gates(&p.cell);
    float *W = random_floats(G * H * I), *R = random_floats(G * H * H), *B = random_floats(2 * G * H);
    p.packed = scratch(gi_cell_packed_size(&p.cell, NULL));
    gi_cell_pack(&p.cell, W, R, B, NULL, p.packed, NULL);
    free(W), free(R), free(B);
    return p;
}

static void free_problem(problem *p) { free(p->packed), free(p->x), free(p->h0), free(p->c0); }

/* Whether the layer looked ahead: only then does it turn inputs round, into memory that is NaN before. */
static int run(const problem *p, const gi_kernels *kernels, int ahead, int backward, result *to) {
    const int64_t I = p->cell.input_size, H = p->cell.hidden_size, row = gi_hoist_row_size(&p->cell, 1);
    float *h[2] = {scratch(H), scratch(H)}, *c = scratch(H), *columns = scratch(I * GI_AHEAD_ROWS), *pre = scratch(2 * GI_AHEAD_ROWS * row);
    const gi_cell_layout at = gi_cell_place(&p->cell);
    gi_layer l = {.kernels = kernels, .cell = &p->cell, .at = &at, .packed = p->packed, .T = p->T, .M = 1, .reverse = p->reverse,
                  .backward = backward, .x = {p->x, I, I}, .y = {to->y, H, H}, .h = {{h[0], 0, H}, {h[1], 0, H}},
                  .h0 = {p->h0, 0, H}, .hn = {to->hn, 0, H}, .pre = {pre, row, row}, .pre_steps = 2 * GI_AHEAD_ROWS};
    if (p->cell.kind == GI_LSTM) l.c = (gi_series){c, 0, H}, l.c0 = (gi_series){p->c0, 0, H}, l.cn = (gi_series){to->cn, 0, H};
    if (ahead) l.ahead = (gi_series){columns, 0, I * GI_AHEAD_ROWS};
    memset(to, 255, sizeof *to);
    gi_layer_run(&l);
    const int turned = columns[0] == columns[0];
    free(h[0]), free(h[1]), free(c), free(columns), free(pre);
    return turned;
}

static void check_layer(const problem *p, const gi_kernels *kernels) {
    static result expected, got;
    run(p, &gi_kernels_scalar, 0, 0, &expected);
    for (int ahead = 0; ahead <= kernels->looks_ahead; ahead++)
        for (int backward = 0; backward < 2; backward++) {
            const int did = run(p, kernels, ahead, backward, &got);
            looked += did;
            CHECK(did == (ahead && p->T >= GI_AHEAD_ROWS + 2) && !memcmp(&got, &expected, sizeof got),
                  "%s kind %d I %d H %d T %d reverse %d backward %d: looked ahead %d of %d", gi_kernels_name(kernels), p->cell.kind,
                  (int)p->cell.input_size, (int)p->cell.hidden_size, (int)p->T, p->reverse, backward, did, ahead);
        }
}

/* W's lines that meet a zero in x. */
static void spoil_unread(const problem *p, const gi_cell_layout *at) {
    const int64_t I = p->cell.input_size, G = gi_cell_gates(&p->cell);
    for (int64_t block = 0; block < gi_blocks(p->cell.hidden_size); block++) {
        const int64_t width = gi_block_lines(at, block, G) * GI_BLOCK;
        float *panel = p->packed + at->w + block * G * GI_BLOCK * I;
        for (int64_t k = 0; k < I; k++)
            for (int64_t i = 0; p->x[k] == 0 && i < width; i++) panel[k * width + i] = NAN;
    }
}

/* In memory of exactly the size it asks for. */
static void check_sparse(const gi_kernels *kernels, int kind, int64_t I, int64_t H) {
    problem p = make_problem(kind, I, H);
    const gi_cell_layout at = gi_cell_place(&p.cell);
    const int64_t size = gi_cell_projected_size(&p.cell);
    float *expected = scratch(size), *room = malloc((size_t)gi_hoist_sparse_size(&p.cell) * sizeof *room);
    gi_step s = {.cell = &p.cell, .at = &at, .rows = 1, .x = p.x, .packed = p.packed};
    gi_hoist_sparse(kernels, &s, room);
    CHECK(!s.pre, "%s: inputs without a zero are sparse", gi_kernels_name(kernels));
    for (int64_t k = 0; k < I; k++)
        if (k % 2) p.x[k] = 0;
    gi_cell_project(&gi_kernels_scalar, &p.cell, p.packed, 1, p.x, expected);
    spoil_unread(&p, &at);
    gi_hoist_sparse(kernels, &s, room);
    CHECK(s.pre == room && !memcmp(room, expected, (size_t)size * sizeof *room), "%s kind %d I %d H %d: other sums",
          gi_kernels_name(kernels), kind, (int)I, (int)H);
    s.rows = 2;
    gi_hoist_sparse(kernels, &s, room);
    CHECK(!s.pre, "%s: two rows are one", gi_kernels_name(kernels));
    s.rows = 1, p.packed[GI_W_IS_FINITE] = 0;
    gi_hoist_sparse(kernels, &s, room);
    CHECK(!s.pre, "%s: weights that are not finite are left out", gi_kernels_name(kernels));
    free(expected), free(room), free_problem(&p);
}

int main(void) {
    static const int64_t sizes[] = {9, 16, 24, 31, 40, 64, 104, 120}, inputs[] = {1, 12, 40, 120};
    static const int64_t steps[] = {13, 14, 23, 24, 25, 36, 37};   /* around whole chunks, and around the fewest */
    gi_error err;
    for (int table = 0; table < 3; table++) {
        const gi_kernels *kernels = gi_kernels_get((const char *[]){"scalar", "avx2", "avx512"}[table], &err);
        for (int i = 0; kernels && i < 8 * 4 * 2; i++) {
            problem p = make_problem(i % 2 ? GI_LSTM : GI_GRU, inputs[i / 2 % 4], sizes[i / 8]);
            for (int j = 0; j < 7 * 2; j++) {
                p.T = steps[j / 2], p.reverse = j % 2;
                check_layer(&p, kernels);
            }
            free_problem(&p);
        }
        for (int i = 0; kernels && i < 8 * 3; i++) check_sparse(kernels, i % 2 ? GI_LSTM : GI_GRU, 2 * inputs[i % 3 + 1], sizes[i / 3]);
    }
    printf("looking ahead: %d walks\n", looked);
    return check_failures != 0;
}
