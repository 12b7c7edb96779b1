/* Run-time matrix products. Every element of the result is one FMA chain over k, ascending, that starts from 0: the
 * routines below differ in speed only. Packed panels pay when each is read several times and its lines are filled. */
#include "../../kernels/dense.h"
#include "../builder.h"
#include "strided.h"

enum { PACK_ROWS = 4, PACK_COLUMNS = 8 };

typedef struct matmul_op {
    gi_op op;
    gi_walk batch;                           /* operands: out, lhs, rhs (at a matrix' first element) */
    gi_operand out, lhs, rhs;
    gi_operand panels;                       /* scratch: rhs in panels, or [K][N] where its rows are not contiguous */
    gi_operand left;                         /* scratch [M][K] where panels meet an lhs with strided rows */
    gi_operand result;                       /* scratch [M][N] where out's rows are not contiguous */
    const int64_t *row;                      /* [K] floats to row k of rhs, where it is not in panels */
    int64_t M, N, K;
    int64_t out_stride[2], lhs_stride[2], rhs_stride[2];   /* [m, n], [m, k], [k, n], in floats */
    int32_t is_packed;
} matmul_op;

/* dst [rows][columns], contiguous, = src with the given strides in floats. */
static void gather_matrix(float *dst, const float *src, const int64_t stride[2], int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; i++)
        gi_move((char *)(dst + i * columns), sizeof(float), (const char *)(src + i * stride[0]),
                stride[1] * (int64_t)sizeof(float), columns, sizeof(float));
}

static void scatter_matrix(float *dst, const int64_t stride[2], const float *src, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; i++)
        gi_move((char *)(dst + i * stride[0]), stride[1] * (int64_t)sizeof(float), (const char *)(src + i * columns),
                sizeof(float), columns, sizeof(float));
}

static float *scratch_at(const gi_run *run, const gi_operand *scratch) {
    return scratch->tensor < 0 ? NULL : gi_at(run->frame, scratch, run->row);
}

static int multiply_packed(const matmul_op *op, const gi_run *run, float *out, const float *lhs, const float *rhs) {
    float *panels = scratch_at(run, &op->panels), *left = scratch_at(run, &op->left);
    float *result = scratch_at(run, &op->result);
    int status = gi_dense_pack(GI_WEIGHTS_F32, op->K, op->N, rhs, op->rhs_stride[0], op->rhs_stride[1], NULL, panels, run->err);
    if (status < 0) return status;
    if (left) gather_matrix(left, lhs, op->lhs_stride, op->M, op->K);
    gi_dense_run(run->frame->kernels, GI_WEIGHTS_F32, panels, op->M, op->K, op->N, left ? left : lhs, left ? op->K : op->lhs_stride[0],
                 result ? result : out, result ? op->N : op->out_stride[0]);
    if (result) scatter_matrix(out, op->out_stride, result, op->M, op->N);
    return GI_OK;
}

static void multiply_rows(const matmul_op *op, const gi_run *run, float *out, const float *lhs, const float *rhs) {
    float *rows = scratch_at(run, &op->panels), *result = scratch_at(run, &op->result);
    if (rows) gather_matrix(rows, rhs, op->rhs_stride, op->K, op->N);
    const gi_slide slide = {.K = op->K, .M = op->M, .n = op->N, .x = rows ? rows : rhs, .offset = op->row,
                            .w = lhs, .w_k = op->lhs_stride[1], .w_m = op->lhs_stride[0],
                            .out = result ? result : out, .out_stride = result ? op->N : op->out_stride[0]};
    run->frame->kernels->slide(&slide);
    if (result) scatter_matrix(out, op->out_stride, result, op->M, op->N);
}

static int matmul_run(const gi_run *run) {
    const matmul_op *op = run->op;
    for (int64_t i = 0; i < run->n; i++) {
        float *out = (float *)(run->at[0] + i * run->step[0]);
        const float *lhs = (const float *)(run->at[1] + i * run->step[1]);
        const float *rhs = (const float *)(run->at[2] + i * run->step[2]);
        int status = GI_OK;
        if (op->is_packed) status = multiply_packed(op, run, out, lhs, rhs);
        else multiply_rows(op, run, out, lhs, rhs);
        if (status < 0) return status;
    }
    return GI_OK;
}

static int run_matmul(const gi_op *self, const gi_frame *frame, gi_error *err) {
    const matmul_op *op = (const matmul_op *)self;
    return gi_walk_rows(&op->batch, frame, (gi_operand[]){op->out, op->lhs, op->rhs}, op, matmul_run, err);
}

/* ---- building ---------------------------------------------------------------------------------------------------- */

