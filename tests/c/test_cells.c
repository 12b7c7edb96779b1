/* Products and cells of every kernel table against the scalar table's single rows, bit by bit: random shapes around block
 * boundaries, rows and steps around those of a band and a span (body/band.inc.h), every attribute, with and without a hoisted
 * input product, as a whole and in ranges of blocks, forward and backward.
 * What lies past an output row must stay untouched. 16-bit weights: against a float32 panel of the rounded values. */
#include "../../src_c/kernels/cell_layout.h"
#include "../../src_c/kernels/dense.h"
#include "check.h"
#include <stdlib.h>

enum { CASES = 300, MAX_ROWS = 52, MAX_SIZE = 75, MAX_STEPS = 280, STRIDE = 288, WEIGHTS = 1 << 17, SPAN = MAX_ROWS * STRIDE };

static _Alignas(64) float weights[WEIGHTS];
static float x[SPAN], h[SPAN], c[SPAN], pre[SPAN * 2], gate[SPAN];
static float expected[2][SPAN], got[2][SPAN];

static void fill_case(void) {
    float *small[] = {x, h, c, expected[0], expected[1]};
    for (int i = 0; i < 5; i++) fill_random(small[i], SPAN, 0);
    fill_random(pre, SPAN * 2, 0);
    for (int i = 0; i < 4; i++) x[random_below(SPAN)] = random_input(1);
    memcpy(got, expected, sizeof got);
}

static int outputs_differ(void) {
    for (int i = 0; i < SPAN; i++)
        if (!same_float(expected[0][i], got[0][i]) || !same_float(expected[1][i], got[1][i])) return 1;
    return 0;
}

/* A weight of ordinary size as float32, and two of them as bf16 or f16. */
static float random_word(void) {
    return gi_float_of((uint32_t)gi_bf16_bits(random_value(0.3f)) << 16 | gi_bf16_bits(random_value(0.3f)));
}

/* Mostly few. */
static int64_t random_rows(void) { return random_below(random_below(3) ? 10 : MAX_ROWS + 1); }
static int64_t random_steps(void) { return random_below(random_below(3) ? MAX_SIZE : MAX_STEPS); }

/* As a whole, or the first steps of its panels first, and the others on what has come out. */
static void run_in_pieces(const gi_kernels *k, gi_product p) {
    const int64_t K = p.K, cut = random_below(2) ? K : random_below(K + 1);
    p.K = cut;
    k->product(&p);
    if (cut == K) return;
    p.K = K - cut, p.step = cut, p.x += cut, p.start = p.out, p.start_stride = p.out_stride;
    k->product(&p);
}

static long product_differs(const gi_kernels *k) {
    gi_product p = {.rows = random_rows(), .K = random_steps(),
                    .width = 1 + random_below(MAX_SIZE), .lines = 1 + random_below(GI_DENSE_GROUP),
                    .x = x, .x_stride = STRIDE, .out_stride = STRIDE};
    p.depth = p.K, p.start = weights;
    p.panels = weights + gi_blocks(p.width) * GI_BLOCK;
    p.out = got[0];
    run_in_pieces(k, p);
    for (p.out = expected[0]; p.rows > 0; p.rows--, p.x += STRIDE, p.out += STRIDE) {
        gi_product row = p;
        row.rows = 1;
        gi_kernels_scalar.product(&row);
    }
    return outputs_differ();
}

/* A product with 16-bit weights is the product with the rounded weights, in every bit. */
static long half_product_differs(const gi_kernels *k) {
    static _Alignas(64) float matrix[MAX_STEPS * MAX_SIZE], half[WEIGHTS], whole[WEIGHTS];
    const int64_t K = random_steps(), N = 1 + random_below(MAX_SIZE), rows = random_rows();
    const int format = 1 + (int)random_below(2);
    for (int64_t i = 0; i < K * N; i++) matrix[i] = random_value(i % 5 ? 0.3f : 3e-5f);
    gi_dense_pack(format, K, N, matrix, N, 1, NULL, half, NULL);
    if (!gi_dense_is_striped(K, N)) gi_round_weights(format, K * N, matrix, matrix, NULL);
    gi_dense_pack(GI_WEIGHTS_F32, K, N, matrix, N, 1, NULL, whole, NULL);
    for (int64_t m = 0; m < rows; m++)
        gi_dense_run(&gi_kernels_scalar, GI_WEIGHTS_F32, whole, 1, K, N, x + m * STRIDE, STRIDE, expected[0] + m * STRIDE, STRIDE);
    gi_dense_run(k, format, half, rows, K, N, x, STRIDE, got[0], STRIDE);
    return outputs_differ();
}

