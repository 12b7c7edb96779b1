/* Convolution as a product: the input under each output position is one row of K floats. Positions of all rows, images
 * and lines are taken together, so that a batch of streams reads the weights once. */
#include "conv.h"
#include "../builder.h"
#include <string.h>

enum { SLAB_FLOATS = 1 << 18 /* columns of a slab: what an L2 cache keeps */, MOST_OFFSETS = 1 << 16, FEW_WINDOWS = 8 };

/* Up to GI_CONV_SLAB output positions, of one group at a time. */
typedef struct slab {
    int64_t n;
    const float *in[GI_CONV_SLAB];           /* the image's first channel of the group */
    float *out[GI_CONV_SLAB];                /* the position's first channel of the group */
    int64_t y[GI_CONV_SLAB], x[GI_CONV_SLAB];/* the window's first tap in the image; may lie in the padding */
} slab;

typedef struct place { int64_t row, image, y, x; } place;

static void next_place(const gi_conv_op *op, place *p) {
    if (++p->x < op->ow) return;
    p->x = 0;
    if (++p->y < op->oh) return;
    p->y = 0;
    if (++p->image < op->N) return;
    p->image = 0;
    p->row++;
}

static void fill_slab(const gi_conv_op *op, const gi_frame *f, slab *s, int64_t n, place *at) {
    s->n = n;
    for (int64_t i = 0; i < n; i++, next_place(op, at)) {
        s->in[i] = (const float *)gi_at(f, &op->in, at->row) + at->image * op->in_stride[0];
        s->out[i] = (float *)gi_at(f, &op->out, at->row) + at->image * op->out_stride[0] + at->y * op->out_stride[2] +
                    at->x * op->out_stride[3];
        s->y[i] = at->y * op->window.stride[0] - op->window.pad_begin[0];
        s->x[i] = at->x * op->window.stride[1] - op->window.pad_begin[1];
    }
}

static void next_group(const gi_conv_op *op, slab *s) {
    for (int64_t i = 0; i < s->n; i++) {
        s->in[i] += op->C * op->in_stride[1];
        s->out[i] += op->M * op->out_stride[1];
    }
}

/* dst [K]: the input under one window that may reach into the padding. */
static void take_clipped(const gi_conv_op *op, float *dst, const float *image, int64_t y, int64_t x) {
    const gi_window *window = &op->window;
    const int64_t width = window->kernel[1];
    int64_t low[2], high[2];
    gi_inside(y, window->dilation[0], window->kernel[0], op->h, &low[0], &high[0]);
    gi_inside(x, window->dilation[1], width, op->w, &low[1], &high[1]);
    memset(dst, 0, (size_t)op->K * sizeof *dst);
    for (int64_t i = low[0]; i < high[0]; i++)
        for (int64_t j = low[1]; j < high[1]; j++) {
            const float *src = image + (y + i * window->dilation[0]) * op->in_stride[2] +
                               (x + j * window->dilation[1]) * op->in_stride[3];
            float *to = dst + (i * width + j) * op->C;
            for (int64_t c = 0; c < op->C; c++) to[c] = src[c * op->in_stride[1]];
        }
}

/* room [K]: the input under one window, zeros where it is padding. */
static void take_window(const gi_conv_op *op, float *room, const float *src, int is_inside, const slab *s, int64_t i) {
    if (!is_inside) take_clipped(op, room, s->in[i], s->y[i], s->x[i]);
    else if (op->in_place) memcpy(room, src, (size_t)op->K * sizeof *room);
    else for (int64_t k = 0; k < op->K; k++) room[k] = src[op->offset[k]];
}

/* How many pointers from the first on are evenly spaced, and by how much. */
static int64_t evenly_spaced(const float *const *at, int64_t n, int64_t *stride) {
    int64_t count = n < 2 ? n : 2;
    *stride = n < 2 ? 0 : at[1] - at[0];
    while (count < n && at[count] - at[count - 1] == *stride) count++;
    return count;
}

static void store_results(const gi_conv_op *op, float *const *out, const float *results, int64_t n) {
    for (int64_t m = 0; m < op->M; m++)
        for (int64_t i = 0; i < n; i++) out[i][m * op->out_stride[1]] = results[i * op->M + m];
}

/* The windows of a slab as rows of a matrix: as they lie in the image, or copied to `columns`. All windows of a small
 * slab that has to copy some are copied, because rows in two places are two products, which both read the weights. */
static void place_windows(const gi_conv_op *op, const slab *s, float *columns, const float **rows) {
    const int copies = columns && (s->n <= FEW_WINDOWS || !op->in_place);
    for (int64_t i = 0; i < s->n; i++) {
        const int64_t y = s->y[i], x = s->x[i];
        const int is_known = op->in_place || op->offset;
        const int is_inside = is_known && y >= 0 && x >= 0 && y < op->inside[0] && x < op->inside[1];
        const float *src = is_inside ? s->in[i] + y * op->in_stride[2] + x * op->in_stride[3] : NULL;
        rows[i] = is_inside && !copies ? src : columns + i * op->K;
        if (rows[i] != src) take_window(op, columns + i * op->K, src, is_inside, s, i);
    }
}

