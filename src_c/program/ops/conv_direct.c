/* Convolution with neighbouring positions of a line in the lanes: no input is transposed, no result either.
 *
 * Where windows move by single steps over contiguous lines and see no padding, the input under tap (c, i, j) is the
 * line itself, moved. Elsewhere the lines under a piece of an output line are copied first, padded and sorted by phase:
 * column q goes to phase q % stride at q / stride, so that neighbouring windows see neighbours again. */
#include "conv.h"
#include "../builder.h"

enum { PIECE_COLUMNS = 240 /* whole tiles of every table */, MOST_STAGED_FLOATS = 1 << 16 };

/* One piece of one output line of an image: all channels. */
typedef struct piece {
    int64_t y, x, w;
    const float *in;                         /* the image's first channel */
    float *out;                              /* the first channel's first position of the piece */
    const float *packed;                     /* as in dense.h, group by group */
    float *lines, *sums;
} piece;

/* One line of every channel: dst [channels] of phase_w columns, `pitch` apart, of which [low, high) come from src. */
static void stage_channels(const gi_conv_op *op, const gi_kernels *kernels, float *dst, int64_t pitch, const float *src,
                           int64_t low, int64_t high) {
    const int64_t channels = op->C * op->groups, step = op->window.stride[1] * op->in_stride[3], size = sizeof(float);
    const int moves = step != 1 && high - low > 1;
    kernels->pad_lines(dst, pitch, src, op->in_stride[1], channels, op->phase_w, low, moves ? low : high);
    for (int64_t c = 0; moves && c < channels; c++)
        gi_move((char *)(dst + c * pitch + low), size, (const char *)(src + c * op->in_stride[1]), step * size,
                high - low, (int32_t)size);
}

/* Copies the lines under the piece to `lines`: [channels][kernel lines][phases][phase_w]. All channels before any
 * product, because a load that spans recent stores waits for them to leave the store buffer. */
static void stage_lines(const gi_conv_op *op, const gi_kernels *kernels, const piece *p) {
    const gi_window *window = &op->window;
    const int64_t y = p->y * window->stride[0] - window->pad_begin[0], phases = window->stride[1];
    const int64_t pitch = window->kernel[0] * phases * op->phase_w;
    for (int64_t phase = 0; phase < phases; phase++) {
        const int64_t x = p->x * phases - window->pad_begin[1] + phase;
        int64_t low, high;
        gi_inside(x, phases, op->phase_w, op->w, &low, &high);
        for (int64_t i = 0; i < window->kernel[0]; i++) {
            const int64_t line = y + i * window->dilation[0], is_inside = line >= 0 && line < op->h && low < high;
            const float *src = p->in;
            if (is_inside) src += line * op->in_stride[2] + (x + low * phases) * op->in_stride[3];
            stage_channels(op, kernels, p->lines + (i * phases + phase) * op->phase_w, pitch, src, is_inside ? low : 0,
                           is_inside ? high : 0);
        }
    }
}

/* One group: x is the first float under the piece's first window. */
static void multiply_group(const gi_conv_op *op, const gi_kernels *kernels, const piece *p, const float *x,
                           const float *packed, float *out) {
    const int64_t blocks = gi_blocks(op->M);
    gi_slide s = {.K = op->K, .M = op->M, .n = p->w, .x = x, .offset = op->place, .bias = packed,
                  .w = packed + blocks * GI_BLOCK, .w_k = 1, .w_m = op->K, .striped = op->striped,
                  .out = p->sums ? p->sums : out, .out_stride = p->sums ? p->w : op->out_stride[1]};
    if (s.striped) kernels->slide(&s);
    for (int64_t block = 0, lines; !s.striped && block < blocks; block += lines) {
        lines = gi_group_lines(blocks, GI_DENSE_GROUP, block);
        s.M = op->M - block * GI_BLOCK < lines * GI_BLOCK ? op->M - block * GI_BLOCK : lines * GI_BLOCK;
        s.w_k = lines * GI_BLOCK, s.w_m = 1;
        kernels->slide(&s);
        s.w += op->K * s.w_k, s.bias += s.w_k, s.out += s.w_k * s.out_stride;
    }
    for (int64_t m = 0; p->sums && m < op->M; m++)
        gi_move((char *)(out + m * op->out_stride[1]), op->out_stride[3] * (int64_t)sizeof(float),
                (const char *)(p->sums + m * p->w), sizeof(float), p->w, sizeof(float));
}

