/* Ops that map each line of the last axis as a whole: softmax and layer_norm. */
#include "strided.h"

typedef struct line_op {
    gi_op op;
    gi_walk lines;                           /* operands: out, in (at a line's first element) */
    gi_operand out, in, scale, bias;
    gi_operand out_line, in_line;            /* scratch [n] for lines that are not contiguous, else absent */
    gi_operand scale_line, bias_line;
    int64_t n, out_step, in_step;            /* of the last axis; steps in bytes */
    int64_t scale_step, bias_step;
    int32_t logarithm;
    float epsilon;
} line_op;

typedef void map_line(const line_op *op, const gi_run *run, float *dst, const float *src);

/* A line as the kernels want it: where it is, or staged in its scratch. */
static const float *stage_line(const line_op *op, const gi_run *run, const char *src, int64_t step,
                               const gi_operand *scratch) {
    if (scratch->tensor < 0) return (const float *)src;
    char *line = gi_at(run->frame, scratch, run->row);
    gi_move(line, sizeof(float), src, step, op->n, sizeof(float));
    return (const float *)line;
}

static void each_line(const gi_run *run, map_line *map) {
    const line_op *op = run->op;
    for (int64_t i = 0; i < run->n; i++) {
        char *dst = run->at[0] + i * run->step[0];
        const float *src = stage_line(op, run, run->at[1] + i * run->step[1], op->in_step, &op->in_line);
        float *line = op->out_line.tensor < 0 ? (float *)dst : gi_at(run->frame, &op->out_line, run->row);
        map(op, run, line, src);
        if (op->out_line.tensor >= 0)
            gi_move(dst, op->out_step, (const char *)line, sizeof(float), op->n, sizeof(float));
    }
}

/* The step of the last axis in bytes, and a scratch line if it is not that of a contiguous run. */
static int plan_line(gi_builder *b, const gi_view *v, int64_t n, int64_t *step, gi_operand *scratch, gi_error *err) {
    int64_t stride = n > 1 ? v->stride[v->rank - 1] : 1;
    *step = stride * (int64_t)sizeof(float);
    return gi_take_scratch(b, scratch, stride != 1, n, err);
}

static int check_lines(gi_builder *b, const gi_view *out, const gi_view *in, const char *const *names, gi_error *err) {
    int status = gi_check_views(b, 2, (const gi_view *[]){out, in}, names, err);
    if (status < 0 || (status = gi_check_dtype(b, out, GI_F32, names[0], err)) < 0 ||
        (status = gi_check_dtype(b, in, GI_F32, names[1], err)) < 0 ||
        (status = gi_check_same_shape(out, in, names[1], err)) < 0)
        return status;
    if (in->rank < 1) return gi_fail(err, GI_ERR_SHAPE, "%s: needs at least one axis", names[1]);
    return gi_check_apart(out, in, 0, names[1], err);
}

static line_op *append_lines(gi_builder *b, gi_op_run *run, const char *name, const gi_view *out, const gi_view *in,
                             gi_error *err) {
    line_op *op = gi_builder_op(b, sizeof *op, run, name, err);
    if (!op) return NULL;
    op->out = gi_builder_use(b, out);
    op->in = gi_builder_use(b, in);
    op->n = in->shape[in->rank - 1];
    gi_view to = gi_view_axes(out, 0, out->rank - 1), from = gi_view_axes(in, 0, in->rank - 1);
    gi_walk_plan(&op->lines, 2, (const gi_view *[]){&to, &from}, (int32_t[]){op->out.size, op->in.size});
    if (plan_line(b, out, op->n, &op->out_step, &op->out_line, err) < 0 ||
        plan_line(b, in, op->n, &op->in_step, &op->in_line, err) < 0)
        return NULL;
    return op;
}

/* ---- softmax ----------------------------------------------------------------------------------------------------- */

static void softmax_line(const line_op *op, const gi_run *run, float *dst, const float *src) {
    run->frame->kernels->softmax(dst, src, op->n, op->logarithm);
}