static void multiply_slab(const gi_conv_op *op, const gi_frame *f, const slab *s, const float *packed) {
    const float *rows[GI_CONV_SLAB];
    float *columns = op->columns.tensor < 0 ? NULL : gi_at(f, &op->columns, 0);
    float *results = op->results.tensor < 0 ? NULL : gi_at(f, &op->results, 0);
    place_windows(op, s, columns, rows);
    for (int64_t i = 0, n; i < s->n; i += n) {
        int64_t row_stride, out_stride = op->M;
        n = evenly_spaced(rows + i, s->n - i, &row_stride);
        if (!results) n = evenly_spaced((const float *const *)s->out + i, n, &out_stride);
        float *out = results ? results : s->out[i];
        gi_dense_run(f->kernels, GI_WEIGHTS_F32, packed, n, op->K, op->M, rows[i], row_stride, out, out_stride);
        if (results) store_results(op, s->out + i, results, n);
    }
}

int gi_conv_run_gemm(const gi_op *self, const gi_frame *frame, gi_error *err) {
    const gi_conv_op *op = (const gi_conv_op *)self;
    const int64_t total = frame->rows * op->N * op->oh * op->ow;
    const int64_t room = op->slab * frame->rows, size = room < GI_CONV_SLAB ? room : GI_CONV_SLAB;
    place at = {0};
    (void)err;
    for (int64_t done = 0; done < total; done += size) {
        slab s;
        const float *packed = gi_at(frame, &op->packed, 0);
        fill_slab(op, frame, &s, total - done < size ? total - done : size, &at);
        for (int64_t g = 0; g < op->groups; g++, packed += op->packed_size) {
            multiply_slab(op, frame, &s, packed);
            next_group(op, &s);
        }
    }
    return GI_OK;
}

/* ---- planning ---------------------------------------------------------------------------------------------------- */

/* The K floats under a window are one contiguous run of memory, in the order of the weights. */
static int is_run(const gi_conv_op *op) {
    const int64_t extent[3] = {op->window.kernel[0], op->window.kernel[1], op->C};
    const int64_t stride[3] = {op->in_stride[2] * op->window.dilation[0], op->in_stride[3] * op->window.dilation[1],
                               op->in_stride[1]};
    int64_t run = 1;
    for (int i = 2; i >= 0; i--) {
        if (extent[i] > 1 && stride[i] != run) return 0;
        run *= extent[i];
    }
    return 1;
}

/* Where the K floats of a window inside the image lie. The op works without a table: there is none where no window is
 * inside, or where it would be large. */
static void set_offsets(gi_builder *b, gi_conv_op *op) {
    const gi_window *w = &op->window;
    const int64_t extent[2] = {op->h, op->w}, most = INT32_MAX / 4;
    if (op->inside[0] < 1 || op->inside[1] < 1 || op->K > MOST_OFFSETS) return;
    for (int i = 1; i < 4; i++) {
        int64_t reach = i == 1 ? op->C : extent[i - 2];
        if (op->in_stride[i] > most / reach || op->in_stride[i] < -most / reach) return;
    }
    int32_t *offset = gi_arena_take(b->program->arena, (size_t)op->K * sizeof *offset);
    if (!offset) return;
    op->offset = offset;
    for (int64_t i = 0; i < w->kernel[0]; i++)
        for (int64_t j = 0; j < w->kernel[1]; j++)
            for (int64_t c = 0; c < op->C; c++)
                *offset++ = (int32_t)(c * op->in_stride[1] + i * w->dilation[0] * op->in_stride[2] +
                                      j * w->dilation[1] * op->in_stride[3]);
}

int gi_conv_plan_gemm(gi_builder *b, gi_conv_op *op, gi_error *err) {
    op->in_place = is_run(op);
    op->inside[0] = op->h - (op->window.kernel[0] - 1) * op->window.dilation[0];
    op->inside[1] = op->w - (op->window.kernel[1] - 1) * op->window.dilation[1];
    int is_plain = op->in_place && gi_conv_is_inside(op);
    int is_stored = op->M == 1 || op->out_stride[1] == 1;
    int64_t positions = op->N * op->oh * op->ow, fitting = SLAB_FLOATS / op->K;
    op->slab = positions < GI_CONV_SLAB ? positions : GI_CONV_SLAB;
    if (op->slab > fitting) op->slab = fitting > 0 ? fitting : 1;
    int status = gi_take_scratch(b, &op->columns, !is_plain, gi_size_mul(op->slab, op->K), err);
    if (!op->in_place) set_offsets(b, op);
    return status < 0 ? status : gi_take_scratch(b, &op->results, !is_stored, gi_size_mul(op->slab, op->M), err);
}
