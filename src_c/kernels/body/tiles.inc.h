/* Which tiles a cell has, and the walk over its blocks: which of them takes what. */

/* A cell's tile compiled for each shape. They are functions of their own, because a compiler that sees several of them at once
 * keeps the constants of the activations in registers that the products need. */
typedef void cell_tile_fn(const gi_step *s, int64_t block, int64_t row, int part);
typedef struct cell_tiles {
    cell_tile_fn *rows[TILE_ROWS + 1];       /* [rows]: the tile of so many; tile_rows picks */
    int parts;                               /* which the tile of one row takes: V_WIDE_PARTS, of a half block all */
    cell_tile_fn *row_blocks;                /* V_ROW_BLOCKS blocks of a single row, or NULL */
} cell_tiles;
/* Of a cell whose last block may be a half one. end: a single row's last whole block and the half one together; or NULL. */
typedef struct gate_tiles { cell_tiles whole, half; cell_tile_fn *end; } gate_tiles;

#define GI_DEFINE_FORM(name, tile, ...)                                                                           \
    static __attribute__((noinline)) void name(const gi_step *s, int64_t block, int64_t row, int part) {          \
        tile(s, (cell_form){__VA_ARGS__}, (cell_spot){block, row, part});                                         \
    }
#define GI_DEFINE_TILE(name, tile, plain, gates, ...) GI_DEFINE_FORM(name, tile, plain, {__VA_ARGS__, 0}, gates, 0)
#if V_PARTS == 1
#define GI_DEFINE_MORE_ROWS(name, tile, plain, gates, weights, lines)                                             \
    GI_DEFINE_TILE(name##_2, tile, plain, gates, weights, 1, 2, lines, 1)                                         \
    GI_DEFINE_TILE(name##_3, tile, plain, gates, weights, 1, 3, lines, 1)                                         \
    GI_DEFINE_TILE(name##_4, tile, plain, gates, weights, 1, 4, lines, 1)                                         \
    GI_DEFINE_TILE(name##_5, tile, plain, gates, weights, 1, 5, lines, 1)                                         \
    GI_DEFINE_TILE(name##_6, tile, plain, gates, weights, 1, 6, lines, 1)
#define GI_ROWS(name) {NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6}
#else
#define GI_DEFINE_MORE_ROWS(...)
#define GI_ROWS(name) {NULL, name##_1}
#endif
#define GI_DEFINE_ROWS(name, tile, plain, gates, weights, lines, parts)                                           \
    GI_DEFINE_TILE(name##_1, tile, plain, gates, weights, 1, 1, lines, parts)                                     \
    GI_DEFINE_MORE_ROWS(name, tile, plain, gates, weights, lines)

/* A cell of `gates` gates with one format of weights. A common one takes several blocks of a single row at once. */
#define GI_DEFINE_GATES(name, tile, plain, gates, weights)                                                        \
    GI_DEFINE_ROWS(name, tile, plain, gates, weights, gates, V_WIDE_PARTS)                                        \
    GI_DEFINE_ROWS(name##_half, tile, plain, gates, weights, GI_HALF_LINES(gates), V_PARTS)
#define GI_DEFINE_COMMON_GATES(name, tile, gates, weights)                                                        \
    GI_DEFINE_GATES(name, tile, 1, gates, weights)                                                                \
    GI_DEFINE_TILE(name##_row_blocks, tile, 1, gates, weights, V_ROW_BLOCKS, 1, gates, V_WIDE_PARTS)
#define GI_GATES(name, row_blocks, end) {{GI_ROWS(name), V_WIDE_PARTS, row_blocks}, {GI_ROWS(name##_half), V_PARTS, NULL}, end}
#define GI_COMMON_GATES(name, end) GI_GATES(name, name##_row_blocks, end)
#if V_ROW_BLOCKS > 1
#define GI_DEFINE_END(name, end)                                                                                  \
    static __attribute__((noinline)) void name(const gi_step *s, int64_t block, int64_t row, int part) {          \
        (void)row, (void)part;                                                                                    \
        end(s, block);                                                                                            \
    }
#define GI_END(name) name
#else
#define GI_DEFINE_END(...)
#define GI_END(name) NULL
#endif
/* `name` [weights]: its tiles. */
#define GI_DEFINE_CELL(name, tile, plain, gates)                                                                  \
    GI_DEFINE_GATES(name##_f32, tile, plain, gates, GI_WEIGHTS_F32)                                               \
    GI_DEFINE_GATES(name##_bf16, tile, plain, gates, GI_WEIGHTS_BF16)                                             \
    GI_DEFINE_GATES(name##_f16, tile, plain, gates, GI_WEIGHTS_F16)                                               \
    static const gate_tiles name[GI_WEIGHTS_COUNT] = {                                                            \
        GI_GATES(name##_f32, NULL, NULL), GI_GATES(name##_bf16, NULL, NULL), GI_GATES(name##_f16, NULL, NULL)};
#define GI_DEFINE_COMMON_CELL(name, tile, end, gates)                                                             \
    GI_DEFINE_END(name##_end, end)                                                                                \
    GI_DEFINE_COMMON_GATES(name##_f32, tile, gates, GI_WEIGHTS_F32)                                               \
    GI_DEFINE_COMMON_GATES(name##_bf16, tile, gates, GI_WEIGHTS_BF16)                                             \
    GI_DEFINE_COMMON_GATES(name##_f16, tile, gates, GI_WEIGHTS_F16)                                               \
    static const gate_tiles name[GI_WEIGHTS_COUNT] = {                                                            \
        GI_COMMON_GATES(name##_f32, GI_END(name##_end)), GI_COMMON_GATES(name##_bf16, NULL), GI_COMMON_GATES(name##_f16, NULL)};

/* One row of the panel that begins at `block`. Parts without units are left out. */
GI_INLINE void cell_row(const gi_step *s, const cell_tiles *tiles, int64_t block, int64_t row) {
    const int64_t units = s->cell->hidden_size - block * GI_BLOCK;
    tiles->rows[1](s, block, row, 0);
    if (V_WIDE_PARTS == V_PARTS) return; /* that was all */
    for (int part = tiles->parts; part < V_PARTS && part * V_LANES < units; part += tiles->parts) tiles->rows[1](s, block, row, part);
}

/* All rows of it. */
static void cell_rows(const gi_step *s, const cell_tiles *tiles, int64_t block) {
    for (int64_t row = 0, rows; row < s->rows; row += rows) {
        rows = tile_rows(s->rows - row);
        if (rows > 1) tiles->rows[rows](s, block, row, 0);
        else cell_row(s, tiles, block, row);
    }
}

/* How a cell's blocks are run: `gates` lines each. */
typedef struct cell_way { const gate_tiles *tiles; cell_band_fn *band; int gates; } cell_way;

static void cell_block(const gi_step *s, const cell_way *way, int64_t block) {
    const int lines = (int)gi_block_lines(s->at, block, way->gates);
    if (HAS_BANDS && s->rows > 1) cell_bands(s, way->band, block, block * way->gates, lines);
    else cell_rows(s, block == s->at->half_block ? &way->tiles->half : &way->tiles->whole, block);
}

/* The whole blocks first .. end - 1, several at once for a single row. */
GI_INLINE void whole_blocks(const gi_step *s, const cell_way *way, int64_t first, int64_t end) {
    cell_tile_fn *const row_blocks = s->rows == 1 ? way->tiles->whole.row_blocks : NULL;
    const int64_t at_once = row_blocks ? V_ROW_BLOCKS : 1, count = end - first;
    for (int64_t done = 0, taken; done < count; done += taken) {
        taken = count - done < at_once ? 1 : at_once;
        const int64_t block = s->backward ? end - done - taken : first + done;
        if (taken > 1) row_blocks(s, block, 0, 0);
        else cell_block(s, way, block);
    }
}

/* The half block, joined by the whole one before it or not. */
static void last_blocks(const gi_step *s, const cell_way *way, int64_t block, int joined) {
    if (joined) way->tiles->end(s, block, 0, 0);
    else cell_block(s, way, block);
}

/* Blocks of a cell. `backward` reads them from the last to the first: what the step before read last is still in the nearest
 * cache. */
static __attribute__((noinline)) void cell_many(const gi_step *s, const cell_way *way) {
    const int64_t count = s->end_block - s->first_block, has_half = count > 0 && s->at->half_block == s->end_block - 1;
    const int joined = has_half && count > 1 && s->rows == 1 && way->tiles->end;
    const int64_t end = s->end_block - has_half - joined;
    if (has_half && s->backward) last_blocks(s, way, end, joined);
    whole_blocks(s, way, s->first_block, end);
    if (has_half && !s->backward) last_blocks(s, way, end, joined);
}

/* The step's blocks. Small cells would notice the way through the loops. */
GI_INLINE void cell_blocks(const gi_step *s, const gate_tiles *tiles, cell_band_fn *band, const int gates) {
    const int64_t block = s->first_block;
    if (s->rows != 1 || s->end_block - block != 1) cell_many(s, &(cell_way){tiles, band, gates});
    else cell_row(s, block == s->at->half_block ? &tiles->half : &tiles->whole, block, 0);
}

/* Tiles of one row and one block that take a piece of W x along. */
typedef struct ahead_tiles { cell_tile_fn *whole, *half; } ahead_tiles;
#define GI_DEFINE_AHEAD_FORM(name, tile, gates, lines)                                                            \
    GI_DEFINE_FORM(name, tile, 1, {GI_WEIGHTS_F32, 1, 1, lines, V_PARTS, 0}, gates, V_AHEAD)
#define GI_DEFINE_AHEAD(name, tile, gates)                                                                        \
    GI_DEFINE_AHEAD_FORM(name##_whole, tile, gates, gates)                                                        \
    GI_DEFINE_AHEAD_FORM(name##_half, tile, gates, GI_HALF_LINES(gates))                                          \
    static const ahead_tiles name = {name##_whole, name##_half};

static void ahead_blocks(const gi_step *s, const ahead_tiles *tiles) {
    for (int64_t i = s->first_block; i < s->end_block; i++) {
        const int64_t block = s->backward ? s->end_block - 1 - (i - s->first_block) : i;
        (block == s->at->half_block ? tiles->half : tiles->whole)(s, block, 0, 0);
    }
}

/* Grouped panels: neighbouring blocks lie side by side. tiles [lines - 1]. */
static void cell_groups(const gi_step *s, const cell_tiles *const *tiles, cell_band_fn *band) {
    const int64_t blocks = gi_blocks(s->cell->hidden_size);
    for (int64_t block = s->first_block, lines; block < s->end_block; block += lines) {
        lines = gi_group_lines(blocks, GI_DENSE_GROUP, block);
        if (HAS_BANDS && s->rows > 1) cell_bands(s, band, block, block, (int)lines);
        else cell_rows(s, &tiles[lines - 1][s->cell->weights], block);
    }
}
#define GI_GROUP(name) {GI_ROWS(name), V_WIDE_PARTS, NULL}
#define GI_DEFINE_GROUP(name, tile, plain, lines)                                                                 \
    GI_DEFINE_ROWS(name##_f32, tile, plain, lines, GI_WEIGHTS_F32, lines, V_WIDE_PARTS)                           \
    GI_DEFINE_ROWS(name##_bf16, tile, plain, lines, GI_WEIGHTS_BF16, lines, V_WIDE_PARTS)                         \
    GI_DEFINE_ROWS(name##_f16, tile, plain, lines, GI_WEIGHTS_F16, lines, V_WIDE_PARTS)                           \
    static const cell_tiles name[GI_WEIGHTS_COUNT] = {GI_GROUP(name##_f32), GI_GROUP(name##_bf16), GI_GROUP(name##_f16)};
#define GI_DEFINE_GROUPED_CELL(name, tile, plain)                                                                 \
    GI_DEFINE_GROUP(name##_1, tile, plain, 1)                                                                     \
    GI_DEFINE_GROUP(name##_2, tile, plain, 2)                                                                     \
    GI_DEFINE_GROUP(name##_3, tile, plain, 3)                                                                     \
    GI_DEFINE_GROUP(name##_4, tile, plain, 4)                                                                     \
    static const cell_tiles *const name[GI_DENSE_GROUP] = {name##_1, name##_2, name##_3, name##_4};
