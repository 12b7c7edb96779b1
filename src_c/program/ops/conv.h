/* Convolution: the record that conv.c builds and its two ways of running. They give the same bits: each result is one
 * FMA chain from the bias over (channel, kernel row, kernel column), padding taking part as zeros. Only weights that
 * dense.h calls striped have another order, and those always run as products. */
#ifndef GI_CONV_H
#define GI_CONV_H
#include "../../kernels/dense.h"
#include "window.h"

enum { GI_CONV_SLAB = 64 /* output positions of one product */ };

typedef struct gi_conv_op {
    gi_op op;
    gi_operand in, out, packed;
    gi_window window;
    int64_t N, groups, C, M, K;              /* C, M: channels of one group; K = C * kernel[0] * kernel[1] */
    int64_t oh, ow, h, w;
    int64_t in_stride[4], out_stride[4];     /* in floats */
    int64_t packed_size;                     /* floats of one group */
    /* conv_gemm */
    gi_operand columns, results;             /* scratch [slab][K], [slab][M]; absent where not needed */
    int64_t slab;                            /* positions the scratch of one row holds */
    int64_t inside[2];                       /* windows from 0 up to here lie inside the image */
    const int32_t *offset;                   /* [K] floats of such a window from its first one on, or NULL */
    /* conv_direct */
    gi_operand plane, sums;                  /* scratch [stride][stride][plane_h][plane_w], [M][tile_h * plane_w] */
    int64_t tile_h, tile_w;                  /* output positions done together */
    int64_t plane_h, plane_w;                /* one phase of the padded input under a tile */
} gi_conv_op;

/* Takes the op's scratch. */
int gi_conv_plan_gemm(gi_builder *b, gi_conv_op *op, gi_error *err);
/* Chooses op->tile_* and op->plane_*; 0 if the input under a tile is too large to stage. */
int gi_conv_set_tile(gi_conv_op *op);
int gi_conv_plan_direct(gi_builder *b, gi_conv_op *op, gi_error *err);
gi_op_run gi_conv_run_gemm, gi_conv_run_direct;

#endif
