/* W x of many steps at once, which reads W once for all of them. A single row looks ahead instead: few steps at once, and those of
 * the next chunk beside the steps of this one. A single step reads only what of W does not meet a zero, if half of it does. Any
 * grouping of rows gives the same bits. */
#include "hoist.h"
#include "../base/cpu.h"
#include "../base/fpmode.h"

gi_product gi_cell_projection(const gi_cell *cell, const gi_cell_layout *at, const float *packed) {
    const int64_t G = gi_cell_gates(cell);
    return (gi_product){.weights = cell->weights, .K = cell->input_size, .width = gi_cell_projected_size(cell),
                        .lines = G == 1 ? GI_DENSE_GROUP : G, .panels = packed + at->w, .depth = cell->input_size,
                        .start = packed + at->bias};
}

int64_t gi_cell_projected_size(const gi_cell *cell) { return gi_cell_lines(cell, gi_cell_gates(cell)) * GI_BLOCK; }

void gi_cell_project(const gi_kernels *kernels, const gi_cell *cell, const float *packed, int64_t rows, const float *x, float *out) {
    gi_fpmode caller;
    gi_fpmode_enter(&caller);
    const gi_cell_layout at = gi_cell_place(cell);
    gi_product p = gi_cell_projection(cell, &at, packed);
    p.rows = rows, p.x = x, p.x_stride = cell->input_size, p.out = out, p.out_stride = p.width;
    kernels->product(&p);
    gi_fpmode_leave(&caller);
}

/* The first of the times of steps first .. end - 1. */
static int64_t time_of(const gi_layer *l, int64_t first, int64_t end) { return l->reverse ? l->T - end : first; }

/* Of `p`, all lines are left out but those of the groups that a share takes. */
static void take_groups(gi_product *p, int share, int shares) {
    const gi_block_range lines = gi_share_of_groups(p->width / GI_BLOCK, p->lines, share, shares);
    const int64_t first = lines.first * GI_BLOCK;
    p->panels += lines.first * gi_line_floats(p->weights, p->depth);
    p->start += first, p->out += first, p->width = lines.end * GI_BLOCK - first;
}

/* pre [chunk, M, lines * 16] = bias + W x. Members take parts of the lines: those of their units, nearly. */
static void hoist_share(void *arg, int share, int shares) {
    const gi_hoist *h = arg;
    const gi_layer *l = h->layer;
    const int64_t steps = h->end - h->first, first = time_of(l, h->first, h->end);
    const int64_t M = l->M;
    const int merged = l->x.t_stride == M * l->x.m_stride && l->pre.t_stride == M * l->pre.m_stride;
    const int by_row = !merged && M <= steps;
    const int64_t calls = merged ? 1 : by_row ? M : steps;
    gi_product p = gi_cell_projection(l->cell, l->at, l->packed);
    p.rows = merged ? M * steps : by_row ? steps : M;
    p.x_stride = by_row ? l->x.t_stride : l->x.m_stride, p.out_stride = by_row ? l->pre.t_stride : l->pre.m_stride;
    p.x = gi_series_at(&l->x, first), p.out = l->pre.p;
    take_groups(&p, share, shares);
    for (int64_t i = 0; i < calls; i++) {
        l->kernels->product(&p);
        p.x += by_row ? l->x.m_stride : l->x.t_stride, p.out += by_row ? l->pre.m_stride : l->pre.t_stride;
    }
}

/* Where looking ahead pays: steps; floats, so that all weights fit in L3; a small L1. */
enum { AHEAD_STEPS = GI_AHEAD_ROWS + 2, AHEAD_WEIGHTS = 4 * 1024 * 1024, SMALL_L1 = 32 * 1024 };

/* R does not fit in L1. That alone will do where a cycle has one vector of multiply-adds: made first, those of W take longer than
 * they add beside R. With two it has to be beyond four times L1. The size of L1 stands for that: 32 KiB on Zen 4, which has one, 48 on
 * Zen 5, which has two (bench/README.md). Where it is wrong, some sizes between take up to a quarter longer. */
static int is_far(int64_t r) {
    const int64_t l1 = gi_cpu_l1(), bytes = r * (int64_t)sizeof(float);
    return bytes > (l1 > SMALL_L1 ? 4 * l1 : l1);
}

