/* The strided engine: joint collapsing of axes when a program is built, an odometer when it runs. */
#include "strided.h"
#include "../builder.h"
#include <string.h>

typedef struct joint_axis { int64_t extent, stride[GI_WALK_OPERANDS]; } joint_axis;

/* ---- planning ---------------------------------------------------------------------------------------------------- */

/* Axes with more than one element, strides in bytes. Returns their number. */
static int collect_axes(joint_axis *axes, int operands, const gi_view *const *views, const int32_t *size) {
    int n = 0;
    for (int a = 0; a < views[0]->rank; a++) {
        if (views[0]->shape[a] == 1) continue;
        axes[n].extent = views[0]->shape[a];
        for (int i = 0; i < operands; i++) axes[n].stride[i] = views[i]->stride[a] * size[i];
        n++;
    }
    return n;
}

static int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

/* Outer first: by the first operand in which the strides' sizes differ. */
static int belongs_outside(const joint_axis *a, const joint_axis *b, int operands) {
    for (int i = 0; i < operands; i++) {
        int64_t outer = magnitude(a->stride[i]), inner = magnitude(b->stride[i]);
        if (outer != inner) return outer > inner;
    }
    return 0;
}

static void sort_axes(joint_axis *axes, int n, int operands) {
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && belongs_outside(&axes[j], &axes[j - 1], operands); j--) {
            joint_axis swap = axes[j];
            axes[j] = axes[j - 1];
            axes[j - 1] = swap;
        }
}

static int is_one_axis(const joint_axis *outer, const joint_axis *inner, int operands) {
    for (int i = 0; i < operands; i++)
        if (outer->stride[i] != inner->stride[i] * inner->extent) return 0;
    return 1;
}

static int collapse_axes(joint_axis *axes, int n, int operands) {
    int kept = 0;
    for (int i = 0; i < n; i++) {
        if (kept && is_one_axis(&axes[kept - 1], &axes[i], operands)) {
            axes[i].extent *= axes[kept - 1].extent;
            axes[kept - 1] = axes[i];
        } else {
            axes[kept++] = axes[i];
        }
    }
    return kept;
}

/* What an element costs with `a` innermost: its share of a run's fixed cost, and a gather per operand with a step. */
static double run_cost(const joint_axis *a, int operands, const int32_t *size) {
    double cost = 8.0 / (double)a->extent;
    for (int i = 0; i < operands; i++) cost += a->stride[i] != size[i] && (i == 0 || a->stride[i] != 0);
    return cost;
}

static int best_run(const joint_axis *axes, int n, int operands, const int32_t *size) {
    int best = n - 1;
    for (int i = n - 2; i >= 0; i--)
        if (run_cost(&axes[i], operands, size) < run_cost(&axes[best], operands, size)) best = i;
    return best;
}