static void multiply_piece(const gi_conv_op *op, const gi_kernels *kernels, const piece *p) {
    const int is_staged = p->lines != NULL;
    const float *x = is_staged ? p->lines : p->in + p->y * op->window.stride[0] * op->in_stride[2] + p->x;
    const int64_t pitch = is_staged ? op->K / op->window.kernel[1] * op->window.stride[1] * op->phase_w
                                    : op->C * op->in_stride[1];
    if (is_staged) stage_lines(op, kernels, p);
    for (int64_t g = 0; g < op->groups; g++)
        multiply_group(op, kernels, p, x + g * pitch, p->packed + g * op->packed_size,
                       p->out + g * op->M * op->out_stride[1]);
}

static void run_image(const gi_conv_op *op, const gi_kernels *kernels, piece *p, float *out) {
    for (p->y = 0; p->y < op->oh; p->y++)
        for (p->x = 0; p->x < op->ow; p->x += op->piece_w) {
            p->w = op->piece_w < op->ow - p->x ? op->piece_w : op->ow - p->x;
            p->out = out + p->y * op->out_stride[2] + p->x * op->out_stride[3];
            multiply_piece(op, kernels, p);
        }
}

static float *scratch_at(const gi_frame *frame, const gi_operand *scratch) {
    return scratch->tensor < 0 ? NULL : gi_at(frame, scratch, 0);
}

int gi_conv_run_direct(const gi_op *self, const gi_frame *frame, gi_error *err) {
    const gi_conv_op *op = (const gi_conv_op *)self;
    piece p = {.packed = gi_at(frame, &op->packed, 0), .lines = scratch_at(frame, &op->lines),
               .sums = scratch_at(frame, &op->sums)};
    (void)err;
    for (int64_t row = 0; row < frame->rows; row++)
        for (int64_t image = 0; image < op->N; image++) {
            p.in = (const float *)gi_at(frame, &op->in, row) + image * op->in_stride[0];
            run_image(op, frame->kernels, &p, (float *)gi_at(frame, &op->out, row) + image * op->out_stride[0]);
        }
    return GI_OK;
}

/* ---- planning ---------------------------------------------------------------------------------------------------- */

static int needs_staging(const gi_conv_op *op) {
    return op->window.stride[1] != 1 || (op->w > 1 && op->in_stride[3] != 1) || !gi_conv_is_inside(op);
}

/* Columns per phase under `positions` neighbouring windows. */
static int64_t phase_extent(const gi_window *w, int64_t positions) {
    return (positions - 1) + (w->kernel[1] - 1) * w->dilation[1] / w->stride[1] + 1;
}

static int64_t staged_floats(const gi_conv_op *op) {
    const int64_t lines = gi_size_mul(gi_size_mul(op->C, op->groups), op->window.kernel[0]);
    return gi_size_mul(lines, gi_size_mul(op->window.stride[1], op->phase_w));
}

int gi_conv_set_piece(gi_conv_op *op) {
    const int64_t pieces = (op->ow + PIECE_COLUMNS - 1) / PIECE_COLUMNS;
    op->piece_w = (op->ow + pieces - 1) / pieces;
    op->phase_w = phase_extent(&op->window, op->piece_w);
    const int64_t floats = staged_floats(op);
    return !needs_staging(op) || (floats >= 0 && floats <= MOST_STAGED_FLOATS);
}

/* Where the input under tap (c, i, j) starts. */
static int64_t tap_place(const gi_conv_op *op, int64_t c, int64_t i, int64_t j) {
    const gi_window *w = &op->window;
    const int64_t q = j * w->dilation[1];
    if (op->lines.tensor < 0)
        return c * op->in_stride[1] + i * w->dilation[0] * op->in_stride[2] + q * op->in_stride[3];
    return ((c * w->kernel[0] + i) * w->stride[1] + q % w->stride[1]) * op->phase_w + q / w->stride[1];
}

int gi_conv_plan_direct(gi_builder *b, gi_conv_op *op, gi_error *err) {
    int64_t *place = gi_arena_take(b->program->arena, (size_t)op->K * sizeof *place);
    if (!place) return gi_fail(err, GI_ERR_MEMORY, "out of memory for a convolution");
    int status = gi_take_scratch(b, &op->lines, needs_staging(op), staged_floats(op), err);
    if (status < 0) return status;
    op->place = place;
    for (int64_t i = 0; i < op->window.kernel[0]; i++)
        for (int64_t j = 0; j < op->window.kernel[1]; j++)
            for (int64_t c = 0; c < op->C; c++) *place++ = tap_place(op, c, i, j);
    const int is_stored = op->ow == 1 || op->out_stride[3] == 1;
    return gi_take_scratch(b, &op->sums, !is_stored, gi_size_mul(op->M, op->piece_w), err);
}
