/* Reductions over trailing axes. The order of a float sum is the kernel's: elements striped over lanes by their linear
 * index in the reduced axes. Axes that are not one contiguous run are staged as one, unless results lie side by side; strides
 * change no bit. */
#include "integer.h"
#include <math.h>

enum { LEAST_COLUMNS = 3 /* of fewer, copying each together is as fast */ };

typedef struct reduce_op {
    gi_op op;
    gi_walk kept;                    /* operands: out, in (at the first reduced element) */
    gi_walk gathered;                /* operands: staged line, in; over the reduced axes */
    gi_operand out, in, line;
    int32_t fn, dtype, is_staged;
    int32_t is_beside;               /* neighbouring results have neighbouring elements: columns, taken together */
    int64_t n;                       /* reduced elements per result */
} reduce_op;

/* The kernel's reduction, and the result of what it finds. */
static int kernel_fn(const reduce_op *op) { return op->fn == GI_REDUCE_MEAN ? GI_REDUCE_SUM : op->fn; }

static float result_of(const reduce_op *op, float found) {
    return op->fn == GI_REDUCE_MEAN ? found / (float)op->n : op->fn == GI_REDUCE_L2 ? sqrtf(found) : found;
}

static float reduce_floats(const reduce_op *op, const gi_kernels *kernels, const float *line) {
    return result_of(op, kernels->reduce[kernel_fn(op)](line, op->n));
}

static void reduce_columns(const reduce_op *op, const gi_kernels *kernels, float *dst, const float *src, int64_t columns) {
    kernels->reduce_columns[kernel_fn(op)](dst, src, op->gathered.step[1] / (int64_t)sizeof *src, op->n, columns);
    if (op->fn != GI_REDUCE_MEAN && op->fn != GI_REDUCE_L2) return;
    for (int64_t j = 0; j < columns; j++) dst[j] = result_of(op, dst[j]);
}

static int64_t reduce_integers(const reduce_op *op, const char *line) {
    static const int combine[] = {[GI_REDUCE_SUM] = GI_ADD, [GI_REDUCE_MAX] = GI_MAX, [GI_REDUCE_MIN] = GI_MIN,
                                  [GI_REDUCE_PROD] = GI_MUL};
    int64_t value = gi_load_integer(line, op->dtype);
    for (int64_t i = 1; i < op->n; i++)
        value = gi_integer_binary(combine[op->fn], value, gi_load_integer(line + i * op->in.size, op->dtype));
    return value;
}

static int reduce_run(const gi_run *run) {
    const reduce_op *op = run->op;
    if (op->is_beside) {
        reduce_columns(op, run->frame->kernels, (float *)run->at[0], (const float *)run->at[1], run->n);
        return GI_OK;
    }
    for (int64_t i = 0; i < run->n; i++) {
        char *dst = run->at[0] + i * run->step[0], *line = run->at[1] + i * run->step[1];
        if (op->is_staged) {
            gi_run gathered = {.op = &op->in.size, .at = {gi_at(run->frame, &op->line, run->row), line}};
            gi_walk_from(&op->gathered, &gathered, gi_move_run);
            line = gi_at(run->frame, &op->line, run->row);
        }
        if (op->dtype == GI_F32) *(float *)dst = reduce_floats(op, run->frame->kernels, (const float *)line);
        else gi_store_integer(dst, op->dtype, reduce_integers(op, line));
    }
    return GI_OK;
}

static int run_reduce(const gi_op *self, const gi_frame *frame, gi_error *err) {
    const reduce_op *op = (const reduce_op *)self;
    return gi_walk_rows(&op->kept, frame, (gi_operand[]){op->out, op->in}, op, reduce_run, err);
}

static int check_reduce(gi_builder *b, int fn, const gi_view *out, const gi_view *in, gi_error *err) {
    int status = gi_check_views(b, 2, (const gi_view *[]){out, in}, (const char *[]){"reduce out", "reduce in"}, err);
    if (status < 0 || (status = gi_check_dtype(b, in, gi_view_dtype(b, out), "reduce in", err)) < 0) return status;
    if (out->rank > in->rank)
        return gi_fail(err, GI_ERR_SHAPE, "reduce: out has rank %d, in only %d", out->rank, in->rank);
    gi_view kept = gi_view_axes(in, 0, out->rank);
    if ((status = gi_check_same_shape(out, &kept, "reduce", err)) < 0) return status;
    int dtype = gi_view_dtype(b, in), is_order = fn == GI_REDUCE_MAX || fn == GI_REDUCE_MIN;
    int is_known = fn >= 0 && fn < GI_REDUCTION_COUNT;
    int is_sum = fn == GI_REDUCE_SUM || fn == GI_REDUCE_PROD;
    if (dtype != GI_F32) is_known = (is_order && dtype == GI_BOOL) || ((is_order || is_sum) && gi_is_integer(dtype));
    if (!is_known) return gi_fail(err, GI_ERR_ARGUMENT, "reduce: function %d does not exist for this dtype", fn);
    return gi_check_apart(out, in, 0, "reduce in", err);
}

/* What a reduction of no elements gives. */
static int build_empty(gi_builder *b, int fn, const gi_view *out, gi_error *err) {
    if (fn == GI_REDUCE_MAX || fn == GI_REDUCE_MIN)
        return gi_fail(err, GI_ERR_SHAPE, "reduce: no elements have no maximum and no minimum");
    return gi_build_fill(b, out, fn == GI_REDUCE_PROD ? 1.0 : fn == GI_REDUCE_MEAN ? (double)NAN : 0.0, err);
}

/* Plans how the reduced axes become one contiguous line of op->n elements. */
static int plan_line(gi_builder *b, reduce_op *op, const gi_view *reduced, gi_error *err) {
    gi_view line = gi_view_packed(reduced->rank, reduced->shape);
    gi_walk_plan(&op->gathered, 2, (const gi_view *[]){&line, reduced}, (int32_t[]){op->in.size, op->in.size});
    const int is_line = op->gathered.outer == 0, is_contiguous = is_line && op->gathered.step[1] == op->in.size;
    const int in_step = op->kept.step[0] == op->out.size && op->kept.step[1] == op->in.size;
    op->is_beside = op->dtype == GI_F32 && is_line && !is_contiguous && in_step && op->kept.run >= LEAST_COLUMNS;
    op->is_staged = !is_contiguous && !op->is_beside;
    return gi_take_scratch(b, &op->line, op->is_staged, gi_size_mul(op->n, (op->in.size + 3) / 4), err);
}

int gi_build_reduce(gi_builder *b, int fn, const gi_view *out, const gi_view *in, gi_error *err) {
    int status = check_reduce(b, fn, out, in, err);
    if (status < 0 || !gi_view_count(out)) return status;
    gi_view reduced = gi_view_axes(in, out->rank, in->rank - out->rank), kept = gi_view_axes(in, 0, out->rank);
    if (!gi_view_count(&reduced)) return build_empty(b, fn, out, err);
    reduce_op *op = gi_builder_op(b, sizeof *op, run_reduce, "reduce", err);
    if (!op) return GI_ERR_MEMORY;
    op->out = gi_builder_use(b, out);
    op->in = gi_builder_use(b, in);
    op->fn = fn;
    op->dtype = gi_view_dtype(b, in);
    op->n = gi_view_count(&reduced);
    gi_walk_plan(&op->kept, 2, (const gi_view *[]){out, &kept}, (int32_t[]){op->out.size, op->in.size});
    return plan_line(b, op, &reduced, err);
}
