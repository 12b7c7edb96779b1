/* The kernel table: every routine that touches a vector register, one table per instruction set.
 *
 * The contract: for the same arguments every table gives the same bits. Bodies (body/ *.inc.h) are written once against the
 * vector words of isa/vec_<isa>.h; isa/<isa>.c compiles them and fills the table.
 * Weights lie in panels of BLOCK = 16 lanes whatever the ISA's own width, so packing and summation order never depend on it.
 * Every product is one fused-multiply-add chain per output element, in k order, that starts from the bias. */
#ifndef GI_KERNELS_H
#define GI_KERNELS_H
#include "../gateinfer.h"

enum { GI_BLOCK = 16 };                      /* lanes of a panel line */
enum { GI_DENSE_GROUP = 4 };                 /* blocks side by side in a full dense panel */
enum { GI_SPARSE_PART = 2 };                 /* of sparse_product */

static inline int64_t gi_blocks(int64_t n) { return (n + GI_BLOCK - 1) / GI_BLOCK; }

/* Blocks side by side in a panel are a group: `width` of them, fewer in the last. A last group of one block has too few chains, which
 * wait for themselves, so it takes a block from the one before it, if three or more are there: 4, 3, 2 instead of 4, 4, 1.
 * Blocks of the group that begins at `block`: */
static inline int64_t gi_group_lines(int64_t blocks, int64_t width, int64_t block) {
    const int64_t left = blocks - block;
    return left <= width ? left : width - (left == width + 1 && width > 2);
}

static inline int64_t gi_groups(int64_t blocks, int64_t width) { return (blocks + width - 1) / width; }

/* Where group `group` begins, or the end. All but the last begin at multiples of `width`. */
static inline int64_t gi_group_at(int64_t blocks, int64_t width, int64_t group) {
    const int64_t before = (group - 1) * width;
    return group ? before + gi_group_lines(blocks, width, before) : 0;
}

/* A panel holds `lines` lines side by side, blocks of 16 outputs or gates of a block:
 *   float32        [K][lines][16]
 *   16 bits        for every two k, `lines` lines of 16 words. A word line holds two lines of weights: lines 0 and 1, 2 and 3
 *                  of the first k, then those of the second; an odd last line is alone, with both its k in one word line.
 *                  After an odd K comes a zero. Within a word line: see v_load_bf16, v_load_f16 in isa/vec_scalar.h.
 * Floats of one block's share of a panel: */
static inline int64_t gi_line_floats(int weights, int64_t K) {
    return GI_BLOCK * (weights == GI_WEIGHTS_F32 ? K : (K + 1) / 2);
}

/* out [rows, width] = start + x [rows, K] * panels.
 * panels: one for each group of `lines` blocks (gi_group_lines), of which x meets K from `step` on.
 * start [rows][blocks * 16]: the chains' first value, in panel order; may be out. A stride of 0 starts every row from the same bias.
 * width <= blocks * 16: lanes past it are not stored. Row strides in floats. out must not overlap x. */
typedef struct gi_product {
    int weights;                             /* gi_weights of the panels */
    int64_t rows, K, width;
    int64_t lines;                           /* per panel, at most: the gates of a cell, or GI_DENSE_GROUP */
    const float *x; int64_t x_stride;
    const float *panels; int64_t depth, step; /* steps of a panel; step: 0 with 16-bit weights */
    const float *start; int64_t start_stride;
    float *out; int64_t out_stride;
} gi_product;

/* out[m * out_stride + i] = bias[m] + sum over k of w[k * w_k + m * w_m] * x[offset[k] + i], for m < M and i < n.
 * Neighbouring positions i fill the lanes: convolutions over lines, where the input under tap k is the line moved by
 * offset[k], and run-time matrices, where it is row k. out must not overlap x. */
typedef struct gi_slide {
    int64_t K, M, n;
    const float *x;
    const int64_t *offset;                   /* [K], in floats */
    const float *w; int64_t w_k, w_m;
    const float *bias;                       /* [M], or NULL for zeros */
    int32_t striped;                         /* order of `dot` instead of one chain; needs a bias */
    float *out; int64_t out_stride;
} gi_slide;

/* W x of the GI_AHEAD_ROWS steps after a chunk of steps of a single row, done beside R h of those: multiply-adds fill the time in
 * which R's lines arrive. A block of W has as many pieces as the chunk has steps; each block of R takes one piece along. */
enum { GI_AHEAD_ROWS = 12 };
typedef struct gi_ahead {
    const float *x;                          /* [I][GI_AHEAD_ROWS] */
    float *pre; int64_t pre_stride;          /* [GI_AHEAD_ROWS, lines * 16], complete after `steps` steps */
    int64_t step, steps;                     /* which of them; at most GI_AHEAD_ROWS */
} gi_ahead;

/* One step of a cell for `rows` rows and the units of the blocks first_block .. end_block - 1 (whole groups where panels are
 * grouped): several callers may share a step. h_next may not overlap h; c_next and c_again may be c, h_again may be h
 * where tile_units are all units. Neither c_again nor h_again overlaps another input. */
