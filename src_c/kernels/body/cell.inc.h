/* What the fused cells share: activations, products of a tile, and the walk over tiles. Formulas: ONNX operators LSTM,
 * GRU, RNN. G accumulators of a block end in the same lanes, so bias, activations and the state update run on the same
 * registers, one pass, and nothing is transposed. */

/* What a tile does, with literals only. plain: the default activations and no clip, peephole or input_forget, which needs
 * no branches. */
typedef struct cell_form { int plain; tile_shape t; int ahead; } cell_form;
/* Where a tile lies: first block of 16 units, first row, first part of the block. */
typedef struct cell_spot { int64_t block, row; int part; } cell_spot;

/* A cell's tile compiled for each shape. They are functions of their own, because a compiler that sees several of them at once
 * keeps the constants of the activations in registers that the products need. */
typedef void cell_tile_fn(const gi_step *s, int64_t block, int64_t row, int part);
typedef struct cell_tiles {
    cell_tile_fn *rows[TILE_ROWS + 1];       /* so many rows, V_WIDE_PARTS parts; NULL, or one of tile_rows */
    cell_tile_fn *part;                      /* one row, one part: NULL where V_WIDE_PARTS is 1 */
    cell_tile_fn *row_blocks;                /* V_ROW_BLOCKS blocks of a single row, or NULL */
} cell_tiles;

#define GI_DEFINE_FORM(name, tile, ...)                                                                           \
    static __attribute__((noinline)) void name(const gi_step *s, int64_t block, int64_t row, int part) {          \
        tile(s, (cell_form){__VA_ARGS__}, (cell_spot){block, row, part});                                         \
    }
