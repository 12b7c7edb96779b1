/* One direction of a recurrent layer over time. Not public. */
#ifndef GI_CELLS_H
#define GI_CELLS_H
#include "../base/team.h"
#include "../kernels/cell_layout.h"
#include "../program/program.h"

/* Memory of M rows over T steps: element (t, m, j) at p[t * t_stride + m * m_stride + j]. p is NULL when absent. */
typedef struct gi_series { float *p; int64_t t_stride, m_stride; } gi_series;

static inline float *gi_series_at(const gi_series *s, int64_t t) { return s->p ? s->p + t * s->t_stride : NULL; }

/* One layer ready to run. [.., H] unless said otherwise; h0, c0, hn, cn and the scratch have no time axis. */
typedef struct gi_layer {
    const gi_kernels *kernels;
    const gi_cell *cell;
    const float *packed;
    const gi_cell_layout *at;/* of `cell` */
    int reverse;
    int64_t T, M;
    gi_series x;             /* [T, M, I], unused if projected */
    gi_series y;             /* [T, M, H] or absent */
    gi_series h0, c0, hn, cn;/* each may be absent */
    gi_series h[2], c;       /* scratch; t_stride unused */
    gi_series gate;          /* scratch [M, 3 * span], GRU */
    gi_series ahead;         /* scratch [M, I * GI_AHEAD_ROWS] where a single row is to look ahead, else absent; then pre_steps is at
                              * least 2 * GI_AHEAD_ROWS */
    gi_series sparse;        /* scratch [M, gi_hoist_sparse_size] where inputs that are zero are to be left out, else absent */
    gi_series pre;           /* scratch [pre_steps, M, lines * 16], steps further apart if M is 1, absent when T is 1; if
                              * projected, the input [T, M, lines * 16] */
    int64_t pre_steps;
    int projected;
    gi_team *team;           /* who may help, or NULL */
    int backward;            /* the first step reads weights from their end, the second from their start, ... */
} gi_layer;

/* The kernels of a step, one after the other; `then` is NULL for all cells but a GRU that resets before the product. */
typedef struct gi_cell_way { void (*kernel)(const gi_step *s), (*then)(const gi_step *s); } gi_cell_way;

/* A single row of few units is sooner done in a vector that they fill. */
static inline gi_cell_way gi_cell_way_of(const gi_kernels *k, const gi_cell *cell, int64_t rows) {
    if (rows == 1 && k->narrower && cell->hidden_size <= k->narrower->lanes) k = k->narrower;
    if (cell->kind != GI_GRU) return (gi_cell_way){cell->kind == GI_LSTM ? k->lstm_step : k->rnn_step, NULL};
    if (cell->linear_before_reset) return (gi_cell_way){k->gru_reset_after_step, NULL};
    return (gi_cell_way){k->gru_reset_before_step, k->gru_candidate_step};
}

/* Of `blocks` in groups of `width`, the share of a member: whole groups, blocks first .. end - 1. */
typedef struct gi_block_range { int64_t first, end; } gi_block_range;
static inline gi_block_range gi_share_of_groups(int64_t blocks, int64_t width, int share, int shares) {
    int64_t first;
    const int64_t count = gi_share_of(gi_groups(blocks, width), 1, share, shares, &first);
    return (gi_block_range){gi_group_at(blocks, width, first), gi_group_at(blocks, width, first + count)};
}

/* bias + W x of a cell, whose `packed` is laid out as `at` says; the caller adds rows, x and out. */
gi_product gi_cell_projection(const gi_cell *cell, const gi_cell_layout *at, const float *packed);

void gi_layer_run(const gi_layer *layer);
int gi_layer_is_shared(const gi_layer *layer);   /* its team helps: it is large enough */
/* The same for the rows first .. first + count - 1. */
gi_layer gi_layer_rows(const gi_layer *whole, int64_t first, int64_t count);

#endif