static int check_matmul(gi_builder *b, const gi_view *const views[3], gi_error *err) {
    static const char *const names[] = {"matmul out", "matmul lhs", "matmul rhs"};
    int status = gi_check_views(b, 3, views, names, err);
    if (status < 0) return status;
    int rank = views[0]->rank;
    for (int i = 0; i < 3 && status == GI_OK; i++) {
        if (views[i]->rank < 2 || views[i]->rank != rank)
            return gi_fail(err, GI_ERR_SHAPE, "%s: rank %d, expected %d, 2 or more", names[i], views[i]->rank, rank);
        if ((status = gi_check_dtype(b, views[i], GI_F32, names[i], err)) < 0) return status;
        status = gi_check_apart(views[0], views[i], i == 0, names[i], err);
    }
    if (status < 0) return status;
    const int64_t *out = views[0]->shape, *lhs = views[1]->shape, *rhs = views[2]->shape;
    for (int i = 0; i < rank - 2; i++)
        if (lhs[i] != out[i] || rhs[i] != out[i])
            return gi_fail(err, GI_ERR_SHAPE, "matmul: leading axis %d differs", i);
    const int64_t *m = lhs + rank - 2, *n = rhs + rank - 2;
    if (out[rank - 2] == m[0] && out[rank - 1] == n[1] && m[1] == n[0]) return GI_OK;
    return gi_fail(err, GI_ERR_SHAPE, "matmul: [%lld, %lld] times [%lld, %lld] does not give [%lld, %lld]",
                   (long long)m[0], (long long)m[1], (long long)n[0], (long long)n[1], (long long)out[rank - 2],
                   (long long)out[rank - 1]);
}

static void take_strides(int64_t stride[2], const gi_view *v) {
    for (int i = 0; i < 2; i++) stride[i] = v->shape[v->rank - 2 + i] > 1 ? v->stride[v->rank - 2 + i] : 0;
}

static void swap_sizes(int64_t *a, int64_t *b) {
    int64_t swap = *a;
    *a = *b;
    *b = swap;
}

/* (lhs rhs)^T = rhs^T lhs^T: the longer side of the result becomes its rows, which fill vectors. */
static void transpose_product(matmul_op *op) {
    gi_operand swap = op->lhs;
    op->lhs = op->rhs;
    op->rhs = swap;
    swap_sizes(&op->M, &op->N);
    swap_sizes(&op->out_stride[0], &op->out_stride[1]);
    swap_sizes(&op->lhs_stride[0], &op->rhs_stride[1]);
    swap_sizes(&op->lhs_stride[1], &op->rhs_stride[0]);
}

static const int64_t *list_rows(gi_builder *b, const matmul_op *op, int64_t stride) {
    int64_t *row = gi_arena_take(b->program->arena, (size_t)op->K * sizeof *row);
    for (int64_t k = 0; row && k < op->K; k++) row[k] = k * stride;
    return row;
}

/* Decides how the product runs and takes the scratch it needs. */
static int plan_product(gi_builder *b, matmul_op *op, gi_error *err) {
    op->is_packed = op->M >= PACK_ROWS && op->N >= PACK_COLUMNS && !gi_dense_is_striped(op->K, op->N);
    int needs_panels = op->is_packed || (op->N > 1 && op->rhs_stride[1] != 1);
    int needs_left = op->is_packed && op->K > 1 && op->lhs_stride[1] != 1;
    int needs_result = op->N > 1 && op->out_stride[1] != 1;
    int64_t panels = op->is_packed ? gi_dense_packed_size(GI_WEIGHTS_F32, op->K, op->N, err) : gi_size_mul(op->K, op->N);
    int status = gi_take_scratch(b, &op->panels, needs_panels, panels, err);
    if (status == GI_OK) status = gi_take_scratch(b, &op->left, needs_left, gi_size_mul(op->M, op->K), err);
    if (status < 0) return status;
    if (!op->is_packed && !(op->row = list_rows(b, op, needs_panels ? op->N : op->rhs_stride[0]))) {
        b->program->n_ops--;
        return gi_fail(err, GI_ERR_MEMORY, "out of memory for a matmul");
    }
    return gi_take_scratch(b, &op->result, needs_result, gi_size_mul(op->M, op->N), err);
}

int gi_build_matmul(gi_builder *b, const gi_view *out, const gi_view *lhs, const gi_view *rhs, gi_error *err) {
    const gi_view *views[] = {out, lhs, rhs};
    int status = check_matmul(b, views, err);
    if (status < 0 || !gi_view_count(out)) return status;
    int outer = out->rank - 2;
    if (!lhs->shape[outer + 1]) return gi_build_fill(b, out, 0.0, err);
    int64_t macs = gi_size_mul(gi_view_count(out), lhs->shape[outer + 1]);
    if (macs < 0) return gi_fail(err, GI_ERR_LIMIT, "matmul: too many multiply-adds to count");
    matmul_op *op = gi_builder_op(b, sizeof *op, run_matmul, "matmul", err);
    if (!op) return GI_ERR_MEMORY;
    op->out = gi_builder_use(b, out);
    op->lhs = gi_builder_use(b, lhs);
    op->rhs = gi_builder_use(b, rhs);
    op->M = out->shape[outer], op->N = out->shape[outer + 1], op->K = lhs->shape[outer + 1];
    take_strides(op->out_stride, out);
    take_strides(op->lhs_stride, lhs);
    take_strides(op->rhs_stride, rhs);
    if (op->N < PACK_COLUMNS && op->M > op->N) {
        transpose_product(op);
        views[1] = rhs, views[2] = lhs;
    }
    gi_view axes[3];
    for (int i = 0; i < 3; i++) axes[i] = gi_view_axes(views[i], 0, outer);
    gi_walk_plan(&op->batch, 3, (const gi_view *[]){&axes[0], &axes[1], &axes[2]}, (int32_t[]){4, 4, 4});
    gi_builder_macs(b, macs);
    return plan_product(b, op, err);
}
