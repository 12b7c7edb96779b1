/* Small GRU layers that need nothing of each other run side by side, as one op: body/side.inc.h. Not public. */
#ifndef GI_SIDE_H
#define GI_SIDE_H
#include "recurrent_op.h"

/* ---- building: side_build.c ---- */
/* The newest op, if a layer like `r` may run as part of it, else NULL. */
gi_recurrent_op *gi_side_company(const gi_builder *b, const gi_recurrent *r);
/* `op`, built from `r`, runs as part of `first` from now on. first == op: others may join it, if it is one for company. */
int gi_side_join(gi_builder *b, gi_recurrent_op *first, gi_recurrent_op *op, const gi_recurrent *r, gi_error *err);

/* ---- running: side.c ---- */
/* Floats of R and Rb_h of several cells like this in one block: [H][3][16], [16]. */
static inline int64_t gi_side_packed_size(const gi_cell *cell) { return (3 * cell->hidden_size + 1) * GI_BLOCK; }
/* cells [count] with the same H; weights [count]: packed weights of each. `packed` is zero. */
void gi_side_pack(float *packed, const gi_cell *const *cells, const float *const *weights, int count);

/* Steps, or rows of a single step, that run at once. */
enum { GI_SIDE_CHUNK = 64 };
/* Floats of scratch for layers of so many: states before and after them, input products of each cell. */
static inline int64_t gi_side_room(int64_t steps) {
    return (steps < GI_SIDE_CHUNK ? steps : GI_SIDE_CHUNK) * (2 * GI_BLOCK + GI_SIDE_CELLS * GI_SIDE_PRE);
}
/* layers [count] with the same H, T and M; count > 1, and T > 1 or M > 1. packed: gi_side_pack of them. */
void gi_side_run(const gi_layer *layers, int count, const float *packed, float *room);

#endif
