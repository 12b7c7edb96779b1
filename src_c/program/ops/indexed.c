/* Gathers and scatters by tuples of indices: a walk over the places that the index lists, and at each one a walk over a
 * block of the indexed tensor. The other side, called the list, holds the blocks in the order of the index. */
#include "../builder.h"
#include "integer.h"

typedef struct indexed_op {
    gi_op op;
    gi_walk tuples;                          /* operand: index, at the first number of a tuple */
    gi_walk places;                          /* operands: list, indexed (at index 0), index */
    gi_walk block;                           /* operands: what is written, what is read */
    gi_operand list, indexed, index;
    int32_t index_dtype, dtype, numbers;     /* numbers: of a tuple */
    int32_t is_scatter, reduction;
    int64_t index_step;                      /* between the numbers of a tuple, bytes */
    int64_t extent[GI_MAX_RANK], stride[GI_MAX_RANK];      /* of the axes that a tuple indexes; strides in bytes */
} indexed_op;

/* ---- running ----------------------------------------------------------------------------------------------------- */

static int check_tuples(const gi_run *run) {
    const indexed_op *op = run->op;
    for (int64_t i = 0; i < run->n; i++)
        for (int32_t k = 0; k < op->numbers; k++) {
            int64_t index = gi_load_integer(run->at[0] + i * run->step[0] + k * op->index_step, op->index_dtype);
            if (index < -op->extent[k] || index >= op->extent[k])
                return gi_fail(run->err, GI_ERR_DATA, "index %lld is out of range for an axis of %lld elements",
                               (long long)index, (long long)op->extent[k]);
        }
    return GI_OK;
}

static char *indexed_at(const indexed_op *op, char *base, const char *tuple) {
    for (int32_t k = 0; k < op->numbers; k++) {
        int64_t index = gi_load_checked(tuple + k * op->index_step, op->index_dtype, -op->extent[k], op->extent[k] - 1);
        base += (index < 0 ? index + op->extent[k] : index) * op->stride[k];
    }
    return base;
}

static float combine_floats(int reduction, float a, float b) {
    switch (reduction) {
    case GI_ADD: return a + b;
    case GI_MUL: return a * b;
    case GI_MIN: return b < a || b != b ? b : a;
    default: return b > a || b != b ? b : a;
    }
}

static int combine_run(const gi_run *run) {
    const indexed_op *op = run->op;
    for (int64_t i = 0; i < run->n; i++) {
        char *dst = run->at[0] + i * run->step[0], *src = run->at[1] + i * run->step[1];
        if (op->dtype == GI_F32)
            *(float *)dst = combine_floats(op->reduction, *(float *)dst, *(float *)src);
        else
            gi_store_integer(dst, op->dtype, gi_integer_binary(op->reduction, gi_load_integer(dst, op->dtype),
                                                               gi_load_integer(src, op->dtype)));
    }
    return GI_OK;
}

static int indexed_run(const gi_run *run) {
    const indexed_op *op = run->op;
    gi_run block = {.op = op->reduction < 0 ? (const void *)&op->list.size : op};
    for (int64_t i = 0; i < run->n; i++) {
        char *listed = run->at[0] + i * run->step[0];
        char *place = indexed_at(op, run->at[1] + i * run->step[1], run->at[2] + i * run->step[2]);
        block.at[0] = op->is_scatter ? place : listed;
        block.at[1] = op->is_scatter ? listed : place;
        gi_walk_from(&op->block, &block, op->reduction < 0 ? gi_move_run : combine_run);
    }
    return GI_OK;
}

/* All indices of all rows are checked before anything is written. */
static int run_indexed(const gi_op *self, const gi_frame *frame, gi_error *err) {
    const indexed_op *op = (const indexed_op *)self;
    int status = gi_walk_rows(&op->tuples, frame, &op->index, op, check_tuples, err);
    if (status < 0) return status;
    return gi_walk_rows(&op->places, frame, (gi_operand[]){op->list, op->indexed, op->index}, op, indexed_run, err);
}

/* ---- building ---------------------------------------------------------------------------------------------------- */