void gi_walk_plan(gi_walk *w, int operands, const gi_view *const *views, const int32_t *size) {
    joint_axis axes[GI_MAX_RANK] = {0};
    int n = collect_axes(axes, operands, views, size);
    sort_axes(axes, n, operands);
    n = collapse_axes(axes, n, operands);
    *w = (gi_walk){.operands = operands, .run = 1};
    for (int i = 0; i < operands; i++) w->step[i] = size[i];
    if (n == 0) return;
    int run = best_run(axes, n, operands, size);
    w->run = axes[run].extent;
    memcpy(w->step, axes[run].stride, sizeof w->step);
    for (int i = 0; i < n; i++) {
        if (i == run) continue;
        w->extent[w->outer] = axes[i].extent;
        memcpy(w->stride[w->outer++], axes[i].stride, sizeof axes[i].stride);
    }
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* All operands, because a fixed count needs no loop; those that are not there have stride 0. */
static void advance(gi_run *run, const int64_t *stride, int64_t count) {
    for (int i = 0; i < GI_WALK_OPERANDS; i++)
        run->at[i] = (char *)((uintptr_t)run->at[i] + (uintptr_t)(count * stride[i]));
}

int gi_walk_from(const gi_walk *w, gi_run *run, gi_run_fn *fn) {
    int64_t index[GI_MAX_RANK] = {0};
    const int last = w->outer - 1;
    run->n = w->run;
    run->step = w->step;
    if (last < 0) return fn(run);
    for (;;) {
        for (int64_t i = w->extent[last]; i > 0; i--) {
            int status = fn(run);
            if (status < 0) return status;
            advance(run, w->stride[last], 1);
        }
        advance(run, w->stride[last], -w->extent[last]);
        int axis = last - 1;
        for (; axis >= 0 && ++index[axis] == w->extent[axis]; axis--) {
            advance(run, w->stride[axis], 1 - w->extent[axis]);
            index[axis] = 0;
        }
        if (axis < 0) return GI_OK;
        advance(run, w->stride[axis], 1);
    }
}

int gi_walk_rows(const gi_walk *w, const gi_frame *frame, const gi_operand *operands, const void *op, gi_run_fn *fn,
                 gi_error *err) {
    gi_run run = {.frame = frame, .op = op, .err = err};
    for (run.row = 0; run.row < frame->rows; run.row++) {
        for (int i = 0; i < w->operands; i++) run.at[i] = gi_at(frame, &operands[i], run.row);
        int status = gi_walk_from(w, &run, fn);
        if (status < 0) return status;
    }
    return GI_OK;
}

static int run_walk_op(const gi_op *op, const gi_frame *frame, gi_error *err) {
    const gi_walk_op *self = (const gi_walk_op *)op;
    return gi_walk_rows(&self->walk, frame, self->operand, self, self->run, err);
}

/* The rows of every operand follow each other as the elements of a run do: all rows are one run. */
static int is_row_run(const gi_walk *w, const gi_operand *operands) {
    for (int i = 0; i < w->operands; i++)
        if (operands[i].row_bytes != w->run * w->step[i]) return 0;
    return w->outer == 0;
}

static int run_walk_op_once(const gi_op *op, const gi_frame *frame, gi_error *err) {
    const gi_walk_op *self = (const gi_walk_op *)op;
    const gi_walk *w = &self->walk;
    gi_run run = {.frame = frame, .op = self, .err = err, .step = w->step, .n = w->run * frame->rows};
    for (int i = 0; i < w->operands; i++) run.at[i] = gi_at(frame, &self->operand[i], 0);
    return self->run(&run);
}

void *gi_build_walk(gi_builder *b, size_t size, const char *name, gi_run_fn *run, int operands,
                    const gi_view *const *views, gi_error *err) {
    gi_walk_op *op = gi_builder_op(b, size, run_walk_op, name, err);
    int32_t sizes[GI_WALK_OPERANDS];
    if (!op) return NULL;
    for (int i = 0; i < operands; i++) {
        op->operand[i] = gi_builder_use(b, views[i]);
        sizes[i] = op->operand[i].size;
    }
    gi_walk_plan(&op->walk, operands, views, sizes);
    if (is_row_run(&op->walk, op->operand)) op->op.run = run_walk_op_once;
    op->run = run;
    return op;
}

int gi_take_scratch(gi_builder *b, gi_operand *scratch, int needed, int64_t elements, gi_error *err) {
    *scratch = (gi_operand){.tensor = -1};
    if (!needed) return GI_OK;
    *scratch = gi_builder_scratch(b, elements, err);
    if (scratch->tensor >= 0) return GI_OK;
    b->program->n_ops--;
    return GI_ERR_MEMORY;
}

/* ---- moving elements --------------------------------------------------------------------------------------------- */

static void move_1(char *dst, int64_t dst_step, const char *src, int64_t src_step, int64_t n) {
    for (int64_t i = 0; i < n; i++) dst[i * dst_step] = src[i * src_step];
}

static void move_2(char *dst, int64_t dst_step, const char *src, int64_t src_step, int64_t n) {
    for (int64_t i = 0; i < n; i++) memcpy(dst + i * dst_step, src + i * src_step, 2);
}

/* With literal steps, at the calls below, the compiler makes vector loads and shuffles of it. */
static inline __attribute__((always_inline)) void move_4(char *dst, int64_t dst_step, const char *src, int64_t src_step,
                                                         int64_t n) {
    for (int64_t i = 0; i < n; i++) memcpy(dst + i * dst_step, src + i * src_step, 4);
}

static void move_8(char *dst, int64_t dst_step, const char *src, int64_t src_step, int64_t n) {
    for (int64_t i = 0; i < n; i++) memcpy(dst + i * dst_step, src + i * src_step, 8);
}

/* Common strides: pairs of interleaved elements (complex numbers), and from the last element to the first. */
static void move_words(char *dst, int64_t dst_step, const char *src, int64_t src_step, int64_t n) {
    if (dst_step == 4 && src_step == 8) move_4(dst, 4, src, 8, n);
    else if (dst_step == 8 && src_step == 4) move_4(dst, 8, src, 4, n);
    else if (dst_step == 4 && src_step == -4) move_4(dst, 4, src, -4, n);
    else if (dst_step == -4 && src_step == 4) move_4(dst, -4, src, 4, n);
    else move_4(dst, dst_step, src, src_step, n);
}

void gi_move(char *dst, int64_t dst_step, const char *src, int64_t src_step, int64_t n, int32_t size) {
    if (dst_step == size && src_step == size) memmove(dst, src, (size_t)(n * size));
    else if (size == 4) move_words(dst, dst_step, src, src_step, n);
    else if (size == 1) move_1(dst, dst_step, src, src_step, n);
    else if (size == 2) move_2(dst, dst_step, src, src_step, n);
    else move_8(dst, dst_step, src, src_step, n);
}

int gi_move_run(const gi_run *run) {
    gi_move(run->at[0], run->step[0], run->at[1], run->step[1], run->n, *(const int32_t *)run->op);
    return GI_OK;
}