static int softmax_run(const gi_run *run) {
    each_line(run, softmax_line);
    return GI_OK;
}

static int run_softmax(const gi_op *self, const gi_frame *frame, gi_error *err) {
    const line_op *op = (const line_op *)self;
    return gi_walk_rows(&op->lines, frame, (gi_operand[]){op->out, op->in}, op, softmax_run, err);
}

int gi_build_softmax(gi_builder *b, int logarithm, const gi_view *out, const gi_view *in, gi_error *err) {
    int status = check_lines(b, out, in, (const char *[]){"softmax out", "softmax in"}, err);
    if (status < 0 || !gi_view_count(out)) return status;
    line_op *op = append_lines(b, run_softmax, "softmax", out, in, err);
    if (!op) return GI_ERR_MEMORY;
    op->logarithm = logarithm != 0;
    return GI_OK;
}

/* ---- layer_norm -------------------------------------------------------------------------------------------------- */

/* Scale or bias as a contiguous run, or NULL if absent. */
static const float *parameter(const line_op *op, const gi_run *run, const gi_operand *v, int64_t step,
                              const gi_operand *line) {
    return v->tensor < 0 ? NULL : stage_line(op, run, gi_at(run->frame, v, run->row), step, line);
}

static void layer_norm_line(const line_op *op, const gi_run *run, float *dst, const float *src) {
    const float *scale = parameter(op, run, &op->scale, op->scale_step, &op->scale_line);
    const float *bias = parameter(op, run, &op->bias, op->bias_step, &op->bias_line);
    run->frame->kernels->layer_norm(dst, src, scale, bias, op->n, op->epsilon);
}

static int layer_norm_run(const gi_run *run) {
    each_line(run, layer_norm_line);
    return GI_OK;
}

static int run_layer_norm(const gi_op *self, const gi_frame *frame, gi_error *err) {
    const line_op *op = (const line_op *)self;
    return gi_walk_rows(&op->lines, frame, (gi_operand[]){op->out, op->in}, op, layer_norm_run, err);
}

static int is_absent(const gi_view *v) { return !v || v->tensor < 0; }

static int check_parameter(gi_builder *b, const gi_view *v, const gi_view *out, const char *what, gi_error *err) {
    if (is_absent(v)) return GI_OK;
    int status = gi_check_view(b, v, what, err);
    if (status < 0 || (status = gi_check_dtype(b, v, GI_F32, what, err)) < 0) return status;
    gi_view wanted = gi_view_axes(out, out->rank - 1, 1);
    if ((status = gi_check_same_shape(v, &wanted, what, err)) < 0) return status;
    return gi_check_apart(out, v, 0, what, err);
}

static int plan_parameter(gi_builder *b, const gi_view *v, int64_t n, gi_operand *use, int64_t *step, gi_operand *line,
                          gi_error *err) {
    *use = *line = (gi_operand){.tensor = -1};
    if (is_absent(v)) return GI_OK;
    *use = gi_builder_use(b, v);
    return plan_line(b, v, n, step, line, err);
}

int gi_build_layer_norm(gi_builder *b, const gi_view *out, const gi_view *in, const gi_view *scale, const gi_view *bias,
                        float epsilon, gi_error *err) {
    int status = check_lines(b, out, in, (const char *[]){"layer_norm out", "layer_norm in"}, err);
    if (status < 0 || (status = check_parameter(b, scale, out, "layer_norm scale", err)) < 0 ||
        (status = check_parameter(b, bias, out, "layer_norm bias", err)) < 0 || !gi_view_count(out))
        return status;
    line_op *op = append_lines(b, run_layer_norm, "layer_norm", out, in, err);
    if (!op) return GI_ERR_MEMORY;
    op->epsilon = epsilon;
    status = plan_parameter(b, scale, op->n, &op->scale, &op->scale_step, &op->scale_line, err);
    return status < 0 ? status : plan_parameter(b, bias, op->n, &op->bias, &op->bias_step, &op->bias_line, err);
}
