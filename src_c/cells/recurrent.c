/* gi_build_recurrent: checks one direction of a layer, gives it scratch, and runs it for every row. */
#include "../program/builder.h"
#include "../program/ops/strided.h"
#include "cells.h"
#include <string.h>

/* Floats of hoisted input product kept at once: small enough to stay in a 2 MiB L2 beside the weights. */
enum { PRE_FLOATS = 32 * 1024, PRE_STEPS_MIN = 8 };

typedef struct place { gi_operand at; int64_t t_stride, n_stride; } place;

typedef struct recurrent_op {
    gi_op op;
    gi_cell cell;
    int32_t reverse;
    int64_t T, N, pre_steps;
    place packed, x, lens, y, h0, c0, hn, cn, h[2], c, gate, pre;
} recurrent_op;

/* Rows of the layer: the sequences of one program row when N > 1, else the program rows themselves. */
static gi_series series_of(const gi_frame *f, const place *p, int64_t row, int by_program_row) {
    if (p->at.tensor < 0) return (gi_series){0};
    return (gi_series){gi_at(f, &p->at, row), p->t_stride, by_program_row ? p->at.row_bytes / p->at.size : p->n_stride};
}

static gi_layer layer_of(const recurrent_op *op, const gi_frame *f, int64_t row, int by_program_row) {
    gi_layer l = {.kernels = f->kernels, .cell = &op->cell, .packed = gi_at(f, &op->packed.at, row), .reverse = op->reverse,
                  .T = op->T, .M = by_program_row ? f->rows : op->N, .pre_steps = op->pre_steps, .team = f->team,
                  .backward = f->backward};
    const place *from[] = {&op->x, &op->y, &op->h0, &op->c0, &op->hn, &op->cn, &op->h[0], &op->h[1], &op->c, &op->gate, &op->pre};
    gi_series *to[] = {&l.x, &l.y, &l.h0, &l.c0, &l.hn, &l.cn, &l.h[0], &l.h[1], &l.c, &l.gate, &l.pre};
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) *to[i] = series_of(f, from[i], row, by_program_row);
    return l;
}

/* The rows first .. first + count - 1 of a layer over `length` steps; Y is 0 from there on. */
static gi_layer part_of(const gi_layer *whole, int64_t first, int64_t count, int64_t length) {
    gi_layer part = gi_layer_rows(whole, first, count);
    part.T = length;
    return part;
}

static void zero_after(const gi_layer *part, int64_t T) {
    for (int64_t t = part->T; t < T && part->y.p; t++)
        for (int64_t m = 0; m < part->M; m++)
            memset(part->y.p + t * part->y.t_stride + m * part->y.m_stride, 0, (size_t)part->cell->hidden_size * sizeof(float));
}

/* A row of length 0 has zero final states whatever its initial ones, as in onnxruntime. */
static void run_part(gi_layer part, int64_t T) {
    if (part.T == 0) part.h0.p = part.c0.p = NULL;
    gi_layer_run(&part);
    zero_after(&part, T);
}

/* Neighbouring rows of equal length run together. lens: [M] with the given stride. */
static int run_ragged(const gi_layer *l, const int32_t *lens, int64_t stride, gi_error *err) {
    for (int64_t m = 0; m < l->M; m++)
        if (lens[m * stride] < 0 || lens[m * stride] > l->T)
            return gi_fail(err, GI_ERR_DATA, "sequence_lens[%lld] is %d, expected 0 to %lld", (long long)m, lens[m * stride],
                           (long long)l->T);
    for (int64_t first = 0, end; first < l->M; first = end) {
        for (end = first + 1; end < l->M && lens[end * stride] == lens[first * stride]; end++) {}
        run_part(part_of(l, first, end - first, lens[first * stride]), l->T);
    }
    return GI_OK;
}

static int run_recurrent(const gi_op *base, const gi_frame *f, gi_error *err) {
    const recurrent_op *op = (const recurrent_op *)base;
    const int by_program_row = op->N == 1 && op->packed.at.row_bytes == 0;
    const int64_t calls = op->N == 0 ? 0 : by_program_row ? 1 : f->rows;   /* no sequences: T may be anything */
    for (int64_t row = 0; row < calls; row++) {
        const gi_layer layer = layer_of(op, f, row, by_program_row);
        if (op->lens.at.tensor < 0) {
            run_part(layer, op->T);
            continue;
        }
        int64_t stride = by_program_row ? op->lens.at.row_bytes / op->lens.at.size : op->lens.n_stride;
        int status = run_ragged(&layer, gi_at(f, &op->lens.at, row), stride, err);
        if (status < 0) return status;
    }
    return GI_OK;
}