/* With few inputs, there is little to do beside a step; with many, a step is little beside them. */
int gi_hoist_pays_ahead(const gi_kernels *kernels, const gi_cell *c, int64_t T) {
    const int64_t per_column = gi_cell_gates(c) * c->hidden_size, r = per_column * c->hidden_size, w = per_column * c->input_size;
    const int has_step = c->kind == GI_LSTM || (c->kind == GI_GRU && c->linear_before_reset);
    return kernels->looks_ahead && has_step && c->weights == GI_WEIGHTS_F32 && T >= AHEAD_STEPS && is_far(r) &&
           r + w <= AHEAD_WEIGHTS && 2 * c->input_size >= c->hidden_size && c->input_size <= 8 * c->hidden_size;
}

/* Floats of W from which on leaving out zeros pays; looking for them takes a few nanoseconds. */
enum { SPARSE_WEIGHTS = 8 * 1024 };

int gi_hoist_pays_sparse(const gi_cell *c, int64_t T) {
    return T == 1 && c->weights == GI_WEIGHTS_F32 && gi_cell_gates(c) * c->hidden_size * c->input_size >= SPARSE_WEIGHTS;
}

void gi_hoist_sparse(const gi_kernels *kernels, gi_step *s, float *room) {
    gi_product p = gi_cell_projection(s->cell, s->at, s->packed);
    p.rows = 1, p.x = s->x, p.out = room;
    const int is_sparse = s->rows == 1 && s->packed[GI_W_IS_FINITE] != 0 && kernels->sparse_product(&p, (int32_t *)(room + p.width));
    s->pre = is_sparse ? room : NULL;
}

int64_t gi_hoist_row_size(const gi_cell *cell, int64_t rows) { return gi_cell_projected_size(cell) + (rows == 1 ? GI_BLOCK : 0); }

void gi_hoist_start(gi_hoist *h, const gi_layer *l) {
    h->layer = l, h->first = 0, h->end = l->projected ? l->T : 0, h->slot = 0;
    const int has_peephole = l->cell->kind == GI_LSTM && l->packed[GI_HAS_PEEPHOLE] != 0;
    h->looks_ahead = l->M == 1 && l->T >= AHEAD_STEPS && l->ahead.p && l->at->plain && !has_peephole;
}

/* The end of a chunk that begins at step `first`. What one looks ahead for is a whole chunk: the first takes what is left over. */
static int64_t end_of(const gi_hoist *h, int64_t first) {
    const int64_t left = h->layer->T - first, part = left % GI_AHEAD_ROWS;
    if (h->looks_ahead) return first + (part ? part : GI_AHEAD_ROWS);
    return first + (left < h->layer->pre_steps ? left : h->layer->pre_steps);
}

/* ahead [I][GI_AHEAD_ROWS] = x of the next chunk, four rows at once, which a compiler makes vectors of. Members take parts of
 * the inputs. */
static void turn_share(void *arg, int share, int shares) {
    const gi_hoist *h = arg;
    const gi_layer *l = h->layer;
    const int64_t from = time_of(l, h->end, h->end + GI_AHEAD_ROWS);
    int64_t first;
    const int64_t count = gi_share_of(l->cell->input_size, GI_BLOCK, share, shares, &first);
    for (int64_t m = 0; m < GI_AHEAD_ROWS; m += 4) {
        float *to = l->ahead.p + first * GI_AHEAD_ROWS + m;
        const float *x[4];
        for (int64_t i = 0; i < 4; i++) x[i] = gi_series_at(&l->x, from + m + i) + first;
        for (int64_t j = 0; j < count; j++, to += GI_AHEAD_ROWS) to[0] = x[0][j], to[1] = x[1][j], to[2] = x[2][j], to[3] = x[3][j];
    }
}
_Static_assert(GI_AHEAD_ROWS % 4 == 0, "turn_share");

/* The product of the next chunk, if there is one, beside the steps of this. */
static const gi_ahead *aim_ahead(gi_hoist *h, gi_seat *seat) {
    const gi_layer *l = h->layer;
    if (h->end == l->T) return NULL;
    gi_team_phase(seat, 1, turn_share, h);
    h->next.x = l->ahead.p, h->next.steps = h->end - h->first;
    h->next.pre = gi_series_at(&l->pre, GI_AHEAD_ROWS - h->slot), h->next.pre_stride = l->pre.t_stride;
    return &h->next;
}

void gi_hoist_next(gi_hoist *h, gi_seat *seat, gi_step *s) {
    h->first = h->end, h->end = end_of(h, h->first);
    if (!h->looks_ahead || h->first == 0) gi_team_phase(seat, 1, hoist_share, h);
    else h->slot = GI_AHEAD_ROWS - h->slot;
    s->ahead = h->looks_ahead ? aim_ahead(h, seat) : NULL;
}