typedef struct gi_step {
    const gi_cell *cell;
    int64_t rows, first_block, end_block;
    int backward;                            /* blocks from the last to the first: the same bits, other cache lines first */
    const float *x; int64_t x_stride;        /* [rows, I], unused if pre */
    const float *pre; int64_t pre_stride;    /* [rows, lines * 16]: bias + W x in panel order, or NULL */
    const gi_ahead *ahead;                   /* or NULL; for one float32 row that has pre, if looks_ahead */
    const float *h; int64_t h_stride;        /* [rows, H] */
    const float *c; int64_t c_stride;        /* [rows, H], LSTM */
    float *h_next; int64_t h_next_stride;
    float *c_next; int64_t c_next_stride;
    float *h_again, *c_again;                /* where h_next and c_next go as well, with the strides of h and c; or NULL */
    float *gate; int64_t gate_stride;        /* [rows, 3 * blocks * 16] scratch: GRU with linear_before_reset = 0 */
    const float *packed;
    const struct gi_cell_layout *at;         /* what lies where in packed: cell_layout.h */
} gi_step;

/* Steps of several GRU cells (linear_before_reset = 1, the default activations) side by side in one block: cell j in the
 * lanes j H .. j H + H - 1, cells * H <= 16. They may follow each other in time: after = before + 16 then. */
enum { GI_SIDE_CELLS = 4, GI_SIDE_PRE = 2 * GI_BLOCK };   /* PRE: a half block's lines of three gates */
typedef struct gi_side {
    int32_t cells;                           /* 2 to GI_SIDE_CELLS */
    int64_t hidden_size, steps;
    const float *r, *extra;                  /* [H][3][16] and [16], lanes as above */
    const float *pre[GI_SIDE_CELLS];         /* each [steps][GI_SIDE_PRE]; read from 16 floats before it on */
    int64_t pre_stride[GI_SIDE_CELLS];
    const float *before; float *after;       /* states, [steps][16] */
} gi_side;

typedef void gi_unary_fn(float *dst, const float *src, int64_t n, float alpha, float beta);
/* Operand steps are 0 (one value for all) or 1. dst may be a or b. */
typedef void gi_binary_fn(float *dst, const float *a, int a_step, const float *b, int b_step, int64_t n);
typedef void gi_compare_fn(uint8_t *dst, const float *a, int a_step, const float *b, int b_step, int64_t n);
typedef float gi_reduce_fn(const float *src, int64_t n);
/* dst [columns]: of column j the n elements src[i * stride + j]. The bits of gi_reduce_fn. */
typedef void gi_reduce_columns_fn(float *dst, const float *src, int64_t stride, int64_t n, int64_t columns);

struct gi_kernels {
    const char *name;
    int lanes;                               /* of a vector: what estimates of time go by, never results */
    int tile_units;                          /* of a cell, for a row: read and written at once */
    const gi_kernels *narrower;              /* with fewer lanes, on the same CPU; or NULL */
    /* products and cells: body/product.inc.h, body/{lstm,gru,rnn}.inc.h */
    void (*product)(const gi_product *p);
    /* The same bits for a single row, float32 weights, all finite, and a start without denormals, if at most one in GI_SPARSE_PART
     * inputs is not zero: the others' weights are not read. Else, or if a sum is -0, it returns 0 and `out` is undefined.
     * index: room for K. */
    int (*sparse_product)(const gi_product *p, int32_t *index);
    void (*lstm_step)(const gi_step *s);
    void (*gru_reset_after_step)(const gi_step *s);     /* linear_before_reset = 1 */
    void (*gru_reset_before_step)(const gi_step *s);    /* linear_before_reset = 0: the gates of all units first, then */
    void (*gru_candidate_step)(const gi_step *s);       /* the new state of all units */
    void (*rnn_step)(const gi_step *s);
    int looks_ahead;                         /* these heed `ahead`: lstm_step, gru_reset_after_step (plain, no peephole) */
    void (*gru_side)(const gi_side *s);
    /* dot of x [K] with w [K], striped over 16 lanes, then a fixed tree: outputs too few to fill lanes */
    float (*dot)(const float *x, const float *w, int64_t K);
    /* maps over contiguous runs: body/map.inc.h. NULL entries do not exist for any table. */
    gi_unary_fn *unary[GI_UNARY_COUNT];
    gi_binary_fn *arithmetic[GI_ARITHMETIC_COUNT];
    gi_compare_fn *compare[GI_BINARY_COUNT]; /* GI_EQUAL .. GI_GREATER_EQUAL */
    /* reductions over contiguous runs or of columns, striped over 16 lanes, then a fixed tree: body/reduce.inc.h */
    gi_reduce_fn *reduce[GI_REDUCTION_COUNT];/* GI_REDUCE_MEAN is NULL: sum / n. GI_REDUCE_L2: sum of squares */
    gi_reduce_columns_fn *reduce_columns[GI_REDUCTION_COUNT];
    void (*softmax)(float *dst, const float *src, int64_t n, int logarithm);
    void (*layer_norm)(float *dst, const float *src, const float *scale, const float *bias, int64_t n, float epsilon);
    /* products with positions in the lanes: body/slide.inc.h */
    void (*slide)(const gi_slide *s);
    /* lines [n] = zeros, but the elements of `src` in [low, high). Pitches in floats; dst must not overlap src. */
    void (*pad_lines)(float *dst, int64_t dst_pitch, const float *src, int64_t src_pitch, int64_t lines, int64_t n,
                      int64_t low, int64_t high);
};

/* isa/<isa>.c; absent from builds for other CPUs */
extern const gi_kernels gi_kernels_scalar, gi_kernels_avx2, gi_kernels_avx512;

#endif
