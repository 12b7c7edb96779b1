/* Which layers run side by side. They become one op in the place of the first of them, so each needs what there is before
 * that, and the memory plan keeps what any of them uses while all of them run. */
#include "../program/builder.h"
#include "../program/ops/strided.h"
#include "side.h"

struct gi_side_group {
    int32_t count;
    const gi_recurrent_op *layers[GI_SIDE_CELLS];
    gi_recurrent asked[GI_SIDE_CELLS];       /* what they were built from */
    float *packed;                           /* gi_side_pack of them */
    gi_operand room;
};
typedef struct gi_side_group group;

/* Tiles of many rows, which each layer has alone, hide as much as two layers that share lanes. */
enum { MANY_ROWS = 8 };

static int pays(const gi_layer *l, int count) {
    return !gi_layer_is_shared(l) && (l->T == 1 || l->M < MANY_ROWS || count > 2);
}

static int run_group(const gi_op *base, const gi_frame *f, gi_error *err) {
    const gi_recurrent_op *first = (const gi_recurrent_op *)base;
    const group *g = first->group;
    (void)err;
    for (int64_t row = 0; row < (first->by_program_row ? 1 : f->rows); row++) {
        gi_layer layers[GI_SIDE_CELLS];
        for (int i = 0; i < g->count; i++) gi_recurrent_find(&layers[i], g->layers[i], f, row);
        if (pays(layers, g->count)) gi_side_run(layers, g->count, g->packed, gi_at(f, &g->room, row));
        else for (int i = 0; i < g->count; i++) gi_layer_run(&layers[i]);
    }
    return GI_OK;
}

/* ---- building ------------------------------------------------------------------------------------------------------- */

/* The default activations without a clip, float32 weights, and room for two in a block. */
static int is_small(const gi_cell *cell) {
    return cell->kind == GI_GRU && cell->linear_before_reset && cell->weights == GI_WEIGHTS_F32 && gi_cell_is_plain(cell) &&
           2 * cell->hidden_size <= GI_BLOCK;
}

static int may_join(const gi_builder *b, const gi_recurrent *r) {
    const int64_t T = r->x.shape[0], N = r->x.shape[1];
    return is_small(&r->cell) && ((T > 1 && N == 1) || (T == 1 && N > 1)) && r->lens.tensor < 0 && !r->projected &&
           b->program->tensors[r->packed].kind == GI_CONSTANT;
}

static int most(const gi_cell *cell) {
    const int64_t cells = GI_BLOCK / cell->hidden_size;
    return cells < GI_SIDE_CELLS ? (int)cells : GI_SIDE_CELLS;
}

/* `one` writes nothing that `other` reads or writes. */
static int leaves_alone(const gi_recurrent *one, const gi_recurrent *other) {
    const gi_view *const written[] = {&one->y, &one->hn}, *const seen[] = {&other->y, &other->hn, &other->x, &other->h0};
    for (size_t i = 0; i < sizeof written / sizeof *written; i++)
        for (size_t j = 0; j < sizeof seen / sizeof *seen; j++)
            if (written[i]->tensor >= 0 && gi_check_apart(written[i], seen[j], 0, "", NULL) < 0) return 0;
    return 1;
}

static int goes_with(const gi_recurrent *r, const gi_recurrent *other) {
    return r->cell.hidden_size == other->cell.hidden_size && r->x.shape[0] == other->x.shape[0] &&
           r->x.shape[1] == other->x.shape[1] && leaves_alone(r, other) && leaves_alone(other, r);
}

gi_recurrent_op *gi_side_company(const gi_builder *b, const gi_recurrent *r) {
    gi_op *newest = b->program->n_ops ? b->program->ops[b->program->n_ops - 1] : NULL;
    if (!newest || (newest->run != gi_recurrent_run && newest->run != run_group) || !may_join(b, r)) return NULL;
    gi_recurrent_op *first = (gi_recurrent_op *)newest;
    const group *g = first->group;
    if (!g || g->count >= most(&r->cell)) return NULL;
    for (int i = 0; i < g->count; i++)
        if (!goes_with(r, &g->asked[i])) return NULL;
    return first;
}

/* What only a group of several has. */
static int add_memory(gi_builder *b, group *g, gi_error *err) {
    const gi_recurrent *r = &g->asked[0];
    g->packed = gi_arena_take(b->program->arena, (size_t)gi_side_packed_size(&r->cell) * sizeof *g->packed);
    if (!g->packed) return gi_fail(err, GI_ERR_MEMORY, "out of memory for a recurrent layer");
    g->room = gi_builder_scratch(b, gi_side_room(r->x.shape[0] * r->x.shape[1]), err);
    return g->room.tensor < 0 ? GI_ERR_MEMORY : GI_OK;
}

static void pack(const gi_builder *b, const group *g) {
    const gi_cell *cells[GI_SIDE_CELLS];
    const float *weights[GI_SIDE_CELLS];
    for (int i = 0; i < g->count; i++)
        cells[i] = &g->asked[i].cell, weights[i] = b->program->tensors[g->asked[i].packed].data;
    gi_side_pack(g->packed, cells, weights, g->count);
}

int gi_side_join(gi_builder *b, gi_recurrent_op *first, gi_recurrent_op *op, const gi_recurrent *r, gi_error *err) {
    if (!may_join(b, r)) return GI_OK;
    if (!first->group) first->group = gi_arena_take(b->program->arena, sizeof *first->group);
    group *g = first->group;
    if (!g) return gi_fail(err, GI_ERR_MEMORY, "out of memory for a recurrent layer");
    if (g->count == 1 && add_memory(b, g, err) < 0) return GI_ERR_MEMORY;
    g->layers[g->count] = op, g->asked[g->count++] = *r;
    if (g->count == 1) return GI_OK;
    pack(b, g);
    first->op.run = run_group, first->op.carry = NULL;
    return GI_OK;
}
