/* Ops that move elements: copy, fill, where. They see sizes, not dtypes. */
#include "integer.h"
#include <string.h>

typedef struct move_op {
    gi_walk_op base;
    int32_t size;                            /* bytes per element */
    int64_t value[1];                        /* fill: holds one element of any dtype */
} move_op;

/* ---- copy -------------------------------------------------------------------------------------------------------- */

static int copy_run(const gi_run *run) {
    const move_op *op = run->op;
    gi_move(run->at[0], run->step[0], run->at[1], run->step[1], run->n, op->size);
    return GI_OK;
}

int gi_build_copy(gi_builder *b, const gi_view *out, const gi_view *in, gi_error *err) {
    const gi_view *views[] = {out, in};
    int status = gi_check_views(b, 2, views, (const char *[]){"copy out", "copy in"}, err);
    if (status < 0 || (status = gi_check_same_shape(out, in, "copy", err)) < 0 ||
        (status = gi_check_dtype(b, in, gi_view_dtype(b, out), "copy in", err)) < 0 ||
        (status = gi_check_apart(out, in, 1, "copy in", err)) < 0 || !gi_view_count(out))
        return status;
    move_op *op = gi_build_walk(b, sizeof *op, "copy", copy_run, 2, views, err);
    if (!op) return GI_ERR_MEMORY;
    op->size = op->base.operand[0].size;
    return GI_OK;
}

/* ---- fill -------------------------------------------------------------------------------------------------------- */

static int fill_run(const gi_run *run) {
    const move_op *op = run->op;
    gi_move(run->at[0], run->step[0], (const char *)op->value, 0, run->n, op->size);
    return GI_OK;
}

int gi_build_fill(gi_builder *b, const gi_view *out, double value, gi_error *err) {
    int status = gi_check_views(b, 1, &out, (const char *[]){"fill out"}, err);
    if (status < 0 || !gi_view_count(out)) return status;
    move_op *op = gi_build_walk(b, sizeof *op, "fill", fill_run, 1, &out, err);
    if (!op) return GI_ERR_MEMORY;
    op->size = op->base.operand[0].size;
    int dtype = gi_view_dtype(b, out);
    if (dtype == GI_BOOL || gi_is_integer(dtype))
        gi_store_integer((char *)op->value, dtype, gi_to_integer(value, dtype));
    else gi_store_float((char *)op->value, dtype, value);
    return GI_OK;
}

/* ---- where ------------------------------------------------------------------------------------------------------- */

static int where_run(const gi_run *run) {
    const int64_t *step = run->step;
    const int32_t size = ((const move_op *)run->op)->size;
    for (int64_t i = 0; i < run->n; i++) {
        const char *chosen = run->at[1][i * step[1]] ? run->at[2] + i * step[2] : run->at[3] + i * step[3];
        char *dst = run->at[0] + i * step[0];
        if (size == 4) memcpy(dst, chosen, 4);
        else if (size == 8) memcpy(dst, chosen, 8);
        else if (size == 2) memcpy(dst, chosen, 2);
        else *dst = *chosen;
    }
    return GI_OK;
}

int gi_build_where(gi_builder *b, const gi_view *out, const gi_view *cond, const gi_view *lhs, const gi_view *rhs,
                   gi_error *err) {
    static const char *const names[] = {"where out", "where cond", "where lhs", "where rhs"};
    const gi_view *views[] = {out, cond, lhs, rhs};
    int status = gi_check_views(b, 4, views, names, err);
    for (int i = 1; i < 4 && status == GI_OK; i++) {
        int dtype = i == 1 ? GI_BOOL : gi_view_dtype(b, out);
        if ((status = gi_check_same_shape(out, views[i], names[i], err)) == GI_OK &&
            (status = gi_check_dtype(b, views[i], dtype, names[i], err)) == GI_OK)
            status = gi_check_apart(out, views[i], 1, names[i], err);
    }
    if (status < 0 || !gi_view_count(out)) return status;
    move_op *op = gi_build_walk(b, sizeof *op, "where", where_run, 4, views, err);
    if (!op) return GI_ERR_MEMORY;
    op->size = op->base.operand[0].size;
    return GI_OK;
}
