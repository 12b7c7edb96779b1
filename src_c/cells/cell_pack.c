/* gi_build_cell_pack: weights that arrive at run time are packed by an op before the layer runs. */
#include "cells.h"

typedef struct cell_pack_op {
    gi_op op;
    gi_cell cell;
    gi_operand packed, W, R, B, P;
} cell_pack_op;

static const float *read_at(const gi_frame *f, const gi_operand *o, int64_t row) {
    return o->tensor < 0 ? NULL : gi_at(f, o, row);
}

static int run_cell_pack(const gi_op *base, const gi_frame *f, gi_error *err) {
    const cell_pack_op *op = (const cell_pack_op *)base;
    for (int64_t row = 0; row < f->rows; row++) {
        int status = gi_cell_pack(&op->cell, read_at(f, &op->W, row), read_at(f, &op->R, row), read_at(f, &op->B, row),
                                  read_at(f, &op->P, row), gi_at(f, &op->packed, row), err);
        if (status < 0) return status;
    }
    return GI_OK;
}

/* `v` holds `count` contiguous float32. */
static int check_weight(gi_builder *b, const gi_view *v, int64_t count, int optional, const char *what, gi_error *err) {
    if (v->tensor < 0 && optional) return GI_OK;
    if (gi_check_view(b, v, what, err) < 0 || gi_check_dtype(b, v, GI_F32, what, err) < 0) return GI_ERR_SHAPE;
    if (gi_view_count(v) != count)
        return gi_fail(err, GI_ERR_SHAPE, "%s: expected %lld elements, got %lld", what, (long long)count,
                       (long long)gi_view_count(v));
    int64_t step = 1;
    for (int i = v->rank - 1; i >= 0; step *= v->shape[i--])
        if (v->shape[i] > 1 && v->stride[i] != step) return gi_fail(err, GI_ERR_ARGUMENT, "%s must be contiguous", what);
    return GI_OK;
}

int gi_build_cell_pack(gi_builder *b, const gi_cell *cell, int packed, const gi_view *W, const gi_view *R, const gi_view *B,
                       const gi_view *P, gi_error *err) {
    int64_t size = gi_cell_packed_size(cell, err);
    if (size < 0) return (int)size;
    const int64_t G = gi_cell_gates(cell), H = cell->hidden_size;
    const gi_view target = {.tensor = packed, .rank = 1, .shape = {size}, .stride = {1}};
    if (check_weight(b, &target, size, 0, "packed weights", err) < 0 || gi_check_writable(b, &target, "packed weights", err) < 0 ||
        check_weight(b, W, G * H * cell->input_size, 0, "W", err) < 0 || check_weight(b, R, G * H * H, 0, "R", err) < 0 ||
        check_weight(b, B, 2 * G * H, 1, "B", err) < 0 || check_weight(b, P, 3 * H, 1, "P", err) < 0)
        return GI_ERR_SHAPE;
    cell_pack_op *op = gi_builder_op(b, sizeof *op, run_cell_pack, "cell_pack", err);
    if (!op) return GI_ERR_MEMORY;
    op->cell = *cell;
    op->packed = gi_builder_use(b, &target);
    op->W = gi_builder_use(b, W), op->R = gi_builder_use(b, R);
    op->B = gi_builder_use(b, B), op->P = gi_builder_use(b, P);
    return GI_OK;
}
