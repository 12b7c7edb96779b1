/* Ops along the last axis in which the order of elements counts: arg, top k, cumulative sums, reversal of prefixes. */
#include "../builder.h"
#include "integer.h"

typedef struct order_op {
    gi_op op;
    gi_walk lines;                           /* operands: up to three views at the first element of their lines */
    gi_operand operand[3], heap;             /* heap: scratch, int64 [n], for top k */
    int32_t dtype, least, last, is_sorted, is_exclusive, lens_dtype;
    int64_t n, k;                            /* elements of a line; results per line */
    int64_t step[3];                         /* bytes, along the lines */
    gi_walk element;                         /* reversal: operands out, in; what follows the two leading axes */
} order_op;

static int run_lines(const order_op *op, const gi_frame *frame, gi_run_fn *fn, gi_error *err) {
    return gi_walk_rows(&op->lines, frame, op->operand, op, fn, err);
}

/* ---- arg and top k ----------------------------------------------------------------------------------------------- */

/* Element a of a line comes before element b: larger (or smaller, if `least`) first, equal ones by position. */
static int comes_before(const order_op *op, const char *line, int64_t step, int64_t a, int64_t b) {
    if (op->dtype == GI_F32) {
        float x = *(const float *)(line + a * step), y = *(const float *)(line + b * step);
        if (x != y && (x == x || y == y)) {
            if (x != x || y != y) return x != x;             /* NaN before all numbers, as NumPy has it */
            return op->least ? x < y : x > y;
        }
    } else {
        int64_t x = gi_load_integer(line + a * step, op->dtype), y = gi_load_integer(line + b * step, op->dtype);
        if (x != y) return op->least ? x < y : x > y;
    }
    return op->last ? a > b : a < b;
}

static int arg_run(const gi_run *run) {
    const order_op *op = run->op;
    for (int64_t i = 0; i < run->n; i++) {
        const char *line = run->at[1] + i * run->step[1];
        int64_t best = 0;
        for (int64_t j = 1; j < op->n; j++)
            if (comes_before(op, line, op->step[1], j, best)) best = j;
        *(int64_t *)(run->at[0] + i * run->step[0]) = best;
    }
    return GI_OK;
}

static int run_arg(const gi_op *self, const gi_frame *frame, gi_error *err) {
    return run_lines((const order_op *)self, frame, arg_run, err);
}

/* Restores the heap below `at`: the last in order is on top of its first k entries. */
static void sift(const order_op *op, const char *line, int64_t *heap, int64_t k, int64_t at) {
    for (int64_t child; (child = 2 * at + 1) < k; at = child) {
        if (child + 1 < k && comes_before(op, line, op->step[2], heap[child], heap[child + 1])) child++;
        if (!comes_before(op, line, op->step[2], heap[at], heap[child])) return;
        int64_t swap = heap[at];
        heap[at] = heap[child], heap[child] = swap;
    }
}

static void select_top(const order_op *op, const char *line, int64_t *heap) {
    for (int64_t i = 0; i < op->k; i++) heap[i] = i;
    for (int64_t i = op->k / 2; i-- > 0;) sift(op, line, heap, op->k, i);
    for (int64_t i = op->k; i < op->n; i++) {
        if (!comes_before(op, line, op->step[2], i, heap[0])) continue;
        heap[0] = i;
        sift(op, line, heap, op->k, 0);
    }
    for (int64_t left = op->k; left-- > 1;) {
        int64_t swap = heap[0];
        heap[0] = heap[left], heap[left] = swap;
        sift(op, line, heap, left, 0);
    }
}

static int top_run(const gi_run *run) {
    const order_op *op = run->op;
    int64_t *heap = gi_at(run->frame, &op->heap, run->row);
    for (int64_t i = 0; i < run->n; i++) {
        const char *line = run->at[2] + i * run->step[2];
        select_top(op, line, heap);
        for (int64_t j = 0; j < op->k; j++) {
            gi_move(run->at[0] + i * run->step[0] + j * op->step[0], 0, line + heap[j] * op->step[2], 0, 1,
                    op->operand[0].size);
            *(int64_t *)(run->at[1] + i * run->step[1] + j * op->step[1]) = heap[j];
        }
    }
    return GI_OK;
}

static int run_top(const gi_op *self, const gi_frame *frame, gi_error *err) {
    return run_lines((const order_op *)self, frame, top_run, err);
}

/* ---- cumulative sum ---------------------------------------------------------------------------------------------- */

static void sum_floats(const order_op *op, char *dst, const char *src) {
    float sum = 0;
    for (int64_t j = 0; j < op->n; j++) {
        float x = *(const float *)(src + j * op->step[1]);
        if (!op->is_exclusive) sum += x;
        *(float *)(dst + j * op->step[0]) = sum;
        if (op->is_exclusive) sum += x;
    }
}

