/* gi_build_recurrent: checks one direction of a layer, gives it scratch, and runs it for every row. */
#include "../program/builder.h"
#include "../program/ops/integer.h"
#include "hoist.h"
#include "side.h"
#include <string.h>

/* Floats of hoisted input product kept at once: small enough to stay in a 2 MiB L2 beside the weights. But at least so many
 * steps: a W that no cache holds is read once for all of them. */
enum { PRE_FLOATS = 32 * 1024, PRE_STEPS_MIN = 24 };

/* Field by field: clearing or copying a record of this size takes as long as a small cell. */
void gi_recurrent_find(gi_layer *l, const gi_recurrent_op *op, const gi_frame *f, int64_t row) {
    gi_series *const series[GI_LAYER_SERIES] = {&l->x, &l->y, &l->h0, &l->c0, &l->hn, &l->cn, &l->h[0], &l->h[1], &l->c, &l->gate, &l->ahead, &l->sparse, &l->pre};
    for (int i = 0; i < GI_LAYER_SERIES; i++) {
        const gi_series_place *from = &op->places[i];
        series[i]->p = from->at.tensor < 0 ? NULL : gi_at(f, &from->at, row);
        series[i]->t_stride = from->t_stride, series[i]->m_stride = from->m_stride;
    }
    l->kernels = f->kernels, l->cell = &op->cell, l->at = &op->at, l->packed = gi_at(f, &op->packed, row), l->reverse = op->reverse;
    l->T = op->T, l->M = op->by_program_row ? f->rows : op->N, l->pre_steps = op->pre_steps, l->projected = op->projected;
    l->team = f->team, l->backward = f->backward;
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
static void run_part(gi_layer *part, int64_t T) {
    if (part->T == 0) part->h0.p = part->c0.p = NULL;
    gi_layer_run(part);
    zero_after(part, T);
}

/* Neighbouring rows of equal length run together. lens: [M] with the given stride. */
static int run_ragged(const gi_layer *l, const int32_t *lens, int64_t stride, gi_error *err) {
    for (int64_t m = 0; m < l->M; m++) {
        const int32_t length = *(const volatile int32_t *)&lens[m * stride];
        if (length < 0 || length > l->T)
            return gi_fail(err, GI_ERR_DATA, "sequence_lens[%lld] is %d, expected 0 to %lld", (long long)m, length, (long long)l->T);
    }
    for (int64_t first = 0, end; first < l->M; first = end) {
        const int64_t length = gi_load_checked((const char *)&lens[first * stride], GI_I32, 0, l->T);
        for (end = first + 1; end < l->M && lens[end * stride] == length; end++) {}
        gi_layer part = part_of(l, first, end - first, length);
        run_part(&part, l->T);
    }
    return GI_OK;
}

int gi_recurrent_run(const gi_op *base, const gi_frame *f, gi_error *err) {
    const gi_recurrent_op *op = (const gi_recurrent_op *)base;
    const int64_t calls = op->N == 0 ? 0 : op->by_program_row ? 1 : f->rows;   /* no sequences: T may be anything */
    for (int64_t row = 0; row < calls; row++) {
        gi_layer layer;
        gi_recurrent_find(&layer, op, f, row);
        if (op->lens.tensor < 0) {
            run_part(&layer, layer.T);
            continue;
        }
        int status = run_ragged(&layer, gi_at(f, &op->lens, row), op->lens_stride, err);
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
    const int64_t T = r->x.shape[0], N = r->x.shape[1], H = r->cell.hidden_size;
    const int64_t I = r->projected ? gi_cell_projected_size(&r->cell) : r->cell.input_size;
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

static gi_series_place place_of(const gi_recurrent_op *op, gi_operand at, int64_t t_stride, int64_t n_stride) {
    return (gi_series_place){at, t_stride, op->by_program_row && at.tensor >= 0 ? at.row_bytes / at.size : n_stride};
}

static void use_views(gi_builder *b, gi_recurrent_op *op, const gi_recurrent *r) {
    const gi_view *const views[GI_LAYER_VIEWS] = {&r->x, &r->y, &r->h0, &r->c0, &r->hn, &r->cn}, packed = {.tensor = r->packed, .rank = 1};
    op->packed = gi_builder_use(b, &packed), op->lens = gi_builder_use(b, &r->lens);
    op->by_program_row = op->N == 1 && op->packed.row_bytes == 0;
    op->lens_stride = place_of(op, op->lens, 0, r->lens.stride[0]).m_stride;
    for (int i = 0; i < GI_LAYER_VIEWS; i++) {
        const gi_view *v = views[i];
        const int time = v->rank == 3;
        op->places[i] = place_of(op, gi_builder_use(b, v), time ? v->stride[0] : 0, v->stride[time]);
    }
    if (r->projected) op->places[GI_LAYER_PRE] = op->places[0];
}

/* Scratch [steps, N, width]. */
typedef struct need { int wanted; int64_t steps, width; } need;

static int take(gi_builder *b, const gi_recurrent_op *op, gi_series_place *to, const need *n, gi_error *err) {
    const int64_t per_step = n->wanted ? gi_size_mul(op->N, n->width) : 0, elements = gi_size_mul(n->steps, per_step);
    gi_operand at = {.tensor = -1};
    if (elements < 0) return gi_fail(err, GI_ERR_LIMIT, "recurrent scratch does not fit in memory");
    if (n->wanted) at = gi_builder_scratch(b, elements, err);
    *to = place_of(op, at, per_step, n->width);
    return n->wanted && at.tensor < 0 ? GI_ERR_MEMORY : GI_OK;
}

static int add_scratch(gi_builder *b, gi_recurrent_op *op, gi_error *err) {
    const int64_t span = gi_blocks(op->cell.hidden_size) * GI_BLOCK, H = op->cell.hidden_size;
    const int64_t pre_width = gi_cell_projected_size(&op->cell), per_step = gi_size_mul(pre_width, op->N > 0 ? op->N : 1);
    if (per_step < 0) return gi_fail(err, GI_ERR_LIMIT, "recurrent scratch does not fit in memory");
    const int is_row = op->N == 1 && !op->projected, sparse = is_row && gi_hoist_pays_sparse(&op->cell, op->T);
    const int looks_ahead = is_row && gi_hoist_pays_ahead(b->program->kernels, &op->cell, op->T);
    op->pre_steps = PRE_FLOATS / per_step < PRE_STEPS_MIN ? PRE_STEPS_MIN : PRE_FLOATS / per_step;
    if (op->pre_steps > op->T) op->pre_steps = op->T;
    if (looks_ahead && op->pre_steps < 2 * GI_AHEAD_ROWS) op->pre_steps = 2 * GI_AHEAD_ROWS;
    const need needs[GI_LAYER_SERIES - GI_LAYER_VIEWS] = {{1, 1, H}, {1, 1, H}, {op->cell.kind == GI_LSTM, 1, H},
                                        {op->cell.kind == GI_GRU && !op->cell.linear_before_reset, 1, 3 * span},
                                        {looks_ahead, 1, gi_size_mul(op->cell.input_size, GI_AHEAD_ROWS)},
                                        {sparse, 1, gi_hoist_sparse_size(&op->cell)},
                                        {op->T > 1, op->pre_steps, gi_hoist_row_size(&op->cell, op->N)}};
    for (int i = 0; i < GI_LAYER_SERIES - GI_LAYER_VIEWS - op->projected; i++)
        if (take(b, op, &op->places[GI_LAYER_VIEWS + i], &needs[i], err) < 0) return GI_ERR_LIMIT;
    return GI_OK;
}

/* Zeroed: of its own, or one that runs as part of `first`. */
static gi_recurrent_op *new_op(gi_builder *b, const gi_recurrent *r, const gi_recurrent_op *first, gi_error *err) {
    static const char *const names[] = {[GI_LSTM] = "lstm", [GI_GRU] = "gru", [GI_RNN] = "rnn"};
    if (!first) return gi_builder_op(b, sizeof(gi_recurrent_op), gi_recurrent_run, names[r->cell.kind], err);
    gi_recurrent_op *op = gi_arena_take(b->program->arena, sizeof *op);
    if (!op) gi_fail(err, GI_ERR_MEMORY, "out of memory for a recurrent layer");
    return op;
}

int gi_build_recurrent(gi_builder *b, const gi_recurrent *r, gi_error *err) {
    int status = check_packed(b, &r->cell, r->packed, err);
    if (status == GI_OK) status = check_layer(b, r, err);
    if (status < 0) return status;
    gi_recurrent_op *first = gi_side_company(b, r), *op = new_op(b, r, first, err);
    if (!op) return GI_ERR_MEMORY;
    op->cell = r->cell, op->at = gi_cell_place(&r->cell), op->reverse = r->reverse, op->projected = !!r->projected;
    op->T = r->x.shape[0], op->N = r->x.shape[1];
    use_views(b, op, r);
    status = add_scratch(b, op, err);
    if (status == GI_OK) gi_single_use(op, b->program->kernels);
    if (status == GI_OK) status = gi_side_join(b, first ? first : op, op, r, err);
    if (status < 0 && !first) b->program->n_ops--;   /* a half-built op must not run */
    if (status < 0) return status;
    gi_builder_macs(b, gi_size_mul(gi_size_mul(op->T, op->N), gi_cell_gates(&op->cell) * op->cell.hidden_size *
                                   (op->cell.input_size + op->cell.hidden_size)));
    return GI_OK;
}