/* The operands of the two walks, as views of equal shapes. */
typedef struct parts {
    gi_view lead_list, lead_indexed, lead_index, block_list, block_indexed;
    int32_t numbers, first;                  /* the tuple's numbers index the axes from `first` on */
    int64_t index_step;
} parts;

static int check_sides(gi_builder *b, const gi_view *list, const gi_view *indexed, const gi_view *index, int is_scatter,
                       gi_error *err) {
    const gi_view *out = is_scatter ? indexed : list, *in = is_scatter ? list : indexed;
    int status = gi_check_views(b, 3, (const gi_view *[]){out, in, index},
                                (const char *[]){"indexed out", "indexed in", "indices"}, err);
    if (status < 0 || (status = gi_check_dtype(b, in, gi_view_dtype(b, out), "indexed in", err)) < 0 ||
        (status = gi_check_apart(out, in, 0, "indexed in", err)) < 0 ||
        (status = gi_check_apart(out, index, 0, "indices", err)) < 0)
        return status;
    int dtype = gi_view_dtype(b, index);
    if (dtype != GI_I32 && dtype != GI_I64) return gi_fail(err, GI_ERR_SHAPE, "indices: expected int32 or int64");
    return GI_OK;
}

static int check_parts(const parts *p, const gi_view *indexed, gi_error *err) {
    int status = gi_check_same_shape(&p->lead_list, &p->lead_index, "indices", err);
    if (status == GI_OK) status = gi_check_same_shape(&p->block_list, &p->block_indexed, "indexed block", err);
    for (int32_t k = 0; k < p->numbers && status == GI_OK; k++)
        if (!indexed->shape[p->first + k])
            status = gi_fail(err, GI_ERR_SHAPE, "indices: axis %d has no elements to index", p->first + k);
    return status;
}

static int append_indexed(gi_builder *b, const gi_view *list, const gi_view *indexed, const gi_view *index,
                          const parts *p,
                          int is_scatter, int reduction, gi_error *err) {
    if (!gi_view_count(list)) return GI_OK;
    int status = check_parts(p, indexed, err);
    if (status == GI_OK && reduction >= 0) status = gi_check_computes(b, list, "indexed in", err);
    if (status < 0) return status;
    indexed_op *op = gi_builder_op(b, sizeof *op, run_indexed, is_scatter ? "scatter" : "gather", err);
    if (!op) return GI_ERR_MEMORY;
    op->list = gi_builder_use(b, list), op->indexed = gi_builder_use(b, indexed), op->index = gi_builder_use(b, index);
    op->index_dtype = gi_view_dtype(b, index), op->dtype = gi_view_dtype(b, list);
    op->numbers = p->numbers, op->is_scatter = is_scatter, op->reduction = reduction;
    op->index_step = p->index_step * op->index.size;
    for (int32_t k = 0; k < p->numbers; k++) {
        op->extent[k] = indexed->shape[p->first + k];
        op->stride[k] = op->extent[k] > 1 ? indexed->stride[p->first + k] * op->list.size : 0;
    }
    const int32_t sizes[] = {op->list.size, op->list.size, op->index.size};
    const gi_view *block[] = {is_scatter ? &p->block_indexed : &p->block_list,
                              is_scatter ? &p->block_list : &p->block_indexed};
    gi_walk_plan(&op->tuples, 1, (const gi_view *[]){&p->lead_index}, &op->index.size);
    gi_walk_plan(&op->places, 3, (const gi_view *[]){&p->lead_list, &p->lead_indexed, &p->lead_index}, sizes);
    gi_walk_plan(&op->block, 2, block, sizes);
    return GI_OK;
}

/* index [lead.., numbers], list [lead.., block..], indexed [batch.., numbers axes, block..]; the first `batch` lead
 * axes are those of `indexed`. */
