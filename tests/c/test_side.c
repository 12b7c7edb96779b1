/* GRU cells side by side in one block: the bits of each cell alone, on every table, whatever lies in other lanes, ahead of
 * the input products and in the lanes of nobody. Memory is exactly as large as promised, for a sanitizer to watch. */
#include "../../src_c/cells/side.h"
#include "check.h"
#include <stdlib.h>

enum { CASES = 400, MOST_STEPS = 12, MOST_SIZE = 20 };

static float *random_floats(int64_t n, int awkward) {
    float *p = aligned_floats(n);
    fill_random(p, n, awkward);
    return p;
}

typedef struct member {
    gi_cell cell;
    float *packed, *pre, *h;   /* pre [16 + steps * GI_SIDE_PRE] with NaN ahead of it; h [steps + 1, H] */
    int back;
} member;

/* `infinite`: now and then an input product or state is not finite. */
static member make_member(int64_t H, int64_t steps, int infinite) {
    member m = {.cell = {.kind = GI_GRU, .linear_before_reset = 1, .input_size = 1 + random_below(MOST_SIZE), .hidden_size = H,
                         .act = {{.kind = GI_SIGMOID}, {.kind = GI_TANH}}},
                .back = (int)random_below(2)};
    const int64_t I = m.cell.input_size;
    float *W = random_floats(3 * H * I, 0), *R = random_floats(3 * H * H, 0), *B = random_floats(6 * H, 0);
    m.packed = random_floats(gi_cell_packed_size(&m.cell, NULL), 0);
    gi_cell_pack(&m.cell, W, R, B, NULL, m.packed, NULL);
    m.pre = random_floats(GI_BLOCK + steps * GI_SIDE_PRE, 0), m.h = random_floats((steps + 1) * H, 0);
    for (int i = 0; i < GI_BLOCK; i++) m.pre[i] = NAN;
    if (infinite) m.pre[GI_BLOCK + random_below(steps * GI_SIDE_PRE)] = random_input(1), m.h[random_below(H)] = INFINITY;
    free(W), free(R), free(B);
    return m;
}

static void free_member(member *m) { free(m->packed), free(m->pre), free(m->h); }

static const float *pre_of(const member *m, int64_t step, int64_t steps) {
    return m->pre + GI_BLOCK + (m->back ? steps - 1 - step : step) * GI_SIDE_PRE;
}

/* The cell alone on the scalar table: over time from the state h[0], or every row from a state of its own. after [steps, H] */
static void run_alone(const member *m, int64_t steps, int over_time, float *after) {
    const int64_t H = m->cell.hidden_size;
    const gi_cell_layout at = gi_cell_place(&m->cell);
    for (int64_t t = 0; t < steps; t++) {
        const gi_step s = {.cell = &m->cell, .at = &at, .rows = 1, .end_block = 1, .pre = pre_of(m, t, steps), .packed = m->packed,
                           .h = over_time && t ? after + (t - 1) * H : m->h + t * H, .h_next = after + t * H};
        gi_kernels_scalar.gru_reset_after_step(&s);
    }
}

/* The same of all cells together. states [2 * steps, 16] */
static const float *run_together(const gi_kernels *k, const member *members, int count, int64_t steps, int over_time,
                                 const float *r, float *states) {
    const int64_t H = members->cell.hidden_size, starts = over_time ? 1 : steps;
    gi_side s = {.cells = count, .hidden_size = H, .steps = steps, .r = r, .extra = r + H * 3 * GI_BLOCK, .before = states,
                 .after = states + starts * GI_BLOCK};
    for (int64_t i = 0; i < 2 * steps * GI_BLOCK; i++) states[i] = NAN;
    for (int j = 0; j < count; j++) {
        s.pre[j] = pre_of(&members[j], 0, steps), s.pre_stride[j] = members[j].back ? -GI_SIDE_PRE : GI_SIDE_PRE;
        for (int64_t i = 0; i < starts; i++)
            memcpy(states + i * GI_BLOCK + j * H, members[j].h + i * H, (size_t)H * sizeof *states);
    }
    k->gru_side(&s);
    return s.after;
}

static long differs(const member *m, int64_t steps, int over_time, const float *after) {
    float alone[MOST_STEPS * GI_BLOCK];
    const int64_t H = m->cell.hidden_size;
    long found = 0;
    run_alone(m, steps, over_time, alone);
    for (int64_t t = 0; t < steps; t++)
        for (int64_t i = 0; i < H; i++) found += !same_float(alone[t * H + i], after[t * GI_BLOCK + i]);
    return found;
}

static long case_differs(const gi_kernels *k) {
    const int count = 2 + (int)random_below(GI_SIDE_CELLS - 1), over_time = (int)random_below(2);
    const int64_t H = 1 + random_below(GI_BLOCK / count), steps = 2 + random_below(MOST_STEPS - 1);
    member members[GI_SIDE_CELLS];
    const gi_cell *cells[GI_SIDE_CELLS];
    const float *weights[GI_SIDE_CELLS];
    for (int j = 0; j < count; j++) {
        members[j] = make_member(H, steps, random_below(4) == 0);
        cells[j] = &members[j].cell, weights[j] = members[j].packed;
    }
    float *r = aligned_floats(gi_side_packed_size(cells[0]));
    float *states = random_floats(2 * steps * GI_BLOCK, 0);
    memset(r, 0, (size_t)gi_side_packed_size(cells[0]) * sizeof *r);
    gi_side_pack(r, cells, weights, count);
    const float *after = run_together(k, members, count, steps, over_time, r, states);
    long failed = 0;
    for (int j = 0; j < count; j++) failed += differs(&members[j], steps, over_time, after + j * H);
    for (int j = 0; j < count; j++) free_member(&members[j]);
    free(r), free(states);
    return failed != 0;
}

int main(void) {
    for (int i = 0; gi_kernels_list(i); i++) {
        const gi_kernels *k = gi_kernels_get(gi_kernels_list(i), NULL);
        long failed = 0;
        for (int n = 0; k && n < CASES; n++) failed += case_differs(k);
        if (k) check_group(k->name, "gru_side", CASES, failed);
    }
    return check_failures != 0;
}
