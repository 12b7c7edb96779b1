/* Products on panels. Rows are taken in tiles of V_TILE_ROWS, 4, 2 and 1. */

/* Calls body(rows, parts, first row, first part) over all tiles of `total` rows of one block, with literal rows and parts. */
#define GI_FOR_TILES(total, body)                                                                                   \
    do {                                                                                                            \
        int64_t row_ = 0;                                                                                           \
        for (; (total) - row_ >= V_TILE_ROWS && V_TILE_ROWS > 1; row_ += V_TILE_ROWS)                               \
            for (int part_ = 0; part_ < V_PARTS; part_ += V_WIDE_PARTS) body(V_TILE_ROWS, V_WIDE_PARTS, row_, part_);\
        for (; (total) - row_ >= 4 && V_TILE_ROWS > 4; row_ += 4)                                                   \
            for (int part_ = 0; part_ < V_PARTS; part_ += V_WIDE_PARTS) body(4, V_WIDE_PARTS, row_, part_);         \
        for (; (total) - row_ >= 2 && V_TILE_ROWS > 2; row_ += 2)                                                   \
            for (int part_ = 0; part_ < V_PARTS; part_ += V_WIDE_PARTS) body(2, V_WIDE_PARTS, row_, part_);         \
        for (; row_ < (total); row_++)                                                                              \
            for (int part_ = 0; part_ < V_PARTS; part_ += V_WIDE_PARTS) body(1, V_WIDE_PARTS, row_, part_);         \
    } while (0)

/* One tile of one group of `t.lines` blocks that starts at output `first`. */
GI_INLINE void product_tile(const gi_product *p, const tile_shape t, int64_t first, const float *panel, int64_t row, int part) {
    v_f acc[V_TILE_ROWS * GI_DENSE_GROUP * V_WIDE_PARTS];
    const int64_t lane = part * V_LANES;
    const int width = t.lines * t.parts;
    start_from(acc, t.rows, t.lines, t.parts, p->bias + first + lane, 0);
    accumulate(acc, t, part, p->x + row * p->x_stride, p->x_stride, p->K, panel);
    GI_UNROLL
    for (int i = 0; i < t.rows * width; i++) {
        const int64_t n = first + i % width / t.parts * GI_BLOCK + lane + i % t.parts * V_LANES;
        store_lanes(p->out + (row + i / width) * p->out_stride + n, acc[i], p->width - n);
    }
}

GI_INLINE void product_group(const gi_product *p, const int weights, const int lines, int64_t first, const float *panel) {
#define TILE(rows, parts, row, part) product_tile(p, (tile_shape){weights, 1, rows, lines, parts}, first, panel, row, part)
    GI_FOR_TILES(p->rows, TILE);
#undef TILE
}

GI_INLINE void product_groups(const gi_product *p, const int weights) {
    const int64_t blocks = gi_blocks(p->width), block_floats = gi_line_floats(weights, p->K);
    for (int64_t block = 0; block < blocks; block += p->lines) {
        const int64_t lines = blocks - block < p->lines ? blocks - block : p->lines, first = block * GI_BLOCK;
        const float *panel = p->panels + block * block_floats;
        switch (lines) {
        case 4: product_group(p, weights, 4, first, panel); break;
        case 3: product_group(p, weights, 3, first, panel); break;
        case 2: product_group(p, weights, 2, first, panel); break;
        default: product_group(p, weights, 1, first, panel); break;
        }
    }
}

static __attribute__((noinline)) void product_f32(const gi_product *p) { product_groups(p, GI_WEIGHTS_F32); }
static __attribute__((noinline)) void product_bf16(const gi_product *p) { product_groups(p, GI_WEIGHTS_BF16); }
static __attribute__((noinline)) void product_f16(const gi_product *p) { product_groups(p, GI_WEIGHTS_F16); }

static void product(const gi_product *p) {
    p->weights == GI_WEIGHTS_BF16 ? product_bf16(p) : p->weights == GI_WEIGHTS_F16 ? product_f16(p) : product_f32(p);
}