static int build_tuples(gi_builder *b, const gi_view *list, const gi_view *indexed, const gi_view *index, int batch,
                        int is_scatter, int reduction, gi_error *err) {
    int status = check_sides(b, list, indexed, index, is_scatter, err);
    if (status < 0) return status;
    const int lead = index->rank - 1;
    const int64_t numbers = lead < 0 ? -1 : index->shape[lead];
    if (lead < batch || batch < 0 || numbers < 0 || numbers > indexed->rank - batch)
        return gi_fail(err, GI_ERR_SHAPE, "indices: tuples of %lld numbers behind %d of %d axes", (long long)numbers,
                       batch, lead);
    const int rest = indexed->rank - batch - (int)numbers;
    if (list->rank != lead + rest)
        return gi_fail(err, GI_ERR_SHAPE, "indices: %d axes of places and %d of blocks are not rank %d", lead, rest,
                       list->rank);
    parts p = {.lead_list = gi_view_axes(list, 0, lead), .lead_index = gi_view_axes(index, 0, lead),
               .block_list = gi_view_axes(list, lead, rest),
               .block_indexed = gi_view_axes(indexed, indexed->rank - rest, rest),
               .numbers = (int32_t)numbers, .first = batch, .index_step = index->stride[lead]};
    p.lead_indexed = p.lead_list;
    for (int i = 0; i < lead; i++) p.lead_indexed.stride[i] = i < batch ? indexed->stride[i] : 0;
    for (int i = 0; i < batch; i++)
        if (indexed->shape[i] != list->shape[i]) return gi_fail(err, GI_ERR_SHAPE, "indices: batch axis %d differs", i);
    return append_indexed(b, list, indexed, index, &p, is_scatter, reduction, err);
}

/* index and list of one shape; each number replaces the coordinate along `axis`. */
static int build_elements(gi_builder *b, const gi_view *list, const gi_view *indexed, const gi_view *index, int axis,
                          int is_scatter, int reduction, gi_error *err) {
    int status = check_sides(b, list, indexed, index, is_scatter, err);
    if (status < 0) return status;
    if (axis < 0 || axis >= indexed->rank || indexed->rank != index->rank)
        return gi_fail(err, GI_ERR_SHAPE, "indices: rank %d and axis %d do not fit rank %d", index->rank, axis,
                       indexed->rank);
    for (int i = 0; i < index->rank; i++)
        if (i != axis && index->shape[i] > indexed->shape[i])
            return gi_fail(err, GI_ERR_SHAPE, "indices: axis %d is longer than what they index", i);
    parts p = {.lead_list = *list, .lead_indexed = *list, .lead_index = *index, .numbers = 1, .first = axis,
               .index_step = 1};
    for (int i = 0; i < index->rank && i < list->rank; i++)
        p.lead_indexed.stride[i] = i == axis ? 0 : indexed->stride[i];
    p.block_list = gi_view_axes(list, 0, 0), p.block_indexed = gi_view_axes(indexed, 0, 0);
    return append_indexed(b, list, indexed, index, &p, is_scatter, reduction, err);
}

int gi_build_gather_nd(gi_builder *b, const gi_view *out, const gi_view *in, const gi_view *index, int batch,
                       gi_error *err) {
    return build_tuples(b, out, in, index, batch, 0, -1, err);
}

int gi_build_gather_elements(gi_builder *b, const gi_view *out, const gi_view *in, const gi_view *index, int axis,
                             gi_error *err) {
    return build_elements(b, out, in, index, axis, 0, -1, err);
}

static int check_reduction(gi_builder *b, const gi_view *out, int reduction, gi_error *err) {
    int status = gi_check_view(b, out, "scatter out", err);
    if (status < 0 || reduction == -1) return status;
    if ((reduction == GI_ADD || reduction == GI_MUL || reduction == GI_MIN || reduction == GI_MAX) &&
        gi_view_dtype(b, out) != GI_BOOL)
        return GI_OK;
    return gi_fail(err, GI_ERR_ARGUMENT, "scatter: reduction %d does not exist for this dtype", reduction);
}

int gi_build_scatter_nd(gi_builder *b, const gi_view *out, const gi_view *index, const gi_view *updates, int reduction,
                        gi_error *err) {
    int status = check_reduction(b, out, reduction, err);
    return status < 0 ? status : build_tuples(b, updates, out, index, 0, 1, reduction, err);
}

int gi_build_scatter_elements(gi_builder *b, const gi_view *out, const gi_view *index, const gi_view *updates, int axis,
                              int reduction, gi_error *err) {
    int status = check_reduction(b, out, reduction, err);
    return status < 0 ? status : build_elements(b, updates, out, index, axis, 1, reduction, err);
}
