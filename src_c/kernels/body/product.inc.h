/* Products on panels. Rows are taken in tiles (tile_rows), or in bands. */

/* One row of a tile, acc [lines][parts], goes to the outputs from `first` on. */
GI_INLINE void store_row(const gi_product *p, const tile_shape t, int64_t first, int64_t row, int part, const v_f *acc) {
    GI_UNROLL
    for (int i = 0; i < t.lines * t.parts; i++) {
        const int64_t n = first + lane_of(t, part, i);
        store_lanes(p->out + row * p->out_stride + n, acc[i], p->width - n);
    }
}

/* One tile of one group of `t.lines` blocks that starts at output `first`. */
GI_INLINE void product_tile(const gi_product *p, const tile_shape t, int64_t first, const float *panel, int64_t row, int part) {
    v_f acc[TILE_ROWS * GI_DENSE_GROUP * V_WIDE_PARTS];
    const int64_t lane = part * V_LANES;
    const int width = t.lines * t.parts;
    start_from(acc, t.rows, t.lines, t.parts, p->start + row * p->start_stride + first + lane, p->start_stride);
    accumulate(acc, t, part, p->x + row * p->x_stride, p->x_stride, p->K, panel, NULL);
    GI_UNROLL
    for (int m = 0; m < t.rows; m++) store_row(p, t, first, row + m, part, acc + m * width);
}

GI_INLINE void product_group(const gi_product *p, const int weights, const int lines, int64_t first, const float *panel) {
#define TILE(rows) product_tile(p, (tile_shape){weights, 1, rows, lines, V_WIDE_PARTS, 0}, first, panel, row, part)
    for (int64_t row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p->rows - row);
        for (int part = 0; part < V_PARTS; part += V_WIDE_PARTS) {
            switch (HAS_BANDS ? 1 : rows) {
            case 6: TILE(TILE_ROWS); break;
            case 5: TILE(5); break;
            case 4: TILE(4); break;
            case 3: TILE(3); break;
            case 2: TILE(2); break;
            default: TILE(1); break;
            }
        }
    }
#undef TILE
}

/* Outputs that end within a line go through sums of whole lines. */
static void store_sums(const gi_product *p, const float *sums, int64_t row, int64_t rows, int64_t first) {
    for (int64_t m = 0; m < rows; m++)
        for (int64_t n = first; n < p->width; n += V_LANES)
            store_lanes(p->out + (row + m) * p->out_stride + n, v_load(sums + m * BAND_STRIDE + n - first), p->width - n);
}

static void product_rows(const gi_product *p, int64_t lines, int64_t first, const float *panel) {
    _Alignas(64) float sums[BAND_ROWS * BAND_STRIDE];
    const int whole = first + lines * GI_BLOCK <= p->width;
    for (int64_t row = 0, rows; row < p->rows; row += rows) {
        rows = p->rows - row < BAND_ROWS ? p->rows - row : BAND_ROWS;
        run_band(&(band_product){.weights = p->weights, .lines = (int)lines, .rows = rows, .K = p->K,
                                 .x = p->x + row * p->x_stride, .x_stride = p->x_stride, .panel = panel,
                                 .start = p->start + row * p->start_stride + first, .start_stride = p->start_stride,
                                 .out = whole ? p->out + row * p->out_stride + first : sums,
                                 .out_stride = whole ? p->out_stride : BAND_STRIDE});
        if (!whole) store_sums(p, sums, row, rows, first);
    }
}

GI_INLINE void product_groups(const gi_product *p, const int weights) {
    const int64_t blocks = gi_blocks(p->width), block_floats = gi_line_floats(weights, p->depth);
    for (int64_t block = 0, lines; block < blocks; block += lines) {
        lines = gi_group_lines(blocks, p->lines, block);
        const int64_t first = block * GI_BLOCK;
        const float *panel = p->panels + block * block_floats + p->step * lines * GI_BLOCK;
        if (HAS_BANDS && p->rows > 1) {
            product_rows(p, lines, first, panel);
            continue;
        }
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
