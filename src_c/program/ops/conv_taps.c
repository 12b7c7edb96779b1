/* Convolution of a short line whose windows reach into the padding: its products tap by tap, each for the positions where the tap
 * meets the input. Those with zeros are not made, and nothing is copied. A chain from a finite bias other than -0 that leaves zeros
 * out has the same bits, but for the sign of a sum that has underflowed to 0; an infinite weight times zero would show. */
#include "conv.h"
#include "../builder.h"
#include <string.h>

enum { MOST_POSITIONS = 8 /* of more, the first and the last are few */ };

/* Taps from `tap` on, which meet the input at the same positions. */
struct gi_conv_span { int64_t tap, taps, first, positions; };

/* One tap. */
static gi_conv_span span_at(const gi_conv_op *op, int64_t tap) {
    const gi_window *w = &op->window;
    int64_t first, end;
    gi_inside(tap * w->dilation[1] - w->pad_begin[1], w->stride[1], op->ow, op->w, &first, &end);
    return (gi_conv_span){tap, 1, first, end - first};
}

/* out [positions, M] += the taps of a span times their panels. */
static void multiply_span(const gi_conv_op *op, const gi_kernels *kernels, const gi_conv_span *s, const float *in, const float *packed,
                          float *out) {
    const gi_window *w = &op->window;
    float *from = out + s->first * op->out_stride[3];
    kernels->product(&(gi_product){
        .rows = s->positions, .K = s->taps * op->C, .width = op->M, .lines = GI_DENSE_GROUP,
        .x = in + (s->first * w->stride[1] + s->tap * w->dilation[1] - w->pad_begin[1]) * op->in_stride[3],
        .x_stride = w->stride[1] * op->in_stride[3],
        .panels = packed + op->M, .depth = op->K, .step = s->tap * op->C,
        .start = from, .start_stride = op->out_stride[3], .out = from, .out_stride = op->out_stride[3]});
}

int gi_conv_run_taps(const gi_op *self, const gi_frame *frame, gi_error *err) {
    const gi_conv_op *op = (const gi_conv_op *)self;
    if (frame->rows > 1) return gi_conv_run_gemm(self, frame, err);   /* which reads the weights once for all rows */
    const float *in = gi_at(frame, &op->in, 0), *packed = gi_at(frame, &op->packed, 0);
    float *out = gi_at(frame, &op->out, 0);
    for (int64_t g = 0; g < op->groups; g++, in += op->C * op->in_stride[1], out += op->M, packed += op->packed_size) {
        for (int64_t i = 0; i < op->ow; i++) memcpy(out + i * op->out_stride[3], packed, (size_t)op->M * sizeof *out);
        for (int64_t i = 0; i < op->n_spans; i++) multiply_span(op, frame->kernels, &op->spans[i], in, packed, out);
    }
    return GI_OK;
}

static int all_finite(const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (x[i] - x[i] != 0) return 0;
    return 1;
}

/* A single line, channel by channel: windows are runs of memory, sums rest in the output. */
static int is_short_line(const gi_conv_op *op) {
    const int is_line = op->N == 1 && op->oh == 1 && op->window.kernel[0] == 1 && op->window.pad_begin[0] == 0;
    return is_line && op->ow > 1 && op->ow <= MOST_POSITIONS && op->in_place && !gi_conv_is_inside(op) && !op->striped &&
           op->out_stride[1] == 1 && op->M % GI_BLOCK == 0;
}

void gi_conv_plan_taps(gi_builder *b, gi_conv_op *op) {
    const int64_t taps = op->window.kernel[1];
    if (!is_short_line(op) || !all_finite(b->program->tensors[op->packed.tensor].data, op->packed_size * op->groups)) return;
    gi_conv_span *spans = gi_arena_take(b->program->arena, (size_t)taps * sizeof *spans);
    if (!spans) return;
    for (int64_t tap = 0; tap < taps; tap++) {
        const gi_conv_span next = span_at(op, tap);
        gi_conv_span *last = op->n_spans ? &spans[op->n_spans - 1] : NULL;
        if (last && last->first == next.first && last->positions == next.positions) last->taps++;
        else if (next.positions) spans[op->n_spans++] = next;
    }
    op->spans = spans, op->op.run = gi_conv_run_taps;
}