static void sum_integers(const order_op *op, char *dst, const char *src) {
    uint64_t sum = 0;
    for (int64_t j = 0; j < op->n; j++) {
        uint64_t x = (uint64_t)gi_load_integer(src + j * op->step[1], op->dtype);
        if (!op->is_exclusive) sum += x;
        gi_store_integer(dst + j * op->step[0], op->dtype, (int64_t)sum);
        if (op->is_exclusive) sum += x;
    }
}

static int sum_run(const gi_run *run) {
    const order_op *op = run->op;
    for (int64_t i = 0; i < run->n; i++) {
        char *dst = run->at[0] + i * run->step[0], *src = run->at[1] + i * run->step[1];
        if (op->dtype == GI_F32) sum_floats(op, dst, src);
        else sum_integers(op, dst, src);
    }
    return GI_OK;
}

static int run_sum(const gi_op *self, const gi_frame *frame, gi_error *err) {
    return run_lines((const order_op *)self, frame, sum_run, err);
}

/* ---- reversal ---------------------------------------------------------------------------------------------------- */

static int check_length(const gi_run *run) {
    const order_op *op = run->op;
    for (int64_t i = 0; i < run->n; i++) {
        int64_t length = gi_load_integer(run->at[2] + i * run->step[2], op->lens_dtype);
        if (length < 0 || length > op->n)
            return gi_fail(run->err, GI_ERR_DATA, "reverse: a length of %lld, expected 0 to %lld", (long long)length,
                           (long long)op->n);
    }
    return GI_OK;
}

static int reverse_run(const gi_run *run) {
    const order_op *op = run->op;
    gi_run element = {.op = &op->operand[0].size};
    for (int64_t i = 0; i < run->n; i++) {
        int64_t length = gi_load_checked(run->at[2] + i * run->step[2], op->lens_dtype, 0, op->n);
        for (int64_t t = 0; t < op->n; t++) {
            element.at[0] = run->at[0] + i * run->step[0] + t * op->step[0];
            element.at[1] = run->at[1] + i * run->step[1] + (t < length ? length - 1 - t : t) * op->step[1];
            gi_walk_from(&op->element, &element, gi_move_run);
        }
    }
    return GI_OK;
}

static int run_reverse(const gi_op *self, const gi_frame *frame, gi_error *err) {
    const order_op *op = (const order_op *)self;
    int status = run_lines(op, frame, check_length, err);
    return status < 0 ? status : run_lines(op, frame, reverse_run, err);
}

/* ---- building ---------------------------------------------------------------------------------------------------- */

/* views[i] is used as operand i; its line runs along its last axis. lead [views]: where lines start. */
static order_op *append(gi_builder *b, gi_op_run *run, const char *name, int n, const gi_view *const *views,
                        const gi_view *lead, gi_error *err) {
    order_op *op = gi_builder_op(b, sizeof *op, run, name, err);
    if (!op) return NULL;
    int32_t sizes[3];
    const gi_view *starts[3];
    for (int i = 0; i < n; i++) {
        op->operand[i] = gi_builder_use(b, views[i]);
        sizes[i] = op->operand[i].size;
        starts[i] = &lead[i];
        if (views[i]->rank) op->step[i] = views[i]->stride[views[i]->rank - 1] * sizes[i];
    }
    gi_walk_plan(&op->lines, n, starts, sizes);
    return op;
}

static int check_line(gi_builder *b, const gi_view *out, const gi_view *in, const char *what, gi_error *err) {
    int status = gi_check_views(b, 2, (const gi_view *[]){out, in}, (const char *[]){what, what}, err);
    if (status == GI_OK && in->rank < 1) status = gi_fail(err, GI_ERR_SHAPE, "%s: the input has no axis", what);
    return status < 0 ? status : gi_check_apart(out, in, 0, what, err);
}

int gi_build_arg(gi_builder *b, const gi_view *out, const gi_view *in, int least, int last, gi_error *err) {
    int status = check_line(b, out, in, "arg", err);
    if (status == GI_OK) status = gi_check_computes(b, in, "arg in", err);
    if (status < 0 || (status = gi_check_dtype(b, out, GI_I64, "arg out", err)) < 0) return status;
    const gi_view lead[] = {*out, gi_view_axes(in, 0, in->rank - 1)};
    if ((status = gi_check_same_shape(out, &lead[1], "arg", err)) < 0 || !gi_view_count(out)) return status;
    if (!in->shape[in->rank - 1]) return gi_fail(err, GI_ERR_SHAPE, "arg: no elements have no largest one");
    order_op *op = append(b, run_arg, "arg", 2, (const gi_view *[]){out, in}, lead, err);
    if (!op) return GI_ERR_MEMORY;
    op->dtype = gi_view_dtype(b, in), op->least = least, op->last = last;
    op->n = in->shape[in->rank - 1];
    return GI_OK;
}