static int64_t count_nonzero(const float *v, int64_t n) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) count += v[i] != 0;
    return count;
}

static int has_minus_zero(const float *v, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (same_float(v[i], -0.0f)) return 1;
    return 0;
}

/* Of a row with many zeros of either sign, beside values of all kinds. What it gives has the bits of the product; it gives none for
 * a row with few zeros, and where one of its sums is -0, as they may be here: many chains begin with zeros and tiny inputs round. */
static long sparse_product_differs(const gi_kernels *k, long *found) {
    static float bias[STRIDE];
    static int32_t index[MAX_STEPS];
    gi_product p = {.rows = 1, .K = random_steps(), .width = 1 + random_below(MAX_SIZE), .lines = 1 + random_below(GI_DENSE_GROUP),
                    .x = x, .start = bias, .panels = weights + random_below(64) * GI_BLOCK, .out = got[0]};
    p.depth = p.K;
    const int few_zeros = random_below(4) == 0, kind = (int)random_below(4);
    for (int64_t i = 0; i < STRIDE; i++) bias[i] = kind % 3 == 0 ? random_value(1.0f) : kind == 1 || i >= p.width || random_below(9) ? 0.0f : -0.0f;
    for (int64_t i = 0; i < p.K; i++)
        if (kind == 3 || random_below(3) < 2 - few_zeros) x[i] = random_below(2) ? 0.0f : -0.0f;
    if (kind == 3) bias[random_below(p.width)] = -0.0f;
    gi_product whole = p;
    whole.out = expected[0];
    gi_kernels_scalar.product(&whole);
    const int done = k->sparse_product(&p, index), too_many = count_nonzero(x, p.K) > p.K / GI_SPARSE_PART;
    *found += done;
    if (!done) return !too_many && !has_minus_zero(got[0], p.width);
    return too_many || outputs_differ();
}

static gi_cell random_cell(int kind) {
    const int plain = random_below(2) == 0;
    gi_cell cell = {.kind = kind, .weights = (int)random_below(GI_WEIGHTS_COUNT),
                    .linear_before_reset = (int)random_below(2), .input_size = 1 + random_steps(),
                    .hidden_size = 1 + random_below(MAX_SIZE)};
    cell.input_forget = !plain && random_below(3) == 0;
    cell.clip = !plain && random_below(2) ? 0.75f : 0.0f;
    for (int i = 0; i < 3; i++) {
        const int usual = i || kind == GI_RNN ? GI_TANH : GI_SIGMOID;
        const int any = (int)random_below(GI_ACTIVATION_COUNT);
        cell.act[i] = (gi_activation){plain ? usual : any, random_value(1.0f), random_value(1.0f)};
    }
    return cell;
}

/* The blocks in two ranges that meet at `split`, as two threads would take them. */
static void run_ranges(void (*step)(const gi_step *), gi_step s, int64_t split) {
    const int64_t end = gi_blocks(s.cell->hidden_size);
    s.end_block = split;
    step(&s);
    s.first_block = split, s.end_block = end;
    step(&s);
}

/* `rows` rows from `row` on. */
static void run_step(const gi_kernels *k, const gi_cell *cell, int64_t row, int64_t rows, int hoisted, int64_t split, int backward,
                     float out[2][SPAN]) {
    const int64_t panel_width = gi_cell_lines(cell, gi_cell_gates(cell)) * GI_BLOCK, at_row = row * STRIDE;
    const gi_cell_layout at = gi_cell_place(cell);
    const gi_step step = {.cell = cell, .at = &at, .rows = rows, .backward = backward, .x = x + at_row, .x_stride = STRIDE,
                          .pre = hoisted ? pre + row * panel_width : NULL, .pre_stride = panel_width,
                          .h = h + at_row, .h_stride = STRIDE, .c = c + at_row, .c_stride = STRIDE,
                          .h_next = out[0] + at_row, .h_next_stride = STRIDE, .c_next = out[1] + at_row, .c_next_stride = STRIDE,
                          .gate = gate + at_row, .gate_stride = STRIDE, .packed = weights};
    if (cell->kind == GI_LSTM) run_ranges(k->lstm_step, step, split);
    if (cell->kind == GI_RNN) run_ranges(k->rnn_step, step, split);
    if (cell->kind != GI_GRU) return;
    if (cell->linear_before_reset) {
        run_ranges(k->gru_reset_after_step, step, split);
        return;
    }
    run_ranges(k->gru_reset_before_step, step, split);
    run_ranges(k->gru_candidate_step, step, split);
}

