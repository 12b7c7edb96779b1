#include "conv.h"
#include "../builder.h"
#include <string.h>

/* Lines shorter than this leave most lanes empty. */
enum { SHORT_LINE = 8 };

static int check_packed(gi_builder *b, int packed, int64_t floats, gi_error *err) {
    gi_view v = {.tensor = packed, .rank = 1, .shape = {floats}, .stride = {1}};
    int status = gi_check_view(b, &v, "conv weights", err);
    if (status < 0 || (status = gi_check_dtype(b, &v, GI_F32, "conv weights", err)) < 0) return status;
    if (b->program->tensors[packed].kind == GI_CONSTANT) return GI_OK;
    return gi_fail(err, GI_ERR_ARGUMENT, "conv weights: must be a constant tensor");
}

/* Fills in the sizes and checks that channels, groups and packed weights agree. */
static int check_sizes(gi_builder *b, gi_conv_op *op, const gi_view *out, const gi_view *in, int packed,
                       gi_error *err) {
    if (op->groups < 1 || in->shape[1] % op->groups || out->shape[1] % op->groups)
        return gi_fail(err, GI_ERR_SHAPE, "conv: %lld groups do not divide %lld input and %lld output channels",
                       (long long)op->groups, (long long)in->shape[1], (long long)out->shape[1]);
    op->C = in->shape[1] / op->groups;
    op->M = out->shape[1] / op->groups;
    op->K = gi_size_mul(op->C, gi_size_mul(op->window.kernel[0], op->window.kernel[1]));
    if (op->K < 0 || gi_size_mul(gi_view_count(out), op->K) < 0)
        return gi_fail(err, GI_ERR_LIMIT, "conv: a kernel of %lld x %lld x %lld is too large", (long long)op->C,
                       (long long)op->window.kernel[0], (long long)op->window.kernel[1]);
    op->packed_size = gi_dense_packed_size(GI_WEIGHTS_F32, op->K, op->M, err);
    if (op->packed_size < 0) return (int)op->packed_size;
    int64_t floats = gi_size_mul(op->packed_size, op->groups);
    if (floats < 0) return gi_fail(err, GI_ERR_LIMIT, "conv: packed weights do not fit in memory");
    return check_packed(b, packed, floats, err);
}

static void take_geometry(gi_conv_op *op, const gi_view *out, const gi_view *in) {
    op->N = out->shape[0];
    op->oh = out->shape[2], op->ow = out->shape[3];
    op->h = in->shape[2], op->w = in->shape[3];
    for (int i = 0; i < 4; i++) {
        op->in_stride[i] = in->shape[i] > 1 ? in->stride[i] : 0;
        op->out_stride[i] = out->shape[i] > 1 ? out->stride[i] : 0;
    }
}

/* Lines that follow each other and windows of one element: the image is one line. */
static void join_lines(gi_conv_op *op) {
    const gi_window *w = &op->window;
    for (int i = 0; i < 2; i++)
        if (w->kernel[i] != 1 || w->stride[i] != 1 || w->pad_begin[i] != 0) return;
    if (op->oh != op->h || op->ow != op->w || op->h == 1 || op->w == 1) return;
    if (op->in_stride[2] != op->w * op->in_stride[3] || op->out_stride[2] != op->w * op->out_stride[3]) return;
    op->ow = op->w = op->h * op->w;
    op->oh = op->h = 1;
    op->in_stride[2] = op->out_stride[2] = 0;
}

int gi_conv_is_inside(const gi_conv_op *op) {
    const gi_window *w = &op->window;
    const int64_t positions[2] = {op->oh, op->ow}, extent[2] = {op->h, op->w};
    for (int i = 0; i < 2; i++) {
        int64_t last = (positions[i] - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i];
        if (w->pad_begin[i] != 0 || last >= extent[i]) return 0;
    }
    return 1;
}

/* Estimated cycles of one group's line in either way: vector products, and elements moved one by one. */
static int is_direct(gi_conv_op *op) {
    const double K = (double)op->K, M = (double)op->M, ow = (double)op->ow;
    const int channels_last = op->C > 1 && op->in_stride[1] == 1, stored = op->M == 1 || op->out_stride[1] == 1;
    const double gathered = channels_last ? 0 : K, spread = stored ? 0 : M;
    const double staged = op->w > 1 && op->in_stride[3] != 1 ? K : 0, moved = op->out_stride[3] != 1 ? M : 0;
    const double gemm = ow * (K * (double)gi_blocks(op->M) + gathered + spread);
    const double direct = K * M * (double)gi_blocks(op->ow) + ow * (staged + moved);
    return op->ow >= SHORT_LINE && direct <= gemm && gi_conv_set_piece(op);
}

int gi_build_conv(gi_builder *b, const gi_view *out, const gi_view *in, int packed, int64_t groups,
                  const gi_window *window, gi_error *err) {
    int status = gi_check_window(b, out, in, window, (const char *[]){"conv out", "conv in"}, err);
    gi_conv_op settings = {.groups = groups};
    if (status < 0) return status;
    settings.window = *window;
    if ((status = check_sizes(b, &settings, out, in, packed, err)) < 0 || !gi_view_count(out)) return status;
    take_geometry(&settings, out, in);
    join_lines(&settings);
    settings.striped = gi_dense_is_striped(settings.K, settings.M);
    int direct = is_direct(&settings);
    gi_conv_op *op = gi_builder_op(b, sizeof *op, direct ? gi_conv_run_direct : gi_conv_run_gemm, "conv", err);
    if (!op) return GI_ERR_MEMORY;
    settings.op = op->op;
    *op = settings;
    op->in = gi_builder_use(b, in);
    op->out = gi_builder_use(b, out);
    op->packed = gi_builder_use(b, &(gi_view){.tensor = packed});
    gi_builder_macs(b, gi_view_count(out) * op->K);
    if (direct) return gi_conv_plan_direct(b, op, err);
    if ((status = gi_conv_plan_gemm(b, op, err)) == GI_OK) gi_conv_plan_taps(b, op);
    return status;
}