/* ---- building ------------------------------------------------------------------------------------------------------- */

/* `v` absent, or float32 of `rank` axes with the expected extents and a contiguous last axis. */
static int check_part(gi_builder *b, const gi_view *v, int rank, const int64_t *shape, const char *what, gi_error *err) {
    if (v->tensor < 0) return GI_OK;
    if (gi_check_view(b, v, what, err) < 0 || gi_check_dtype(b, v, GI_F32, what, err) < 0) return GI_ERR_SHAPE;
    if (v->rank != rank) return gi_fail(err, GI_ERR_SHAPE, "%s: expected rank %d, got %d", what, rank, v->rank);
    for (int i = 0; i < rank; i++)
        if (v->shape[i] != shape[i])
            return gi_fail(err, GI_ERR_SHAPE, "%s: axis %d is %lld, expected %lld", what, i, (long long)v->shape[i],
                           (long long)shape[i]);
    if (v->shape[rank - 1] > 1 && v->stride[rank - 1] != 1)
        return gi_fail(err, GI_ERR_ARGUMENT, "%s: the last axis must be contiguous", what);
    return GI_OK;
}

/* What is written shares no element with anything else: steps read their inputs after earlier steps have written. */
static int check_apart(const gi_recurrent *r, gi_error *err) {
    const gi_view *const all[] = {&r->y, &r->hn, &r->cn, &r->x, &r->h0, &r->c0, &r->lens};
    static const char *const names[] = {"", "final h", "final c", "recurrent x", "initial_h", "initial_c", "sequence_lens"};
    for (size_t i = 0; i < 3; i++) {
        if (all[i]->tensor == r->packed)
            return gi_fail(err, GI_ERR_ARGUMENT, "recurrent: the packed weights cannot be an output");
        for (size_t j = i + 1; j < sizeof all / sizeof *all; j++)
            if (gi_check_apart(all[i], all[j], 0, names[j], err) < 0) return GI_ERR_ARGUMENT;
    }
    return GI_OK;
}

static int check_layer(gi_builder *b, const gi_recurrent *r, gi_error *err) {
    if (r->x.tensor < 0 || r->x.rank != 3) return gi_fail(err, GI_ERR_SHAPE, "recurrent x: expected rank 3");
    const int64_t T = r->x.shape[0], N = r->x.shape[1], I = r->cell.input_size, H = r->cell.hidden_size;
    const int64_t x[] = {T, N, I}, y[] = {T, N, H}, state[] = {N, H};
    const struct { const gi_view *v; int rank; const int64_t *shape; const char *what; int written; } parts[] = {
        {&r->x, 3, x, "recurrent x", 0},     {&r->y, 3, y, "recurrent y", 1},      {&r->h0, 2, state, "initial_h", 0},
        {&r->c0, 2, state, "initial_c", 0},  {&r->hn, 2, state, "final h", 1},     {&r->cn, 2, state, "final c", 1}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (check_part(b, parts[i].v, parts[i].rank, parts[i].shape, parts[i].what, err) < 0) return GI_ERR_SHAPE;
        if (parts[i].written && parts[i].v->tensor >= 0 && gi_check_writable(b, parts[i].v, parts[i].what, err) < 0)
            return GI_ERR_ARGUMENT;
    }
    if (r->cell.kind != GI_LSTM && (r->c0.tensor >= 0 || r->cn.tensor >= 0))
        return gi_fail(err, GI_ERR_ARGUMENT, "recurrent: only an LSTM has a cell state");
    if (r->lens.tensor < 0) return check_apart(r, err);
    if (gi_check_view(b, &r->lens, "sequence_lens", err) < 0 || gi_check_dtype(b, &r->lens, GI_I32, "sequence_lens", err) < 0)
        return GI_ERR_SHAPE;
    if (r->lens.rank != 1 || r->lens.shape[0] != N)
        return gi_fail(err, GI_ERR_SHAPE, "sequence_lens: expected shape (%lld,)", (long long)N);
    return check_apart(r, err);
}

