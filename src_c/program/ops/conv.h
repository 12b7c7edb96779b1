/* Convolution: the record that conv.c builds and its ways of running. They give the same bits: each result is one
 * FMA chain from the bias over (kernel row, kernel column, channel), padding taking part as zeros. Only weights that
 * dense.h calls striped have another order, in all ways of running. */
#ifndef GI_CONV_H
#define GI_CONV_H
#include "../../kernels/dense.h"
#include "window.h"

enum { GI_CONV_SLAB = 128 /* output positions of one product */ };

typedef struct gi_conv_span gi_conv_span;

typedef struct gi_conv_op {
    gi_op op;
    gi_operand in, out, packed;
    gi_window window;
    int64_t N, groups, C, M, K;              /* C, M: channels of one group; K = kernel[0] * kernel[1] * C */
    int64_t oh, ow, h, w;
    int64_t in_stride[4], out_stride[4];     /* in floats */
    int64_t packed_size;                     /* floats of one group */
    /* conv_gemm */
    gi_operand columns, results;             /* scratch [slab][K], [slab][M]; absent where not needed */
    int32_t in_place;                        /* windows inside the image are rows of the product as they lie there */
    int64_t slab;                            /* positions the scratch of one row holds */
    int64_t inside[2];                       /* windows from 0 up to here lie inside the image */
    const int32_t *offset;                   /* [K] floats of such a window from its first one on, or NULL */
    /* conv_taps */
    const gi_conv_span *spans;
    int64_t n_spans;
    /* conv_direct */
    gi_operand lines, sums;                  /* scratch [groups C][kernel lines][phases][phase_w],
                                              * [M][piece_w]; or absent */
    int64_t piece_w;                         /* output positions of a line done together */
    int64_t phase_w;                         /* columns of one phase of the padded input under a piece */
    const int64_t *place;                    /* [K] floats from the first one under a window to that of each tap */
    int32_t striped;
} gi_conv_op;

/* Takes the op's scratch. */
int gi_conv_plan_gemm(gi_builder *b, gi_conv_op *op, gi_error *err);
/* Then: a single row goes by taps where that pays. */
void gi_conv_plan_taps(gi_builder *b, gi_conv_op *op);
/* No window touches padding. */
int gi_conv_is_inside(const gi_conv_op *op);
/* Chooses op->piece_w; 0 if the input under a piece is too large to stage. */
int gi_conv_set_piece(gi_conv_op *op);
int gi_conv_plan_direct(gi_builder *b, gi_conv_op *op, gi_error *err);
gi_op_run gi_conv_run_gemm, gi_conv_run_taps, gi_conv_run_direct;

#endif
