/* Element-wise ops: unary, binary, cast. float32 goes to the kernel table, integers and bools to integer.c. */
#include "../builder.h"
#include "integer.h"

typedef struct map_op { gi_walk_op base; int32_t fn, dtype, out_dtype; float alpha, beta; } map_op;

/* A view of each operand is checked against the output's shape, and for elements shared with it. */
static int check_operands(gi_builder *b, int operands, const gi_view *const *views, const char *const *names,
                          gi_error *err) {
    int status = gi_check_views(b, operands, views, names, err);
    for (int i = 1; i < operands && status == GI_OK; i++)
        if ((status = gi_check_same_shape(views[0], views[i], names[i], err)) == GI_OK)
            status = gi_check_apart(views[0], views[i], 1, names[i], err);
    return status;
}

static int append_map(gi_builder *b, const char *name, gi_run_fn *run, int operands, const gi_view *const *views,
                      const map_op *settings, gi_error *err) {
    if (!gi_view_count(views[0])) return GI_OK;
    map_op *op = gi_build_walk(b, sizeof *op, name, run, operands, views, err);
    if (!op) return GI_ERR_MEMORY;
    op->fn = settings->fn;
    op->dtype = gi_view_dtype(b, views[1]);
    op->out_dtype = gi_view_dtype(b, views[0]);
    op->alpha = settings->alpha;
    op->beta = settings->beta;
    return GI_OK;
}

/* ---- unary ------------------------------------------------------------------------------------------------------- */

static int unary_run(const gi_run *run) {
    const map_op *op = run->op;
    float in[GI_STAGE], out[GI_STAGE];
    gi_unary_fn *fn = run->frame->kernels->unary[op->fn];
    const int64_t size = sizeof(float), *step = run->step;
    if (step[0] == size && step[1] == size) {
        fn((float *)run->at[0], (const float *)run->at[1], run->n, op->alpha, op->beta);
        return GI_OK;
    }
    for (int64_t i = 0; i < run->n; i += GI_STAGE) {
        int64_t n = run->n - i < GI_STAGE ? run->n - i : GI_STAGE;
        char *dst = run->at[0] + i * step[0];
        const float *src = gi_stage(run->at[1] + i * step[1], step[1], n, in);
        fn(step[0] == size ? (float *)dst : out, src, n, op->alpha, op->beta);
        if (step[0] != size) gi_move(dst, step[0], (const char *)out, size, n, (int32_t)size);
    }
    return GI_OK;
}

static int integer_unary_run(const gi_run *run) {
    const map_op *op = run->op;
    for (int64_t i = 0; i < run->n; i++) {
        int64_t x = gi_load_integer(run->at[1] + i * run->step[1], op->dtype);
        gi_store_integer(run->at[0] + i * run->step[0], op->dtype, gi_integer_unary(op->fn, x, op->alpha, op->beta));
    }
    return GI_OK;
}

static int has_unary(const gi_kernels *kernels, int fn, int dtype) {
    if (fn < 0 || fn >= GI_UNARY_COUNT) return 0;
    return dtype == GI_F32 ? kernels->unary[fn] != NULL : gi_has_integer_unary(fn, dtype);
}

int gi_build_unary(gi_builder *b, int fn, const gi_view *out, const gi_view *in, float alpha, float beta,
                   gi_error *err) {
    const gi_view *views[] = {out, in};
    int status = check_operands(b, 2, views, (const char *[]){"unary out", "unary in"}, err);
    if (status < 0) return status;
    int dtype = gi_view_dtype(b, out), is_float = dtype == GI_F32;
    if ((status = gi_check_dtype(b, in, dtype, "unary in", err)) < 0) return status;
    if (!has_unary(b->program->kernels, fn, dtype))
        return gi_fail(err, GI_ERR_ARGUMENT, "unary: function %d does not exist for this dtype", fn);
    if (!is_float && fn == GI_CLIP && (alpha != alpha || beta != beta))
        return gi_fail(err, GI_ERR_ARGUMENT, "unary: integers cannot be clipped to NaN");
    return append_map(b, "unary", is_float ? unary_run : integer_unary_run, 2, views,
                      &(map_op){.fn = fn, .alpha = alpha, .beta = beta}, err);
}

/* ---- binary ------------------------------------------------------------------------------------------------------ */

/* The next n floats of an operand as the kernels take them: unit 0 (one value for all) or 1 (a contiguous run). */
static const float *take_operand(const char *src, int64_t step, int64_t n, float *buffer, int *unit) {
    *unit = step != 0;
    return step ? gi_stage(src, step, n, buffer) : (const float *)src;
}

/* n elements from element i of a run on; `out` is where the kernel writes them. */
static void binary_chunk(const gi_run *run, int64_t i, int64_t n, void *out) {
    const map_op *op = run->op;
    float a[GI_STAGE], b[GI_STAGE];
    int a_unit, b_unit;
    const float *lhs = take_operand(run->at[1] + i * run->step[1], run->step[1], n, a, &a_unit);
    const float *rhs = take_operand(run->at[2] + i * run->step[2], run->step[2], n, b, &b_unit);
    const gi_kernels *kernels = run->frame->kernels;
    if (op->fn < GI_ARITHMETIC_COUNT) kernels->arithmetic[op->fn](out, lhs, a_unit, rhs, b_unit, n);
    else kernels->compare[op->fn](out, lhs, a_unit, rhs, b_unit, n);
}

