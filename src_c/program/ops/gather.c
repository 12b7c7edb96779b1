/* out[i.., j.., k..] = in[i.., index[j..], k..]: a walk over i and j, and at each of their elements one over k. */
#include "integer.h"

typedef struct gather_op {
    gi_op op;
    gi_walk indices;                 /* operand: index */
    gi_walk places;                  /* operands: out, in (at index 0), index */
    gi_walk block;                   /* operands: out, in */
    gi_operand out, in, index;
    int32_t index_dtype;
    int64_t extent, stride;          /* of the gathered axis; stride in bytes */
} gather_op;

static int check_index_run(const gi_run *run) {
    const gather_op *op = run->op;
    for (int64_t i = 0; i < run->n; i++) {
        int64_t index = gi_load_integer(run->at[0] + i * run->step[0], op->index_dtype);
        if (index < -op->extent || index >= op->extent)
            return gi_fail(run->err, GI_ERR_DATA, "gather: index %lld is out of range for an axis of %lld elements",
                           (long long)index, (long long)op->extent);
    }
    return GI_OK;
}

static int gather_run(const gi_run *run) {
    const gather_op *op = run->op;
    gi_run block = {.op = &op->out.size};
    for (int64_t i = 0; i < run->n; i++) {
        int64_t index = gi_load_checked(run->at[2] + i * run->step[2], op->index_dtype, -op->extent, op->extent - 1);
        block.at[0] = run->at[0] + i * run->step[0];
        block.at[1] = run->at[1] + i * run->step[1] + (index < 0 ? index + op->extent : index) * op->stride;
        gi_walk_from(&op->block, &block, gi_move_run);
    }
    return GI_OK;
}

/* All indices of all rows are checked before anything is written. */
static int run_gather(const gi_op *self, const gi_frame *frame, gi_error *err) {
    const gather_op *op = (const gather_op *)self;
    int status = gi_walk_rows(&op->indices, frame, &op->index, op, check_index_run, err);
    if (status < 0) return status;
    return gi_walk_rows(&op->places, frame, (gi_operand[]){op->out, op->in, op->index}, op, gather_run, err);
}

static int check_gather(gi_builder *b, const gi_view *out, const gi_view *in, const gi_view *index, int axis,
                        gi_error *err) {
    const gi_view *views[] = {out, in, index};
    int status = gi_check_views(b, 3, views, (const char *[]){"gather out", "gather in", "gather index"}, err);
    if (status < 0 || (status = gi_check_dtype(b, in, gi_view_dtype(b, out), "gather in", err)) < 0) return status;
    int dtype = gi_view_dtype(b, index);
    if (dtype != GI_I32 && dtype != GI_I64) return gi_fail(err, GI_ERR_SHAPE, "gather index: expected int32 or int64");
    if (axis < 0 || axis >= in->rank || out->rank != in->rank - 1 + index->rank)
        return gi_fail(err, GI_ERR_SHAPE, "gather: axis %d of rank %d with an index of rank %d does not give rank %d",
                       axis, in->rank, index->rank, out->rank);
    gi_view wanted = *out;
    for (int i = 0; i < out->rank; i++) {
        int j = i - axis, k = i - index->rank + 1;       /* the axis of index, or of in behind the gathered one */
        wanted.shape[i] = j < 0 ? in->shape[i] : j < index->rank ? index->shape[j] : in->shape[k];
    }
    if ((status = gi_check_same_shape(out, &wanted, "gather out", err)) < 0 ||
        (status = gi_check_apart(out, in, 0, "gather in", err)) < 0)
        return status;
    return gi_check_apart(out, index, 0, "gather index", err);
}

/* Plans the walk over the axes i and j: `in` stands still along j, the index along i. */
static void plan_places(gather_op *op, const gi_view *out, const gi_view *in, const gi_view *index, int axis) {
    gi_view at = gi_view_axes(out, 0, axis + index->rank), from = at, by = at;
    for (int i = 0; i < at.rank; i++) {
        from.stride[i] = i < axis ? in->stride[i] : 0;
        by.stride[i] = i < axis ? 0 : index->stride[i - axis];
    }
    const int32_t sizes[] = {op->out.size, op->in.size, op->index.size};
    gi_walk_plan(&op->places, 3, (const gi_view *[]){&at, &from, &by}, sizes);
}

int gi_build_gather(gi_builder *b, const gi_view *out, const gi_view *in, const gi_view *index, int axis,
                    gi_error *err) {
    int status = check_gather(b, out, in, index, axis, err);
    if (status < 0 || !gi_view_count(out)) return status;
    if (!in->shape[axis]) return gi_fail(err, GI_ERR_SHAPE, "gather in: axis %d has no elements to gather from", axis);
    gather_op *op = gi_builder_op(b, sizeof *op, run_gather, "gather", err);
    if (!op) return GI_ERR_MEMORY;
    op->out = gi_builder_use(b, out);
    op->in = gi_builder_use(b, in);
    op->index = gi_builder_use(b, index);
    op->index_dtype = gi_view_dtype(b, index);
    op->extent = in->shape[axis];
    op->stride = in->stride[axis] * op->in.size;
    if (op->extent == 1) op->stride = 0;
    gi_view to = gi_view_axes(out, axis + index->rank, in->rank - axis - 1), from = gi_view_axes(in, axis + 1, to.rank);
    gi_walk_plan(&op->indices, 1, &index, &op->index.size);
    plan_places(op, out, in, index, axis);
    gi_walk_plan(&op->block, 2, (const gi_view *[]){&to, &from}, (int32_t[]){op->out.size, op->in.size});
    return GI_OK;
}
