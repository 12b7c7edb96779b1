/* gi_build_dense: rows of x times a packed weight. */
#include "../program.h"
#include "../../kernels/dense.h"

/* Leading axes become at most GI_MAX_RANK nested loops, the innermost of which is the product's rows. */
typedef struct dense_op {
    gi_op op;
    gi_operand out, in, packed;
    int64_t K, N;
    int32_t weights, loops;
    int64_t count[GI_MAX_RANK], in_stride[GI_MAX_RANK], out_stride[GI_MAX_RANK];
} dense_op;

static void run_loops(const dense_op *op, const gi_kernels *k, const float *packed, int level, const float *x, float *out) {
    if (level == op->loops - 1) {
        gi_dense_run(k, op->weights, packed, op->count[level], op->K, op->N, x, op->in_stride[level], out, op->out_stride[level]);
        return;
    }
    for (int64_t i = 0; i < op->count[level]; i++)
        run_loops(op, k, packed, level + 1, x + i * op->in_stride[level], out + i * op->out_stride[level]);
}

static int run_dense(const gi_op *base, const gi_frame *f, gi_error *err) {
    (void)err;
    const dense_op *op = (const dense_op *)base;
    if (op->loops == 1 && op->count[0] == 1 && op->packed.row_bytes == 0) {   /* one row each: the program rows are the product's */
        gi_dense_run(f->kernels, op->weights, gi_at(f, &op->packed, 0), f->rows, op->K, op->N, gi_at(f, &op->in, 0),
                     op->in.row_bytes / op->in.size, gi_at(f, &op->out, 0), op->out.row_bytes / op->out.size);
        return GI_OK;
    }
    for (int64_t row = 0; row < f->rows; row++)
        run_loops(op, f->kernels, gi_at(f, &op->packed, row), 0, gi_at(f, &op->in, row), gi_at(f, &op->out, row));
    return GI_OK;
}

/* Adds axes from the outermost in, merging an axis into the one before it when both operands step evenly. */
static void set_loops(dense_op *op, const gi_view *out, const gi_view *in) {
    for (int i = 0; i < in->rank - 1; i++) {
        int64_t n = in->shape[i], last = op->loops - 1;
        if (n == 1) continue;
        if (last >= 0 && op->in_stride[last] == n * in->stride[i] && op->out_stride[last] == n * out->stride[i]) {
            op->count[last] *= n;
        } else {
            last = op->loops++;
            op->count[last] = n;
        }
        op->in_stride[last] = in->stride[i], op->out_stride[last] = out->stride[i];
    }
    if (op->loops == 0) {
        op->loops = 1;
        op->count[0] = 1;
    }
}

static int check_operand(gi_builder *b, const gi_view *v, const char *what, gi_error *err) {
    if (gi_check_view(b, v, what, err) < 0 || gi_check_dtype(b, v, GI_F32, what, err) < 0) return GI_ERR_SHAPE;
    if (v->rank < 1) return gi_fail(err, GI_ERR_SHAPE, "%s: expected rank >= 1", what);
    if (v->shape[v->rank - 1] > 1 && v->stride[v->rank - 1] != 1)
        return gi_fail(err, GI_ERR_ARGUMENT, "%s: the last axis must be contiguous", what);
    return GI_OK;
}

int gi_build_dense(gi_builder *b, const gi_view *out, const gi_view *in, int weights, int packed, gi_error *err) {
    if (check_operand(b, out, "dense output", err) < 0 || check_operand(b, in, "dense input", err) < 0) return GI_ERR_SHAPE;
    if (gi_check_writable(b, out, "dense output", err) < 0) return GI_ERR_ARGUMENT;
    if (out->tensor == in->tensor) return gi_fail(err, GI_ERR_ARGUMENT, "dense cannot write over its input");
    const int last = in->rank - 1;
    const int64_t K = in->shape[last], N = out->rank ? out->shape[out->rank - 1] : 0;
    gi_view lead_in = *in, lead_out = *out;
    lead_in.rank = last, lead_out.rank = out->rank - 1;
    if (gi_check_same_shape(&lead_in, &lead_out, "dense", err) < 0) return GI_ERR_SHAPE;
    const int64_t size = gi_dense_packed_size(weights, K, N, err);
    if (size < 0) return (int)size;
    const gi_view weight = {.tensor = packed, .rank = 1, .shape = {size}, .stride = {1}};
    if (gi_check_view(b, &weight, "dense weight", err) < 0 || gi_check_dtype(b, &weight, GI_F32, "dense weight", err) < 0)
        return GI_ERR_SHAPE;
    if (!gi_view_count(out)) return GI_OK;
    dense_op *op = gi_builder_op(b, sizeof *op, run_dense, "dense", err);
    if (!op) return GI_ERR_MEMORY;
    op->K = K, op->N = N, op->weights = weights;
    op->out = gi_builder_use(b, out), op->in = gi_builder_use(b, in), op->packed = gi_builder_use(b, &weight);
    set_loops(op, out, in);
    gi_builder_macs(b, gi_size_mul(gi_view_count(&lead_in), gi_size_mul(K, N)));
    return GI_OK;
}
