/* Products on panels: the inner loop of every dense layer and every gate.
 *
 * Parameters, from isa/vec_<isa>.h: V_LANES, V_PARTS, and
 *   V_TILE_ROWS   rows whose accumulators fit in registers with 4 lines of one vector each
 *   V_WIDE_PARTS  vectors of a block that a single row takes at once, so that each cache line is read once
 * Rows are taken in tiles of V_TILE_ROWS, 4, 2 and 1. Tiling never changes an element's chain: start, then k ascending. */

#define GI_INLINE static inline __attribute__((always_inline))
#define GI_UNROLL _Pragma("GCC unroll 16")

/* acc [rows][lines][parts] += x [rows, K] * panel [K][stride lines of 16]; part offsets are already in `panel`.
 * rows, lines and parts are literals at every call, so that acc lives in registers. */
GI_INLINE void accumulate(v_f *acc, const int rows, const int lines, const int parts, const float *x, int64_t x_stride,
                          int64_t K, const float *panel, int64_t stride) {
    for (int64_t k = 0; k < K; k++) {
        const float *line = panel + k * stride;
        GI_UNROLL
        for (int m = 0; m < rows; m++) {
            const v_f xk = v_set1(x[m * x_stride + k]);
            GI_UNROLL
            for (int i = 0; i < lines * parts; i++) {
                const v_f w = v_load(line + i / parts * GI_BLOCK + i % parts * V_LANES);
                acc[m * lines * parts + i] = v_fma(xk, w, acc[m * lines * parts + i]);
            }
        }
    }
}

/* acc [rows][lines][parts] = start + m * stride, line by line; stride 0 starts every row from the same bias. */
GI_INLINE void start_from(v_f *acc, const int rows, const int lines, const int parts, const float *start, int64_t stride) {
    GI_UNROLL
    for (int m = 0; m < rows; m++) {
        GI_UNROLL
        for (int i = 0; i < lines * parts; i++)
            acc[m * lines * parts + i] = v_load(start + m * stride + i / parts * GI_BLOCK + i % parts * V_LANES);
    }
}

/* Lanes of a vector at unit `first` that are inside `size`: below 1 none, V_LANES or more all. */
GI_INLINE void store_lanes(float *p, v_f x, int64_t lanes) {
    if (lanes >= V_LANES) v_store(p, x);
    else if (lanes > 0) v_store_n(p, x, lanes);
}

GI_INLINE v_f load_lanes(const float *p, int64_t lanes) {
    return lanes >= V_LANES ? v_load(p) : v_load_n(p, lanes > 0 ? lanes : 0);
}

/* Calls body(rows, parts, first row, part) over all tiles of `total` rows of one block, with literal rows and parts. */
#define GI_FOR_TILES(total, body)                                                                  \
    do {                                                                                           \
        int64_t row_ = 0;                                                                          \
        for (; (total) - row_ >= V_TILE_ROWS && V_TILE_ROWS > 1; row_ += V_TILE_ROWS)              \
            for (int part_ = 0; part_ < V_PARTS; part_++) body(V_TILE_ROWS, 1, row_, part_);       \
        for (; (total) - row_ >= 4 && V_TILE_ROWS > 4; row_ += 4)                                  \
            for (int part_ = 0; part_ < V_PARTS; part_++) body(4, 1, row_, part_);                 \
        for (; (total) - row_ >= 2 && V_TILE_ROWS > 2; row_ += 2)                                  \
            for (int part_ = 0; part_ < V_PARTS; part_++) body(2, 1, row_, part_);                 \
        for (; row_ < (total); row_++)                                                             \
            for (int part_ = 0; part_ < V_PARTS; part_ += V_WIDE_PARTS) body(1, V_WIDE_PARTS, row_, part_); \
    } while (0)

/* One tile of one group of `lines` blocks that starts at output `first`. */
GI_INLINE void product_tile(const gi_product *p, const int lines, int64_t first, const float *panel, const int rows,
                            const int parts, int64_t row, int part) {
    v_f acc[V_TILE_ROWS * GI_DENSE_GROUP * V_WIDE_PARTS];
    const int64_t lane = part * V_LANES;
    start_from(acc, rows, lines, parts, p->bias + first + lane, 0);
    accumulate(acc, rows, lines, parts, p->x + row * p->x_stride, p->x_stride, p->K, panel + lane, lines * GI_BLOCK);
    GI_UNROLL
    for (int m = 0; m < rows; m++) {
        GI_UNROLL
        for (int i = 0; i < lines * parts; i++) {
            const int64_t n = first + i / parts * GI_BLOCK + lane + i % parts * V_LANES;
            store_lanes(p->out + (row + m) * p->out_stride + n, acc[m * lines * parts + i], p->width - n);
        }
    }
}

GI_INLINE void product_group(const gi_product *p, const int lines, int64_t first, const float *panel) {
#define TILE(rows, parts, row, part) product_tile(p, lines, first, panel, rows, parts, row, part)
    GI_FOR_TILES(p->rows, TILE);
#undef TILE
}

static void product(const gi_product *p) {
    const int64_t blocks = gi_blocks(p->width);
    for (int64_t block = 0; block < blocks; block += p->lines) {
        const int64_t lines = blocks - block < p->lines ? blocks - block : p->lines;
        const float *panel = p->panels + block * GI_BLOCK * p->K;
        switch (lines) {
        case 4: product_group(p, 4, block * GI_BLOCK, panel); break;
        case 3: product_group(p, 3, block * GI_BLOCK, panel); break;
        case 2: product_group(p, 2, block * GI_BLOCK, panel); break;
        default: product_group(p, 1, block * GI_BLOCK, panel); break;
        }
    }
}
