/* A layer of one step from a given state, which is what most streams run: where it reads and writes, and with which
 * kernels, is decided when it is built. Finding that out takes as long as a small cell. */
#include "hoist.h"
#include "recurrent_op.h"
#include <string.h>

enum { X, Y, H0, C0, HN, CN, SCRATCH_H, SCRATCH_C = SCRATCH_H + 2, GATE, SPARSE = GATE + 2 };   /* of the op's places */

static float *at(const gi_frame *f, const gi_single_place *p) {
    return (float *)((char *)f->ptr[p->tensor] + p->offset);
}

static inline void aim(gi_step *s, const gi_recurrent_op *op, const gi_frame *f) {
    const gi_single *p = &op->single;
    s->cell = &op->cell, s->at = &op->at, s->packed = gi_at(f, &op->packed, 0);
    s->rows = f->rows, s->first_block = 0, s->end_block = p->blocks, s->backward = f->backward;
    s->x = at(f, &p->x), s->x_stride = p->x.m_stride;
    s->pre = op->projected ? s->x : NULL, s->pre_stride = p->x.m_stride, s->ahead = NULL;
    s->h = at(f, &p->h), s->h_stride = p->h.m_stride;
    s->c = at(f, &p->c), s->c_stride = p->c.m_stride;
    s->h_next = at(f, &p->h_next), s->h_next_stride = p->h_next.m_stride;
    s->c_next = at(f, &p->c_next), s->c_next_stride = p->c_next.m_stride;
    s->h_again = f->carries && p->carries_h ? at(f, &p->h) : NULL;
    s->c_again = f->carries && p->carries_c ? at(f, &p->c) : NULL;
    s->gate = at(f, &p->gate), s->gate_stride = p->gate.m_stride;
}

static void copy_rows(const gi_recurrent_op *op, const gi_frame *f, const gi_single_place *to, const gi_single_place *from) {
    const size_t bytes = (size_t)op->cell.hidden_size * sizeof(float);
    for (int64_t m = 0; m < f->rows; m++) memcpy(at(f, to) + m * to->m_stride, at(f, from) + m * from->m_stride, bytes);
}

/* What to share with a team, the layer knows. */
static __attribute__((noinline)) int run_shared(const gi_recurrent_op *op, const gi_frame *f, gi_error *err) {
    const gi_single *p = &op->single;
    const int status = gi_recurrent_run(&op->op, f, err);
    if (status == GI_OK && f->carries && p->carries_h) copy_rows(op, f, &p->h, &p->h_next);
    if (status == GI_OK && f->carries && p->carries_c) copy_rows(op, f, &p->c, &p->c_next);
    return status;
}

static int run_single(const gi_op *base, const gi_frame *f, gi_error *err) {
    const gi_recurrent_op *op = (const gi_recurrent_op *)base;
    if (f->team) return run_shared(op, f, err);
    const gi_cell_way *way = &op->single.ways[f->rows > 1];
    gi_step s;
    aim(&s, op, f);
    if (op->single.pays_sparse) gi_hoist_sparse(f->kernels, &s, at(f, &op->single.sparse));
    way->kernel(&s);
    if (way->then) way->then(&s);
    if (op->single.copies_h) copy_rows(op, f, &op->single.hn, &op->single.h_next);
    return GI_OK;
}

/* All of tensor `tensor`, row after row. */
static int is_all_of(const gi_recurrent_op *op, int place, int tensor) {
    const gi_operand *at = &op->places[place].at;
    return at->tensor == tensor && at->offset == 0 && at->row_bytes == op->cell.hidden_size * (int64_t)sizeof(float);
}

/* Tensor `tensor` is what the layer reads at `place`, and nowhere else: blocks that come later still need the old one there. */
static int is_read_once(const gi_recurrent_op *op, int place, int tensor) {
    static const int inputs[] = {X, H0, C0};
    for (int i = 0; i < 3; i++)
        if (inputs[i] != place && op->places[inputs[i]].at.tensor == tensor) return 0;
    return is_all_of(op, place, tensor);
}

/* h only where a tile has read all of a row before it writes. */
static int carry(gi_op *base, int from, int to) {
    gi_recurrent_op *op = (gi_recurrent_op *)base;
    gi_single *p = &op->single;
    const int of_h = p->fits_tile && is_all_of(op, HN, from) && is_read_once(op, H0, to);
    const int of_c = is_all_of(op, CN, from) && is_read_once(op, C0, to);
    p->carries_h |= of_h, p->carries_c |= of_c;
    return of_h || of_c;
}

static int has(const gi_recurrent_op *op, int place) { return op->places[place].at.tensor >= 0; }

static gi_single_place place(const gi_recurrent_op *op, int wanted, int otherwise) {
    const gi_series_place *p = &op->places[has(op, wanted) ? wanted : otherwise];
    return (gi_single_place){p->at.tensor, p->at.offset, p->m_stride};
}

void gi_single_use(gi_recurrent_op *op, const gi_kernels *kernels) {
    const int lstm = op->cell.kind == GI_LSTM, has_hn = has(op, HN), h_next = has(op, Y) ? Y : has_hn ? HN : SCRATCH_H;
    if (op->T != 1 || !op->by_program_row || op->lens.tensor >= 0 || !has(op, H0) || (lstm && !has(op, C0))) return;
    op->single = (gi_single){.x = place(op, X, X), .h = place(op, H0, X), .c = place(op, C0, X), .gate = place(op, GATE, X),
                             .sparse = place(op, SPARSE, X), .pays_sparse = has(op, SPARSE),
                             .h_next = place(op, h_next, X), .c_next = place(op, CN, lstm ? SCRATCH_C : X),
                             .hn = place(op, HN, X), .copies_h = has_hn && h_next != HN,
                             .ways = {gi_cell_way_of(kernels, &op->cell, 1), gi_cell_way_of(kernels, &op->cell, 2)},
                             .blocks = gi_blocks(op->cell.hidden_size),
                             .fits_tile = op->cell.hidden_size <= kernels->tile_units};
    op->op.run = run_single, op->op.carry = carry;
}