static int check_packed(gi_builder *b, const gi_cell *cell, int packed, gi_error *err) {
    int64_t size = gi_cell_packed_size(cell, err);
    if (size < 0) return (int)size;
    const gi_view whole = {.tensor = packed, .rank = 1, .shape = {size}, .stride = {1}};
    int status = gi_check_view(b, &whole, "packed weights", err);
    return status < 0 ? status : gi_check_dtype(b, &whole, GI_F32, "packed weights", err);
}

static place place_of(gi_builder *b, const gi_view *v) {
    const int time = v->rank == 3;
    return (place){gi_builder_use(b, v), time ? v->stride[0] : 0, v->rank ? v->stride[time] : 0};
}

/* Scratch [steps, N, width]. */
typedef struct need { place *at; int wanted; int64_t steps, width; } need;

static int take(gi_builder *b, const need *n, int64_t N, gi_error *err) {
    const int64_t per_step = n->wanted ? gi_size_mul(N, n->width) : 0, elements = gi_size_mul(n->steps, per_step);
    *n->at = (place){.at.tensor = -1, .t_stride = per_step, .n_stride = n->width};
    if (!n->wanted) return GI_OK;
    if (elements < 0) return gi_fail(err, GI_ERR_LIMIT, "recurrent scratch does not fit in memory");
    n->at->at = gi_builder_scratch(b, elements, err);
    return n->at->at.tensor < 0 ? GI_ERR_MEMORY : GI_OK;
}

static int add_scratch(gi_builder *b, recurrent_op *op, gi_error *err) {
    const int64_t span = gi_blocks(op->cell.hidden_size) * GI_BLOCK, H = op->cell.hidden_size;
    const int64_t pre_width = span * gi_cell_gates(&op->cell), per_step = gi_size_mul(pre_width, op->N > 0 ? op->N : 1);
    if (per_step < 0) return gi_fail(err, GI_ERR_LIMIT, "recurrent scratch does not fit in memory");
    op->pre_steps = PRE_FLOATS / per_step < PRE_STEPS_MIN ? PRE_STEPS_MIN : PRE_FLOATS / per_step;
    if (op->pre_steps > op->T) op->pre_steps = op->T;
    const need needs[] = {{&op->h[0], 1, 1, H}, {&op->h[1], 1, 1, H}, {&op->c, op->cell.kind == GI_LSTM, 1, H},
                          {&op->gate, op->cell.kind == GI_GRU && !op->cell.linear_before_reset, 1, 3 * span},
                          {&op->pre, op->T > 1, op->pre_steps, pre_width}};
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (take(b, &needs[i], op->N, err) < 0) return GI_ERR_LIMIT;
    return GI_OK;
}

int gi_build_recurrent(gi_builder *b, const gi_recurrent *r, gi_error *err) {
    static const char *const names[] = {[GI_LSTM] = "lstm", [GI_GRU] = "gru", [GI_RNN] = "rnn"};
    int status = check_packed(b, &r->cell, r->packed, err);
    if (status == GI_OK) status = check_layer(b, r, err);
    if (status < 0) return status;
    recurrent_op *op = gi_builder_op(b, sizeof *op, run_recurrent, names[r->cell.kind], err);
    if (!op) return GI_ERR_MEMORY;
    const gi_view packed = {.tensor = r->packed, .rank = 1, .shape = {1}, .stride = {1}};
    op->cell = r->cell, op->reverse = r->reverse, op->T = r->x.shape[0], op->N = r->x.shape[1];
    op->packed = place_of(b, &packed), op->x = place_of(b, &r->x), op->lens = place_of(b, &r->lens);
    op->y = place_of(b, &r->y), op->h0 = place_of(b, &r->h0), op->c0 = place_of(b, &r->c0);
    op->hn = place_of(b, &r->hn), op->cn = place_of(b, &r->cn);
    status = add_scratch(b, op, err);
    if (status < 0) b->program->n_ops--;   /* a half-built op must not run */
    else gi_builder_macs(b, gi_size_mul(gi_size_mul(op->T, op->N), gi_cell_gates(&op->cell) * op->cell.hidden_size *
                                        (op->cell.input_size + op->cell.hidden_size)));
    return status;
}
