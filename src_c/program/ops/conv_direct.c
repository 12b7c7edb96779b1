/* Convolution by sliding whole planes, for groups with few channels (depthwise above all).
 *
 * Per tile of output positions and input channel, the padded input under the tile is copied once, sorted by phase:
 * element (r, q) goes to plane [r % stride_h][q % stride_w] at (r / stride_h, q / stride_w). Under every tap, the
 * tile's input is then a contiguous run with the plane's pitch, and so are the sums: one axpy per tap and output
 * channel does the tile. Lanes between the tile's lines are computed and dropped. */
#include "conv.h"

enum { TILE_COLUMNS = 256, TILE_FLOATS = 1024, MOST_PLANE_FLOATS = 1 << 16 };

/* One tile: its first output position, its size, and where it reads and writes. */
typedef struct tile {
    int64_t y, x, h, w;
    const float *in;                         /* the image's first channel of the group */
    float *out;                              /* the image's first channel of the group */
    const float *packed;                     /* bias [16], then lines of 16 per k */
    float *plane, *sums;
} tile;

static int64_t tile_pitch(const gi_conv_op *op) { return op->tile_h * op->plane_w; }

static int64_t tile_lanes(const gi_conv_op *op, const tile *t) { return (t->h - 1) * op->plane_w + t->w; }

/* Copies one channel's input under the tile into its phases. */
static void stage_plane(const gi_conv_op *op, const tile *t, const float *channel) {
    const gi_window *window = &op->window;
    const int64_t y = t->y * window->stride[0] - window->pad_begin[0];
    const int64_t x = t->x * window->stride[1] - window->pad_begin[1];
    float *dst = t->plane;
    for (int64_t a = 0; a < window->stride[0]; a++)
        for (int64_t b = 0; b < window->stride[1]; b++)
            for (int64_t r = 0; r < op->plane_h; r++, dst += op->plane_w) {
                int64_t line = y + r * window->stride[0] + a;
                int64_t width = line >= 0 && line < op->h ? op->w : 0;
                gi_take_padded(dst, channel + (width ? line : 0) * op->in_stride[2], op->in_stride[3], x + b,
                               window->stride[1], op->plane_w, width);
            }
}

/* Where the staged input under tap (i, j) of the tile's first position is. */
static const float *tap_input(const gi_conv_op *op, const tile *t, int64_t i, int64_t j) {
    const int64_t r = i * op->window.dilation[0], q = j * op->window.dilation[1];
    const int64_t sh = op->window.stride[0], sw = op->window.stride[1];
    return t->plane + ((r % sh * sw + q % sw) * op->plane_h + r / sh) * op->plane_w + q / sw;
}

/* Adds one input channel's taps to the sums of all output channels. weights: lines of 16, one per tap. */
static void add_channel(const gi_conv_op *op, const gi_kernels *kernels, const tile *t, const float *weights) {
    const int64_t lanes = tile_lanes(op, t);
    for (int64_t i = 0; i < op->window.kernel[0]; i++)
        for (int64_t j = 0; j < op->window.kernel[1]; j++, weights += GI_BLOCK) {
            const float *input = tap_input(op, t, i, j);
            for (int64_t m = 0; m < op->M; m++) kernels->axpy(t->sums + m * tile_pitch(op), input, lanes, weights[m]);
        }
}

/* The bias times one: a fill in full vectors. */
static void start_sums(const gi_conv_op *op, const gi_kernels *kernels, const tile *t) {
    const float one = 1.0f;
    for (int64_t m = 0; m < op->M; m++)
        kernels->arithmetic[GI_MUL](t->sums + m * tile_pitch(op), &t->packed[m], 0, &one, 0, tile_lanes(op, t));
}

static void store_sums(const gi_conv_op *op, const tile *t) {
    const int64_t size = sizeof(float), step = op->out_stride[3] * size;
    for (int64_t m = 0; m < op->M; m++)
        for (int64_t y = 0; y < t->h; y++) {
            float *dst = t->out + m * op->out_stride[1] + (t->y + y) * op->out_stride[2] + t->x * op->out_stride[3];
            const float *src = t->sums + m * tile_pitch(op) + y * op->plane_w;
            gi_move((char *)dst, step, (const char *)src, size, t->w, (int32_t)size);
        }
}

static void run_tile(const gi_conv_op *op, const gi_kernels *kernels, const tile *t) {
    const float *weights = t->packed + GI_BLOCK;
    const int64_t taps = op->window.kernel[0] * op->window.kernel[1];
    start_sums(op, kernels, t);
    for (int64_t c = 0; c < op->C; c++, weights += taps * GI_BLOCK) {
        stage_plane(op, t, t->in + c * op->in_stride[1]);
        add_channel(op, kernels, t, weights);
    }
    store_sums(op, t);
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static void run_group(const gi_conv_op *op, const gi_kernels *kernels, tile *t) {
    for (t->y = 0; t->y < op->oh; t->y += op->tile_h)
        for (t->x = 0; t->x < op->ow; t->x += op->tile_w) {
            t->h = smaller(op->tile_h, op->oh - t->y);
            t->w = smaller(op->tile_w, op->ow - t->x);
            run_tile(op, kernels, t);
        }
}

int gi_conv_run_direct(const gi_op *self, const gi_frame *frame, gi_error *err) {
    const gi_conv_op *op = (const gi_conv_op *)self;
    tile t = {.plane = gi_at(frame, &op->plane, 0), .sums = gi_at(frame, &op->sums, 0)};
    (void)err;
    for (int64_t row = 0; row < frame->rows; row++)
        for (int64_t image = 0; image < op->N; image++)
            for (int64_t g = 0; g < op->groups; g++) {
                t.in = (const float *)gi_at(frame, &op->in, row) + image * op->in_stride[0];
                t.in += g * op->C * op->in_stride[1];
                t.out = (float *)gi_at(frame, &op->out, row) + image * op->out_stride[0];
                t.out += g * op->M * op->out_stride[1];
                t.packed = (const float *)gi_at(frame, &op->packed, 0) + g * op->packed_size;
                run_group(op, frame->kernels, &t);
            }
    return GI_OK;
}

/* ---- planning ---------------------------------------------------------------------------------------------------- */

/* Lines (or columns) per phase that `positions` windows reach along `axis`. */
static int64_t phase_extent(const gi_window *w, int axis, int64_t positions) {
    return (positions - 1) + (w->kernel[axis] - 1) * w->dilation[axis] / w->stride[axis] + 1;
}

static int64_t plane_floats(const gi_conv_op *op) {
    int64_t phases = gi_size_mul(op->window.stride[0], op->window.stride[1]);
    return gi_size_mul(phases, gi_size_mul(op->plane_h, op->plane_w));
}

int gi_conv_set_tile(gi_conv_op *op) {
    op->tile_w = smaller(op->ow, TILE_COLUMNS);
    op->plane_w = phase_extent(&op->window, 1, op->tile_w);
    int64_t lines = TILE_FLOATS / op->plane_w;
    op->tile_h = smaller(op->oh, lines > 1 ? lines : 1);
    op->plane_h = phase_extent(&op->window, 0, op->tile_h);
    int64_t floats = plane_floats(op);
    return floats >= 0 && floats <= MOST_PLANE_FLOATS;
}

int gi_conv_plan_direct(gi_builder *b, gi_conv_op *op, gi_error *err) {
    int status = gi_take_scratch(b, &op->plane, 1, plane_floats(op), err);
    return status < 0 ? status : gi_take_scratch(b, &op->sums, 1, gi_size_mul(op->M, tile_pitch(op)), err);
}
