/* The input products of a layer before its steps: bias + W x of a chunk of them, which its scratch `pre` holds. Not public. */
#ifndef GI_HOIST_H
#define GI_HOIST_H
#include "cells.h"

/* The chunk that a walk over the steps is in: steps first .. end - 1, in `pre` from `slot` on in the order of their times. */
typedef struct gi_hoist {
    const gi_layer *layer;
    int64_t first, end, slot;
    int looks_ahead;                         /* the next chunk is made beside the steps of this one: gi_ahead */
    gi_ahead next;
} gi_hoist;

/* A single row over T steps should look ahead, and gets scratch for that. */
int gi_hoist_pays_ahead(const gi_kernels *kernels, const gi_cell *cell, int64_t T);
/* Floats from one row of `pre` to the next. The steps of a single row are a line further apart than they are long: else they meet
 * in few sets of a cache. */
int64_t gi_hoist_row_size(const gi_cell *cell, int64_t rows);

/* A layer of one step should leave out inputs of a single row that are zero, and gets scratch for that. */
int gi_hoist_pays_sparse(const gi_cell *cell, int64_t T);
static inline int64_t gi_hoist_sparse_size(const gi_cell *cell) { return gi_cell_projected_size(cell) + cell->input_size; }
/* pre = bias + W x of a single row, in `room`, if at least half of x is zero, else NULL. */
void gi_hoist_sparse(const gi_kernels *kernels, gi_step *s, float *room);

void gi_hoist_start(gi_hoist *h, const gi_layer *l);
/* Goes on to the next chunk, whose product it makes, or finds made. */
void gi_hoist_next(gi_hoist *h, gi_seat *seat, gi_step *s);

/* Tells step `index`, one after the other, where its input product is. */
static inline void gi_hoist_aim(gi_hoist *h, gi_seat *seat, gi_step *s, int64_t index) {
    if (index == h->end) gi_hoist_next(h, seat, s);
    h->next.step = index - h->first;
    s->pre = gi_series_at(&h->layer->pre, h->slot + (h->layer->reverse ? h->end - 1 - index : index - h->first));
}

#endif