static int binary_run(const gi_run *run) {
    const map_op *op = run->op;
    const int64_t unit = sizeof(float), *step = run->step;
    const int32_t size = op->base.operand[0].size;
    if (step[0] == size && (step[1] == unit || !step[1]) && (step[2] == unit || !step[2])) {
        binary_chunk(run, 0, run->n, run->at[0]);
        return GI_OK;
    }
    for (int64_t i = 0; i < run->n; i += GI_STAGE) {
        float staged[GI_STAGE];
        int64_t n = run->n - i < GI_STAGE ? run->n - i : GI_STAGE;
        char *dst = run->at[0] + i * step[0];
        binary_chunk(run, i, n, step[0] == size ? (void *)dst : staged);
        if (step[0] != size) gi_move(dst, step[0], (const char *)staged, size, n, size);
    }
    return GI_OK;
}

static int integer_binary_run(const gi_run *run) {
    const map_op *op = run->op;
    for (int64_t i = 0; i < run->n; i++) {
        int64_t a = gi_load_integer(run->at[1] + i * run->step[1], op->dtype);
        int64_t b = gi_load_integer(run->at[2] + i * run->step[2], op->dtype);
        gi_store_integer(run->at[0] + i * run->step[0], op->out_dtype, gi_integer_binary(op->fn, a, b));
    }
    return GI_OK;
}

static int has_binary(const gi_kernels *kernels, int fn, int dtype) {
    if (fn < 0 || fn >= GI_BINARY_COUNT) return 0;
    if (dtype != GI_F32) return gi_has_integer_binary(fn, dtype);
    return fn < GI_ARITHMETIC_COUNT ? kernels->arithmetic[fn] != NULL : kernels->compare[fn] != NULL;
}

int gi_build_binary(gi_builder *b, int fn, const gi_view *out, const gi_view *lhs, const gi_view *rhs, gi_error *err) {
    const gi_view *views[] = {out, lhs, rhs};
    int status = check_operands(b, 3, views, (const char *[]){"binary out", "binary lhs", "binary rhs"}, err);
    if (status < 0) return status;
    int dtype = gi_view_dtype(b, lhs);
    if (!has_binary(b->program->kernels, fn, dtype))
        return gi_fail(err, GI_ERR_ARGUMENT, "binary: function %d does not exist for this dtype", fn);
    int out_dtype = fn < GI_ARITHMETIC_COUNT ? dtype : GI_BOOL;
    if ((status = gi_check_dtype(b, rhs, dtype, "binary rhs", err)) < 0 ||
        (status = gi_check_dtype(b, out, out_dtype, "binary out", err)) < 0)
        return status;
    gi_run_fn *run = dtype == GI_F32 ? binary_run : integer_binary_run;
    return append_map(b, "binary", run, 3, views, &(map_op){.fn = fn}, err);
}

/* ---- cast -------------------------------------------------------------------------------------------------------- */

static int is_exact(int dtype) { return dtype == GI_BOOL || gi_is_integer(dtype); }

static int cast_run(const gi_run *run) {
    const map_op *op = run->op;
    for (int64_t i = 0; i < run->n; i++) {
        const char *src = run->at[1] + i * run->step[1];
        char *dst = run->at[0] + i * run->step[0];
        int64_t value = is_exact(op->dtype) ? gi_load_integer(src, op->dtype)
                                            : gi_to_integer(gi_load_float(src, op->dtype), op->out_dtype);
        if (op->out_dtype == GI_F32) *(float *)dst = (float)value;
        else gi_store_integer(dst, op->out_dtype, value);
    }
    return GI_OK;
}

/* To or from float16 and float64, where an integer of 64 bits may be rounded twice on its way to float16. */
static int cast_floats_run(const gi_run *run) {
    const map_op *op = run->op;
    for (int64_t i = 0; i < run->n; i++) {
        const char *src = run->at[1] + i * run->step[1];
        double value = is_exact(op->dtype) ? (double)gi_load_integer(src, op->dtype) : gi_load_float(src, op->dtype);
        gi_store_float(run->at[0] + i * run->step[0], op->out_dtype, value);
    }
    return GI_OK;
}

int gi_build_cast(gi_builder *b, const gi_view *out, const gi_view *in, gi_error *err) {
    const gi_view *views[] = {out, in};
    int status = check_operands(b, 2, views, (const char *[]){"cast out", "cast in"}, err);
    if (status < 0) return status;
    if (gi_view_dtype(b, out) == gi_view_dtype(b, in)) return gi_build_copy(b, out, in, err);
    int from = gi_view_dtype(b, in), to = gi_view_dtype(b, out);
    gi_run_fn *run = is_exact(to) || (to == GI_F32 && is_exact(from)) ? cast_run : cast_floats_run;
    return append_map(b, "cast", run, 2, views, &(map_op){0}, err);
}