int gi_build_top(gi_builder *b, const gi_view *values, const gi_view *indices, const gi_view *in, int least,
                 gi_error *err) {
    int status = check_line(b, values, in, "top values", err);
    if (status == GI_OK) status = check_line(b, indices, in, "top indices", err);
    if (status == GI_OK) status = gi_check_dtype(b, values, gi_view_dtype(b, in), "top values", err);
    if (status == GI_OK) status = gi_check_dtype(b, indices, GI_I64, "top indices", err);
    if (status == GI_OK) status = gi_check_computes(b, in, "top in", err);
    if (status == GI_OK) status = gi_check_same_shape(values, indices, "top", err);
    if (status == GI_OK) status = gi_check_apart(values, indices, 0, "top", err);
    if (status < 0) return status;
    const int last = in->rank - 1;
    if (values->rank != in->rank || values->shape[last] > in->shape[last])
        return gi_fail(err, GI_ERR_SHAPE, "top: the result has another rank or more elements than the input");
    const gi_view lead[] = {gi_view_axes(values, 0, last), gi_view_axes(indices, 0, last), gi_view_axes(in, 0, last)};
    if ((status = gi_check_same_shape(&lead[0], &lead[2], "top", err)) < 0 || !gi_view_count(values)) return status;
    order_op *op = append(b, run_top, "top", 3, (const gi_view *[]){values, indices, in}, lead, err);
    if (!op) return GI_ERR_MEMORY;
    op->dtype = gi_view_dtype(b, in), op->least = least;
    op->n = in->shape[last], op->k = values->shape[last];
    return gi_take_scratch(b, &op->heap, 1, gi_size_mul(op->k, 2), err);
}

int gi_build_cumsum(gi_builder *b, const gi_view *out, const gi_view *in, int exclusive, gi_error *err) {
    int status = check_line(b, out, in, "cumsum", err);
    if (status == GI_OK) status = gi_check_dtype(b, in, gi_view_dtype(b, out), "cumsum in", err);
    if (status == GI_OK) status = gi_check_same_shape(out, in, "cumsum", err);
    if (status == GI_OK) status = gi_check_computes(b, in, "cumsum in", err);
    if (status == GI_OK && gi_view_dtype(b, in) == GI_BOOL) status = gi_fail(err, GI_ERR_SHAPE, "cumsum: of bools");
    if (status < 0 || !gi_view_count(out)) return status;
    const int last = in->rank - 1;
    const gi_view lead[] = {gi_view_axes(out, 0, last), gi_view_axes(in, 0, last)};
    order_op *op = append(b, run_sum, "cumsum", 2, (const gi_view *[]){out, in}, lead, err);
    if (!op) return GI_ERR_MEMORY;
    op->dtype = gi_view_dtype(b, in), op->is_exclusive = exclusive, op->n = in->shape[last];
    return GI_OK;
}

int gi_build_reverse(gi_builder *b, const gi_view *out, const gi_view *in, const gi_view *lens, gi_error *err) {
    int status = check_line(b, out, in, "reverse", err);
    if (status == GI_OK) status = check_line(b, out, lens, "reverse lengths", err);
    if (status == GI_OK) status = gi_check_dtype(b, in, gi_view_dtype(b, out), "reverse in", err);
    if (status == GI_OK) status = gi_check_same_shape(out, in, "reverse", err);
    if (status < 0) return status;
    const int lens_dtype = gi_view_dtype(b, lens);
    if (in->rank < 2 || lens->rank != 1 || lens->shape[0] != in->shape[1] ||
        (lens_dtype != GI_I32 && lens_dtype != GI_I64))
        return gi_fail(err, GI_ERR_SHAPE, "reverse: expected one integer length for each element of axis 1");
    if (!gi_view_count(out)) return GI_OK;
    const gi_view lead[] = {gi_view_axes(out, 1, 1), gi_view_axes(in, 1, 1), *lens};
    order_op *op = append(b, run_reverse, "reverse", 3, (const gi_view *[]){out, in, lens}, lead, err);
    if (!op) return GI_ERR_MEMORY;
    const gi_view to = gi_view_axes(out, 2, out->rank - 2), from = gi_view_axes(in, 2, in->rank - 2);
    op->lens_dtype = lens_dtype, op->n = in->shape[0];
    op->step[0] = out->stride[0] * op->operand[0].size, op->step[1] = in->stride[0] * op->operand[1].size;
    const int32_t sizes[] = {op->operand[0].size, op->operand[1].size};
    gi_walk_plan(&op->element, 2, (const gi_view *[]){&to, &from}, sizes);
    return GI_OK;
}