#define GI_DEFINE_TILE(name, tile, plain, ...) GI_DEFINE_FORM(name, tile, plain, {__VA_ARGS__, 0}, 0)
#if V_WIDE_PARTS > 1
#define GI_DEFINE_PART GI_DEFINE_TILE
#define GI_PART(name) name##_part
#else
#define GI_DEFINE_PART(...)
#define GI_PART(name) NULL
#endif
#if V_PARTS == 1
#define GI_DEFINE_ROWS(name, tile, plain, weights, lines) GI_DEFINE_TILE(name##_6, tile, plain, weights, 1, 6, lines, 1)
#define GI_DEFINE_MORE_ROWS(name, tile, plain, weights, lines)                                                    \
    GI_DEFINE_TILE(name##_4, tile, plain, weights, 1, 4, lines, 1)                                                \
    GI_DEFINE_TILE(name##_3, tile, plain, weights, 1, 3, lines, 1)                                                \
    GI_DEFINE_TILE(name##_2, tile, plain, weights, 1, 2, lines, 1)
#define GI_ROWS(name) {[1] = name##_1, [6] = name##_6}
#define GI_MORE_ROWS(name) {[1] = name##_1, [2] = name##_2, [3] = name##_3, [4] = name##_4, [6] = name##_6}
#else
#define GI_DEFINE_ROWS(...)
#define GI_DEFINE_MORE_ROWS(...)
#define GI_ROWS(name) {[1] = name##_1}
#define GI_MORE_ROWS GI_ROWS
#endif
#define GI_DEFINE_TILES(name, tile, plain, weights, lines)                                                        \
    GI_DEFINE_TILE(name##_1, tile, plain, weights, 1, 1, lines, V_WIDE_PARTS)                                     \
    GI_DEFINE_PART(name##_part, tile, plain, weights, 1, 1, lines, 1)                                             \
    GI_DEFINE_ROWS(name, tile, plain, weights, lines)
#define GI_DEFINE_MORE_TILES(name, tile, plain, weights, lines)                                                   \
    GI_DEFINE_TILES(name, tile, plain, weights, lines)                                                            \
    GI_DEFINE_MORE_ROWS(name, tile, plain, weights, lines)                                                        \
    GI_DEFINE_TILE(name##_row_blocks, tile, plain, weights, V_ROW_BLOCKS, 1, lines, V_WIDE_PARTS)

#define GI_FEW(name) {GI_ROWS(name), GI_PART(name), NULL}
/* `name` [weights]: the tiles of a cell whose panels have `lines` lines; all shapes for common cells, few for the others. */
#define GI_DEFINE_CELL(name, tile, plain, lines)                                                                  \
    GI_DEFINE_TILES(name##_f32, tile, plain, GI_WEIGHTS_F32, lines)                                               \
    GI_DEFINE_TILES(name##_bf16, tile, plain, GI_WEIGHTS_BF16, lines)                                             \
    GI_DEFINE_TILES(name##_f16, tile, plain, GI_WEIGHTS_F16, lines)                                               \
    static const cell_tiles name[GI_WEIGHTS_COUNT] = {GI_FEW(name##_f32), GI_FEW(name##_bf16), GI_FEW(name##_f16)};
#define GI_TILES(name) {GI_MORE_ROWS(name), GI_PART(name), name##_row_blocks}
#define GI_DEFINE_COMMON_CELL(name, tile, lines)                                                                  \
    GI_DEFINE_MORE_TILES(name##_f32, tile, 1, GI_WEIGHTS_F32, lines)                                              \
    GI_DEFINE_MORE_TILES(name##_bf16, tile, 1, GI_WEIGHTS_BF16, lines)                                            \
    GI_DEFINE_MORE_TILES(name##_f16, tile, 1, GI_WEIGHTS_F16, lines)                                              \
    static const cell_tiles name[GI_WEIGHTS_COUNT] = {GI_TILES(name##_f32), GI_TILES(name##_bf16), GI_TILES(name##_f16)};

/* Any activation, out of line: inlined into every tile it would be most of the library. */
static __attribute__((noinline)) v_f activate(const gi_activation *act, v_f x) {
    return v_activation(act->kind, x, v_set1(act->alpha), v_set1(act->beta));
}

/* f(clip(x)) with the cell's activation `which`. NaN stays: v_min and v_max return their second operand then. */
static __attribute__((noinline)) v_f gate_value(const gi_cell *cell, v_f x, int which) {
    if (cell->clip > 0) x = v_min(v_set1(cell->clip), v_max(v_set1(-cell->clip), x));
    return activate(&cell->act[which], x);
}

/* First unit of vector i of the tile's blocks * rows * parts, and its row. */
GI_INLINE int64_t unit_of(const tile_shape t, cell_spot spot, int i) {
    return (spot.block + i / (t.rows * t.parts)) * GI_BLOCK + (spot.part + i % t.parts) * V_LANES;
}
GI_INLINE int64_t row_of(const tile_shape t, cell_spot spot, int i) { return spot.row + i / t.parts % t.rows; }
/* Accumulator of line `line` for vector i. */
GI_INLINE v_f gate_of(const v_f *acc, const tile_shape t, int line, int i) {
    return acc[(i / t.parts * t.lines + line) * t.parts + i % t.parts];
}

/* acc = pre, or bias + W x. */
GI_INLINE void input_products(v_f *acc, const gi_step *s, const tile_shape t, cell_spot spot) {
    const int64_t line = t.lines * GI_BLOCK, start = spot.block * line + spot.part * V_LANES, I = s->cell->input_size;
    GI_UNROLL
    for (int b = 0; b < t.blocks; b++) {
        const float *from = s->pre ? s->pre + spot.row * s->pre_stride : s->packed + s->at->bias;
        start_from(acc + b * t.rows * t.lines * t.parts, t.rows, t.lines, t.parts, from + start + b * line, s->pre ? s->pre_stride : 0);
    }
    if (!s->pre)
        accumulate(acc, t, spot.part, s->x + spot.row * s->x_stride, s->x_stride, I,
                   s->packed + s->at->w + spot.block * t.lines * gi_line_floats(t.weights, I), NULL);
}

/* acc += R v, where v [rows, H] is h or r h and R's panels begin at `panels`. */
GI_INLINE void state_products(v_f *acc, const gi_step *s, const cell_form f, cell_spot spot, const float *v, int64_t v_stride,
                              int64_t panels) {
    const int64_t H = s->cell->hidden_size;
    const tile_shape t = f.t;
    if (f.ahead) {
        accumulate_ahead(acc, s, t.lines, spot.block);
        return;
    }
    accumulate(acc, t, spot.part, v + spot.row * v_stride, v_stride, H,
               s->packed + panels + spot.block * t.lines * gi_line_floats(t.weights, H), NULL);
}

/* Several rows of one panel: their products as a band, then the update of each. `first_line` is where the panel's lines begin
 * among all lines of the layer; sums [rows][BAND_STRIDE]. */
typedef struct cell_band { int64_t block, row, rows, first_line; int lines; float *sums; } cell_band;
typedef void cell_band_fn(const gi_step *s, const cell_band *b);
/* What the chains of a band's rows begin with. */
typedef struct band_start { const float *p; int64_t stride; } band_start;

/* pre, or bias + W x in sums. */
static band_start band_input(const gi_step *s, const cell_band *b) {
    const int64_t I = s->cell->input_size, first = b->first_line * GI_BLOCK;
    if (s->pre) return (band_start){s->pre + b->row * s->pre_stride + first, s->pre_stride};
    run_band(&(band_product){
        .weights = s->cell->weights, .lines = b->lines, .rows = b->rows, .K = I,
        .x = s->x + b->row * s->x_stride, .x_stride = s->x_stride,
        .panel = s->packed + s->at->w + b->first_line * gi_line_floats(s->cell->weights, I),
        .start = s->packed + s->at->bias + first, .out = b->sums, .out_stride = BAND_STRIDE});
    return (band_start){b->sums, BAND_STRIDE};
}

/* sums = start + R v, where v [rows, H] is h or r h and R's panels begin at `panels`. */
static void band_state(const gi_step *s, const cell_band *b, band_start start, const float *v, int64_t v_stride, int64_t panels) {
    const int64_t H = s->cell->hidden_size;
    run_band(&(band_product){
        .weights = s->cell->weights, .lines = b->lines, .rows = b->rows, .K = H,
        .x = v + b->row * v_stride, .x_stride = v_stride,
        .panel = s->packed + panels + b->first_line * gi_line_floats(s->cell->weights, H),
        .start = start.p, .start_stride = start.stride, .out = b->sums, .out_stride = BAND_STRIDE});
}

static void cell_bands(const gi_step *s, cell_band_fn *band, int64_t block, int64_t first_line, int lines) {
    _Alignas(64) float sums[BAND_ROWS * BAND_STRIDE];
    for (int64_t row = 0, rows; row < s->rows; row += rows) {
        rows = s->rows - row < BAND_ROWS ? s->rows - row : BAND_ROWS;
        band(s, &(cell_band){block, row, rows, first_line, lines, sums});
    }
}

/* One vector of new states, from unit `unit` on. */
GI_INLINE void store_h(const gi_step *s, int64_t row, int64_t unit, v_f h) {
    const int64_t lanes = s->cell->hidden_size - unit;
    store_lanes(s->h_next + row * s->h_next_stride + unit, h, lanes);
    if (s->h_again) store_lanes(s->h_again + row * s->h_stride + unit, h, lanes);
}

/* One row of the panel that begins at `block`. Parts without units are left out. */
GI_INLINE void cell_row(const gi_step *s, const cell_tiles *tiles, int64_t block, int64_t row) {
    const int64_t units = s->cell->hidden_size - block * GI_BLOCK;
    for (int part = 0; part < V_PARTS && (part == 0 || part * V_LANES < units); part += V_WIDE_PARTS) {
        const int last = V_WIDE_PARTS > 1 && units <= (part + 1) * V_LANES;
        (last ? tiles->part : tiles->rows[1])(s, block, row, part);
    }
}

/* All rows of it. */
static void cell_rows(const gi_step *s, const cell_tiles *tiles, int64_t block) {
    for (int64_t row = 0, rows; row < s->rows; row += rows) {
        rows = tile_rows(s->rows - row);
        if (!tiles->rows[rows]) rows = s->rows - row < TILE_ROWS ? 1 : TILE_ROWS;
        if (rows > 1) tiles->rows[rows](s, block, row, 0);
        else cell_row(s, tiles, block, row);
    }
}

/* Blocks of `lines` gates, several at once for a single row. `backward` reads them from the last to the first: what the step before
 * read last is still in the nearest cache. */
static __attribute__((noinline)) void cell_many(const gi_step *s, const cell_tiles *tiles, cell_band_fn *band, int lines) {
    const int64_t at_once = s->rows == 1 && tiles->row_blocks ? V_ROW_BLOCKS : 1, count = s->end_block - s->first_block;
    for (int64_t done = 0, taken; done < count; done += taken) {
        taken = count - done < at_once ? 1 : at_once;
        const int64_t block = s->backward ? s->end_block - done - taken : s->first_block + done;
        if (taken > 1) tiles->row_blocks(s, block, 0, 0);
        else if (HAS_BANDS && s->rows > 1) cell_bands(s, band, block, block * lines, lines);
        else cell_rows(s, tiles, block);
    }
}

/* The step's blocks. Small cells would notice the way through the loops. */
GI_INLINE void cell_blocks(const gi_step *s, const cell_tiles *tiles, cell_band_fn *band, const int lines) {
    if (s->rows == 1 && s->end_block - s->first_block == 1) cell_row(s, tiles, s->first_block, 0);
    else cell_many(s, tiles, band, lines);
}

/* `name`: a tile of one row and one block that takes a piece of W x along. */
#define GI_DEFINE_AHEAD(name, tile, lines) GI_DEFINE_FORM(name, tile, 1, {GI_WEIGHTS_F32, 1, 1, lines, V_WIDE_PARTS, 0}, V_AHEAD)

static void ahead_blocks(const gi_step *s, cell_tile_fn *tile) {
    for (int64_t i = s->first_block; i < s->end_block; i++) tile(s, s->backward ? s->end_block - 1 - (i - s->first_block) : i, 0, 0);
}

/* Grouped panels: GI_DENSE_GROUP neighbouring blocks lie side by side, fewer in the last. tiles [lines - 1]. */
static void cell_groups(const gi_step *s, const cell_tiles *const *tiles, cell_band_fn *band) {
    for (int64_t block = s->first_block; block < s->end_block; block += GI_DENSE_GROUP) {
        const int64_t left = s->end_block - block, lines = left < GI_DENSE_GROUP ? left : GI_DENSE_GROUP;
        if (HAS_BANDS && s->rows > 1) cell_bands(s, band, block, block, (int)lines);
        else cell_rows(s, &tiles[lines - 1][s->cell->weights], block);
    }
}
#define GI_DEFINE_GROUPED_CELL(name, tile, plain)                                                                 \
    GI_DEFINE_CELL(name##_1, tile, plain, 1)                                                                      \
    GI_DEFINE_CELL(name##_2, tile, plain, 2)                                                                      \
    GI_DEFINE_CELL(name##_3, tile, plain, 3)                                                                      \
    GI_DEFINE_CELL(name##_4, tile, plain, 4)                                                                      \
    static const cell_tiles *const name[GI_DENSE_GROUP] = {name##_1, name##_2, name##_3, name##_4};

#define GI_TILE_VECTORS (V_WIDE_PARTS * (TILE_ROWS > V_ROW_BLOCKS ? TILE_ROWS : V_ROW_BLOCKS))
