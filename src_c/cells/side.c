/* GRU layers of few units side by side in the lanes of one block: over time, or all rows of a single step. Either is a series
 * of `steps` here, which runs in chunks that leave the cache to others. */
#include "side.h"
#include <string.h>

/* Each cell is a half block, since two of them fit in one. Where R lies in its weights depends on its input size. */
void gi_side_pack(float *packed, const gi_cell *const *cells, const float *const *weights, int count) {
    const int64_t H = cells[0]->hidden_size;
    for (int j = 0; j < count; j++) {
        const gi_cell_layout at = gi_cell_place(cells[j]);
        float *to = packed + j * H;
        for (int64_t k = 0; k < H; k++)
            for (int64_t gate = 0; gate < 3; gate++, to += GI_BLOCK)
                memcpy(to, weights[j] + at.r + k * GI_SIDE_PRE + gate * gi_gate_lanes(&at, 0), (size_t)H * sizeof *to);
        memcpy(to, weights[j] + at.extra, (size_t)H * sizeof *to);
    }
}

/* Steps first .. first + count - 1 in the order in which they run; those of a reversed layer lie the other way round. */
typedef struct chunk { int64_t first, count; } chunk;

static int is_back(const gi_layer *l) { return l->reverse && l->T > 1; }
static int64_t step_stride(const gi_layer *l, const gi_series *of) { return l->T > 1 ? of->t_stride : of->m_stride; }

/* Of the chunk's steps, the one that comes first in memory. */
static int64_t lowest(const gi_layer *l, const chunk *c) { return is_back(l) ? l->T - c->first - c->count : c->first; }

/* pre [count, GI_SIDE_PRE] = bias + W x, in the order of memory. */
static void hoist(const gi_layer *l, const chunk *c, float *pre) {
    const int64_t stride = step_stride(l, &l->x);
    gi_product p = gi_cell_projection(l->cell, l->at, l->packed);
    p.rows = c->count, p.x = l->x.p + lowest(l, c) * stride, p.x_stride = stride, p.out = pre, p.out_stride = GI_SIDE_PRE;
    l->kernels->product(&p);
}

/* to[i * to_stride ..] = from[i * from_stride ..], H floats each; literal sizes make moves of the calls. */
static void move_units(float *to, int64_t to_stride, const float *from, int64_t from_stride, int64_t n, int64_t H) {
    for (int64_t i = 0; i < n; i++, to += to_stride, from += from_stride) {
        if (H == 4) memcpy(to, from, 4 * sizeof *to);
        else if (H == 8) memcpy(to, from, 8 * sizeof *to);
        else memcpy(to, from, (size_t)H * sizeof *to);
    }
}

/* States of the rows first .. first + n - 1, each cell's in its lanes, zero elsewhere. */
static void take_states(const gi_layer *layers, int count, float *before, int64_t first, int64_t n) {
    const int64_t H = layers->cell->hidden_size;
    memset(before, 0, (size_t)(n * GI_BLOCK) * sizeof *before);
    for (int j = 0; j < count; j++) {
        const gi_series *h0 = &layers[j].h0;
        if (h0->p) move_units(before + j * H, GI_BLOCK, h0->p + first * h0->m_stride, h0->m_stride, n, H);
    }
}

static void give_steps(const gi_layer *l, const chunk *c, const float *after) {
    const int64_t stride = step_stride(l, &l->y), next = is_back(l) ? -stride : stride;
    float *y = l->y.p + (lowest(l, c) + (is_back(l) ? c->count - 1 : 0)) * stride;
    move_units(y, next, after, GI_BLOCK, c->count, l->cell->hidden_size);
}

static void give_states(const gi_layer *l, const float *after, int64_t first, int64_t n) {
    if (l->hn.p) move_units(l->hn.p + first * l->hn.m_stride, l->hn.m_stride, after, GI_BLOCK, n, l->cell->hidden_size);
}

/* From the states at `before` to those at `after`, which are the next steps' own where the steps follow each other. */
static void run_chunk(const gi_layer *layers, int count, const float *packed, const chunk *c, float *before, float *after) {
    const int64_t H = layers->cell->hidden_size;
    float *pre = after + c->count * GI_BLOCK;
    gi_side s = {.cells = count, .hidden_size = H, .steps = c->count, .r = packed, .extra = packed + H * 3 * GI_BLOCK,
                 .before = before, .after = after};
    for (int j = 0; j < count; j++, pre += c->count * GI_SIDE_PRE) {
        const int back = is_back(&layers[j]);
        hoist(&layers[j], c, pre);
        s.pre[j] = pre + (back ? (c->count - 1) * GI_SIDE_PRE : 0), s.pre_stride[j] = back ? -GI_SIDE_PRE : GI_SIDE_PRE;
    }
    layers->kernels->gru_side(&s);
    for (int j = 0; j < count; j++)
        if (layers[j].y.p) give_steps(&layers[j], c, after + j * H);
}

static chunk next_chunk(int64_t first, int64_t steps) {
    return (chunk){first, steps - first < GI_SIDE_CHUNK ? steps - first : GI_SIDE_CHUNK};
}

/* All steps of one row: the state before each is that after the one before. */
static void run_over_time(const gi_layer *layers, int count, const float *packed, float *room) {
    const int64_t T = layers->T, H = layers->cell->hidden_size;
    take_states(layers, count, room, 0, 1);
    for (chunk c = next_chunk(0, T); c.count; c = next_chunk(c.first + c.count, T)) {
        run_chunk(layers, count, packed, &c, room, room + GI_BLOCK);
        memcpy(room, room + c.count * GI_BLOCK, GI_BLOCK * sizeof *room);
    }
    for (int j = 0; j < count; j++) give_states(&layers[j], room + j * H, 0, 1);
}

/* One step of all rows. */
static void run_over_rows(const gi_layer *layers, int count, const float *packed, float *room) {
    const int64_t M = layers->M, H = layers->cell->hidden_size;
    for (chunk c = next_chunk(0, M); c.count; c = next_chunk(c.first + c.count, M)) {
        float *after = room + c.count * GI_BLOCK;
        take_states(layers, count, room, c.first, c.count);
        run_chunk(layers, count, packed, &c, room, after);
        for (int j = 0; j < count; j++) give_states(&layers[j], after + j * H, c.first, c.count);
    }
}

void gi_side_run(const gi_layer *layers, int count, const float *packed, float *room) {
    if (layers->T == 1) {
        run_over_rows(layers, count, packed, room);
        return;
    }
    for (int64_t m = 0; m < layers->M; m++) {
        gi_layer rows[GI_SIDE_CELLS];
        int j = 0;
        do rows[j] = gi_layer_rows(&layers[j], m, 1);
        while (++j < count);
        run_over_time(rows, count, packed, room);
    }
}
