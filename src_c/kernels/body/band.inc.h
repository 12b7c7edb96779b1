/* Products of several rows where a line takes several vectors, so that a tile of rows holds a part of every line at a time. K is
 * cut into spans whose weights fit in L1, and all rows of a band go over a span before the next one begins; sums rest in
 * memory in between. 16-bit weights are unpacked once per band: the first tile leaves what it has read behind as float32. None of it
 * changes an element's chain: start, then k ascending. */

enum {
    BAND_ROWS = 24,
    BAND_STRIDE = GI_DENSE_GROUP * GI_BLOCK, /* floats from one row of a band's sums to the next */
    SPAN_FLOATS = 4096                       /* of a span's weights */
};

/* out [rows, lines * 16] = start + x [rows, K] * panel. start may be out; a start_stride of 0 starts every row from the same
 * bias. */
typedef struct band_product {
    int weights, lines;
    int64_t rows, K;
    const float *x; int64_t x_stride;
    const float *panel;
    const float *start; int64_t start_stride;
    float *out; int64_t out_stride;
} band_product;

GI_INLINE int most_sums(const int weights, const int lines) {
    return weights == GI_WEIGHTS_F32 || lines != 3 ? V_TILE_SUMS : V_PAIR_SUMS;
}

/* A tile of rows and all parts of their lines, t.parts at a time. The product's strides, but places of the tile's own: arguments
 * cost less than a record. keep [K][lines][16]. */
GI_INLINE void band_tile(const band_product *p, const float *x, const float *panel, const float *start, float *out, float *keep,
                         const tile_shape t) {
    _Pragma("GCC unroll 2") /* parts known when compiled: one address for all lines */
    for (int part = 0; part < V_PARTS; part += t.parts) {
        v_f acc[V_TILE_SUMS];
        start_from(acc, t.rows, t.lines, t.parts, start + part * V_LANES, p->start_stride);
        accumulate(acc, t, part, x, p->x_stride, p->K, panel, keep);
        const int64_t stride = p->out_stride;
        GI_UNROLL
        for (int i = 0; i < t.rows * t.lines * t.parts; i++)
            v_store(out + i / (t.lines * t.parts) * stride + lane_of(t, part, i % (t.lines * t.parts)), acc[i]);
    }
}

typedef void band_tile_fn(const band_product *p, const float *x, const float *panel, const float *start, float *out,
                          float *keep);
enum { BAND_SHAPES = 5 };
static const int64_t band_rows[BAND_SHAPES] = {6, 4, 3, 2, 1};

#define GI_DEFINE_BAND_TILE(name, weights, keeps, rows, lines)                                                    \
    static __attribute__((noinline)) void name(const band_product *p, const float *x, const float *panel,         \
                                               const float *start, float *out, float *keep) {                     \
        const int parts = (rows) * (lines) * V_WIDE_PARTS <= V_TILE_SUMS ? V_WIDE_PARTS : 1;                      \
        if ((rows) * (lines) <= most_sums(weights, lines))                                                        \
            band_tile(p, x, panel, start, out, keep, (tile_shape){weights, 1, rows, lines, parts, keeps});        \
    }
#define GI_DEFINE_BAND_TILES(name, weights, keeps, lines)                                                         \
    GI_DEFINE_BAND_TILE(name##_6, weights, keeps, 6, lines)                                                       \
    GI_DEFINE_BAND_TILE(name##_4, weights, keeps, 4, lines)                                                       \
    GI_DEFINE_BAND_TILE(name##_3, weights, keeps, 3, lines)                                                       \
    GI_DEFINE_BAND_TILE(name##_2, weights, keeps, 2, lines)                                                       \
    GI_DEFINE_BAND_TILE(name##_1, weights, keeps, 1, lines)                                                       \
    static band_tile_fn *const name[BAND_SHAPES] = {name##_6, name##_4, name##_3, name##_2, name##_1};
#define GI_DEFINE_BAND(name, weights, keeps)                                                                      \
    GI_DEFINE_BAND_TILES(name##_1, weights, keeps, 1)                                                             \
    GI_DEFINE_BAND_TILES(name##_2, weights, keeps, 2)                                                             \
    GI_DEFINE_BAND_TILES(name##_3, weights, keeps, 3)                                                             \
    GI_DEFINE_BAND_TILES(name##_4, weights, keeps, 4)                                                             \
    static band_tile_fn *const *const name[GI_DENSE_GROUP] = {name##_1, name##_2, name##_3, name##_4};
GI_DEFINE_BAND(band_f32, GI_WEIGHTS_F32, 0)
GI_DEFINE_BAND(band_bf16, GI_WEIGHTS_BF16, 0)
GI_DEFINE_BAND(band_f16, GI_WEIGHTS_F16, 0)
GI_DEFINE_BAND(band_keep_bf16, GI_WEIGHTS_BF16, 1)
GI_DEFINE_BAND(band_keep_f16, GI_WEIGHTS_F16, 1)
static band_tile_fn *const *const *const band_tiles[GI_WEIGHTS_COUNT] = {band_f32, band_bf16, band_f16};
static band_tile_fn *const *const *const band_keepers[GI_WEIGHTS_COUNT] = {band_f32, band_keep_bf16, band_keep_f16};

/* The largest shape, but of more than two rows none that leaves a single one, which has too few chains. */
static int band_shape(int most, int lines, int64_t left) {
    int shape = 0;
    while (band_rows[shape] > left || band_rows[shape] * lines > most ||
           (band_rows[shape] > 2 && left - band_rows[shape] == 1)) shape++;
    return shape;
}

/* All rows over one span. Keeping pays where more than two rows come after. */
static void run_span(const band_product *p, const float *panel, float *keep) {
    const float *x = p->x, *start = p->start;
    float *out = p->out;
    int weights = p->weights;
    for (int64_t left = p->rows; left > 0;) {
        const int shape = band_shape(most_sums(weights, p->lines), p->lines, left);
        const int64_t rows = band_rows[shape];
        const int keeps = weights != GI_WEIGHTS_F32 && left - rows > 2;
        (keeps ? band_keepers : band_tiles)[weights][p->lines - 1][shape](p, x, panel, start, out, keep);
        if (keeps) weights = GI_WEIGHTS_F32, panel = keep;
        x += rows * p->x_stride, start += rows * p->start_stride, out += rows * p->out_stride;
        left -= rows;
    }
}

/* All of K. Uses p up. */
static __attribute__((noinline)) void run_band(band_product *p) {
    _Alignas(64) float keep[SPAN_FLOATS];
    const int64_t most = SPAN_FLOATS / (p->lines * GI_BLOCK) / 2 * 2;
    const float *panel = p->panel;
    for (int64_t left = p->K;; left -= most) {
        p->K = left < most ? left : most;
        run_span(p, panel, keep);
        if (left <= most) return;
        p->x += most, panel += p->lines * gi_line_floats(p->weights, most);
        p->start = p->out, p->start_stride = p->out_stride;
    }
}