static long cell_differs(const gi_kernels *k, int kind) {
    const gi_cell cell = random_cell(kind);
    const int64_t rows = random_rows();
    const int hoisted = (int)random_below(2);
    weights[GI_HAS_PEEPHOLE] = kind == GI_LSTM && random_below(3) == 0;
    const int grouped = kind == GI_RNN || (kind == GI_GRU && !cell.linear_before_reset);
    const int64_t blocks = gi_blocks(cell.hidden_size), width = grouped ? GI_DENSE_GROUP : 1;
    const int64_t split = gi_group_at(blocks, width, random_below(gi_groups(blocks, width) + 1));
    for (int64_t m = 0; m < rows; m++) run_step(&gi_kernels_scalar, &cell, m, 1, hoisted, 0, 0, expected);
    run_step(k, &cell, 0, rows, hoisted, split, (int)random_below(2), got);
    return outputs_differ();
}

static void check_table(const gi_kernels *k) {
    static const char *const names[] = {"lstm_step", "gru_step", "rnn_step"};
    long failed = 0;
    for (int i = 0; i < CASES; i++) {
        fill_case();
        failed += product_differs(k);
    }
    check_group(k->name, "product", CASES, failed);
    failed = 0;
    for (int i = 0; i < CASES; i++) {
        fill_case();
        failed += half_product_differs(k);
    }
    check_group(k->name, "16-bit product", CASES, failed);
    long found = failed = 0;
    for (int i = 0; i < CASES; i++) {
        fill_case();
        failed += sparse_product_differs(k, &found);
    }
    check_group(k->name, "sparse product", CASES, failed);
    CHECK(found > CASES / 4 && found < CASES, "%s: %ld of %d rows were sparse", k->name, found, CASES);
    for (int kind = GI_LSTM; kind <= GI_RNN; kind++) {
        failed = 0;
        for (int i = 0; i < CASES; i++) {
            fill_case();
            failed += cell_differs(k, kind);
        }
        check_group(k->name, names[kind], CASES, failed);
    }
}

/* Groups follow each other without gaps. In groups of three or four a block is alone only where there is no other. */
static void check_groups(void) {
    for (int64_t width = 1; width <= GI_DENSE_GROUP; width++) {
        for (int64_t blocks = 1; blocks <= 40; blocks++) {
            const int64_t groups = gi_groups(blocks, width), least = width > 2 && blocks > 1 ? 2 : 1;
            for (int64_t g = 0; g < groups; g++)
                CHECK(gi_groups(gi_group_at(blocks, width, g), width) == g, "group %d of %d blocks is not found", (int)g, (int)blocks);
            CHECK(gi_group_at(blocks, width, 0) == 0, "%d blocks in groups of %d begin late", (int)blocks, (int)width);
            CHECK(gi_group_at(blocks, width, groups) == blocks, "%d blocks in groups of %d end early", (int)blocks, (int)width);
            for (int64_t g = 0; g < groups; g++) {
                const int64_t lines = gi_group_at(blocks, width, g + 1) - gi_group_at(blocks, width, g);
                CHECK(lines >= least && lines <= width, "group %d of %d blocks has %d", (int)g, (int)blocks, (int)lines);
                CHECK(lines == gi_group_lines(blocks, width, gi_group_at(blocks, width, g)), "group %d of %d blocks has not %d", (int)g,
                      (int)blocks, (int)lines);
            }
        }
    }
}

int main(void) {
    check_groups();
    for (int i = 0; i < WEIGHTS; i++) weights[i] = random_word();
    for (int i = 0; gi_kernels_list(i); i++) {
        const gi_kernels *k = gi_kernels_get(gi_kernels_list(i), NULL);
        if (k) check_table(k);
    }
    return check_failures != 0;
}
