/* Pooling over strided [N, C, h, w]. Each result visits its window row by row, whether windows are taken one by one or,
 * tap by tap, a line of them or all channels at once. */
#include "window.h"
#include <math.h>

enum { SHORT_LINE = 8 /* windows: a call per tap costs more than it saves */ };

typedef struct pool_op {
    gi_op op;
    gi_walk planes;                          /* operands: out, in (at a plane's first element); of images if `lanes` */
    int64_t lanes;                           /* channels that follow each other in memory, else 0 */
    gi_operand out, in;
    gi_window window;
    int64_t oh, ow, h, w;
    int64_t out_stride[2], in_stride[2];     /* of the spatial axes, in floats */
    int32_t maximum, count_pad;
} pool_op;

/* The part of one window that lies inside the plane: taps [low, high) of each axis, of which tap 0 is at `start`. */
typedef struct taps { int64_t start[2], low[2], high[2]; } taps;

static float pool_maximum(const pool_op *op, const float *plane, const taps *t) {
    float best = -INFINITY;
    for (int64_t i = t->low[0]; i < t->high[0]; i++) {
        const float *line = plane + (t->start[0] + i * op->window.dilation[0]) * op->in_stride[0];
        for (int64_t j = t->low[1]; j < t->high[1]; j++) {
            float x = line[(t->start[1] + j * op->window.dilation[1]) * op->in_stride[1]];
            best = best >= x || best != best ? best : x;   /* a NaN is taken and then kept */
        }
    }
    return best;
}

/* 0 where the window lies outside altogether. */
static float pool_average(const pool_op *op, const float *plane, const taps *t) {
    int64_t inside = (t->high[0] - t->low[0]) * (t->high[1] - t->low[1]);
    float sum = 0.0f;
    if (inside == 0) return 0.0f;
    for (int64_t i = t->low[0]; i < t->high[0]; i++) {
        const float *line = plane + (t->start[0] + i * op->window.dilation[0]) * op->in_stride[0];
        for (int64_t j = t->low[1]; j < t->high[1]; j++)
            sum += line[(t->start[1] + j * op->window.dilation[1]) * op->in_stride[1]];
    }
    return sum / (op->count_pad ? (float)op->window.kernel[0] * (float)op->window.kernel[1] : (float)inside);
}

static void place_window(const pool_op *op, int axis, int64_t position, int64_t extent, taps *t) {
    const gi_window *w = &op->window;
    t->start[axis] = position * w->stride[axis] - w->pad_begin[axis];
    gi_inside(t->start[axis], w->dilation[axis], w->kernel[axis], extent, &t->low[axis], &t->high[axis]);
}

static void pool_plane(const pool_op *op, float *out, const float *plane) {
    taps t;
    for (int64_t y = 0; y < op->oh; y++) {
        place_window(op, 0, y, op->h, &t);
        for (int64_t x = 0; x < op->ow; x++) {
            place_window(op, 1, x, op->w, &t);
            out[y * op->out_stride[0] + x * op->out_stride[1]] =
                op->maximum ? pool_maximum(op, plane, &t) : pool_average(op, plane, &t);
        }
    }
}

/* acc [n]: joins in what tap (i, j) of the windows of line y from x on sees. `line`: the input line under tap i. */
static void join_tap(const pool_op *op, const gi_kernels *kernels, float *acc, const float *line, int64_t x, int64_t n,
                     int64_t j) {
    const int64_t stride = op->window.stride[1];
    const int64_t start = x * stride - op->window.pad_begin[1] + j * op->window.dilation[1];
    float staged[GI_STAGE];
    int64_t low, high;
    gi_inside(start, stride, n, op->w, &low, &high);
    if (low == high) return;
    const char *src = (const char *)(line + (start + low * stride) * op->in_stride[1]);
    const float *seen = gi_stage(src, stride * op->in_stride[1] * (int64_t)sizeof(float), high - low, staged);
    /* In this order a NaN is taken and then kept. */
    kernels->arithmetic[op->maximum ? GI_MAX : GI_ADD](acc + low, seen, 1, acc + low, 1, high - low);
}

static void divide_by_counts(const pool_op *op, float *acc, int64_t x, int64_t n, taps *t) {
    for (int64_t i = 0; i < n; i++) {
        place_window(op, 1, x + i, op->w, t);
        const int64_t inside = (t->high[0] - t->low[0]) * (t->high[1] - t->low[1]);
        const float all = (float)op->window.kernel[0] * (float)op->window.kernel[1];
        acc[i] = inside ? acc[i] / (op->count_pad ? all : (float)inside) : 0.0f;
    }
}

/* n (<= GI_STAGE) windows of line y from x on. */
static void pool_piece(const pool_op *op, const gi_kernels *kernels, float *out, const float *plane, int64_t y,
                       int64_t x, int64_t n) {
    float acc[GI_STAGE];
    taps t;
    for (int64_t i = 0; i < n; i++) acc[i] = op->maximum ? -INFINITY : 0.0f;
    place_window(op, 0, y, op->h, &t);
    for (int64_t i = t.low[0]; i < t.high[0]; i++)
        for (int64_t j = 0; j < op->window.kernel[1]; j++)
            join_tap(op, kernels, acc, plane + (t.start[0] + i * op->window.dilation[0]) * op->in_stride[0], x, n, j);
    if (!op->maximum) divide_by_counts(op, acc, x, n, &t);
    gi_move((char *)(out + y * op->out_stride[0] + x * op->out_stride[1]), op->out_stride[1] * (int64_t)sizeof(float),
            (const char *)acc, sizeof(float), n, sizeof(float));
}

static void pool_lines(const pool_op *op, const gi_kernels *kernels, float *out, const float *plane) {
    for (int64_t y = 0; y < op->oh; y++)
        for (int64_t x = 0; x < op->ow; x += GI_STAGE)
            pool_piece(op, kernels, out, plane, y, x, op->ow - x < GI_STAGE ? op->ow - x : GI_STAGE);
}

/* One window of n channels that follow each other. */
static void pool_channels(const pool_op *op, const gi_kernels *kernels, float *out, const float *image, const taps *t,
                          int64_t n) {
    const int64_t inside = (t->high[0] - t->low[0]) * (t->high[1] - t->low[1]);
    const float all = (float)op->window.kernel[0] * (float)op->window.kernel[1];
    const float count = !inside ? 1.0f : op->count_pad ? all : (float)inside;
    for (int64_t c = 0; c < n; c++) out[c] = op->maximum ? -INFINITY : 0.0f;
    for (int64_t i = t->low[0]; i < t->high[0]; i++)
        for (int64_t j = t->low[1]; j < t->high[1]; j++) {
            const float *seen = image + (t->start[0] + i * op->window.dilation[0]) * op->in_stride[0] +
                                (t->start[1] + j * op->window.dilation[1]) * op->in_stride[1];
            kernels->arithmetic[op->maximum ? GI_MAX : GI_ADD](out, seen, 1, out, 1, n);
        }
    if (!op->maximum) kernels->arithmetic[GI_DIV](out, out, 1, &count, 0, n);
}

static void pool_image(const pool_op *op, const gi_kernels *kernels, float *out, const float *image) {
    taps t;
    for (int64_t y = 0; y < op->oh; y++) {
        place_window(op, 0, y, op->h, &t);
        for (int64_t x = 0; x < op->ow; x++) {
            place_window(op, 1, x, op->w, &t);
            pool_channels(op, kernels, out + y * op->out_stride[0] + x * op->out_stride[1], image, &t, op->lanes);
        }
    }
}

static int pool_run(const gi_run *run) {
    const pool_op *op = run->op;
    for (int64_t i = 0; i < run->n; i++) {
        float *out = (float *)(run->at[0] + i * run->step[0]);
        const float *plane = (const float *)(run->at[1] + i * run->step[1]);
        if (op->lanes) pool_image(op, run->frame->kernels, out, plane);
        else if (op->ow < SHORT_LINE) pool_plane(op, out, plane);
        else pool_lines(op, run->frame->kernels, out, plane);
    }
    return GI_OK;
}

static int run_pool(const gi_op *self, const gi_frame *frame, gi_error *err) {
    const pool_op *op = (const pool_op *)self;
    return gi_walk_rows(&op->planes, frame, (gi_operand[]){op->out, op->in}, op, pool_run, err);
}

int gi_build_pool(gi_builder *b, const gi_view *out, const gi_view *in, const gi_window *window, int maximum,
                  int count_pad, gi_error *err) {
    int status = gi_check_window(b, out, in, window, (const char *[]){"pool out", "pool in"}, err);
    if (status < 0) return status;
    if (out->shape[1] != in->shape[1])
        return gi_fail(err, GI_ERR_SHAPE, "pool: %lld channels in, %lld out", (long long)in->shape[1],
                       (long long)out->shape[1]);
    if (!gi_view_count(out)) return GI_OK;
    pool_op *op = gi_builder_op(b, sizeof *op, run_pool, "pool", err);
    if (!op) return GI_ERR_MEMORY;
    op->out = gi_builder_use(b, out);
    op->in = gi_builder_use(b, in);
    if (in->shape[1] >= GI_BLOCK && in->stride[1] == 1 && out->stride[1] == 1) op->lanes = in->shape[1];
    const int axes = op->lanes ? 1 : 2;
    gi_view to = gi_view_axes(out, 0, axes), from = gi_view_axes(in, 0, axes);
    gi_walk_plan(&op->planes, 2, (const gi_view *[]){&to, &from}, (int32_t[]){op->out.size, op->in.size});
    op->window = *window;
    op->oh = out->shape[2], op->ow = out->shape[3];
    op->h = in->shape[2], op->w = in->shape[3];
    for (int axis = 0; axis < 2; axis++) {
        op->out_stride[axis] = out->stride[2 + axis];
        op->in_stride[axis] = in->stride[2 + axis];
    }
    op->maximum = maximum != 0;
    op->count_pad = count_pad != 0;
    return GI_OK;
}
