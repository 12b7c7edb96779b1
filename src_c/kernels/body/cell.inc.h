/* What the fused cells share: activations, products of a tile or of a band of rows. Formulas: ONNX operators LSTM,
 * GRU, RNN. G accumulators of a block end in the same lanes, so bias, activations and the state update run on the same
 * registers, one pass, and nothing is transposed. */

/* What a tile does, with literals only. plain: the default activations and no clip, peephole or input_forget, which needs
 * no branches. gates: lines of a whole block; a half block (cell_layout.h) has fewer, and its tiles take all parts of them. */
typedef struct cell_form { int plain; tile_shape t; int gates, ahead; } cell_form;
/* Where a tile lies: first block of 16 units, first row, first part of the block. */
typedef struct cell_spot { int64_t block, row; int part; } cell_spot;

/* Any activation, out of line: inlined into every tile it would be most of the library. */
static __attribute__((noinline)) v_f activate(const gi_activation *act, v_f x) {
    return v_activation(act->kind, x, v_set1(act->alpha), v_set1(act->beta));
}

/* f(clip(x)) with the cell's activation `which`. NaN stays: v_min and v_max return their second operand then. */
static __attribute__((noinline)) v_f gate_value(const gi_cell *cell, v_f x, int which) {
    if (cell->clip > 0) x = v_min(v_set1(cell->clip), v_max(v_set1(-cell->clip), x));
    return activate(&cell->act[which], x);
}

/* A half block's tile takes HALF_PARTS vectors of units; a vector as wide as a line holds those of two gates. */
enum { HALF_PARTS = V_PARTS > 1 ? V_PARTS / 2 : 1 };
GI_INLINE int is_half(const cell_form f) { return f.t.lines < f.gates; }

/* Vectors of units of the tile; the first unit of vector i, and its row. */
GI_INLINE int unit_parts(const cell_form f) { return is_half(f) ? HALF_PARTS : f.t.parts; }
GI_INLINE int unit_vectors(const cell_form f) { return f.t.blocks * f.t.rows * unit_parts(f); }
GI_INLINE int64_t unit_of(const cell_form f, cell_spot spot, int i) {
    const int parts = unit_parts(f);
    return (spot.block + i / (f.t.rows * parts)) * GI_BLOCK + (spot.part + i % parts) * V_LANES;
}
GI_INLINE int64_t row_of(const cell_form f, cell_spot spot, int i) { return spot.row + i / unit_parts(f) % f.t.rows; }

/* Accumulator of gate `gate` for vector i. */
GI_INLINE v_f gate_of(const v_f *acc, const cell_form f, int gate, int i) {
    const int width = f.t.lines * f.t.parts;
    if (!is_half(f)) return acc[i / f.t.parts * width + gate * f.t.parts + i % f.t.parts];
    const v_f *line = acc + i / HALF_PARTS * width + gate / 2 * f.t.parts;
    if (V_PARTS == 1) return gate % 2 ? v_down(line[0], GI_HALF_BLOCK) : line[0];
    return line[gate % 2 * HALF_PARTS + i % HALF_PARTS];
}

/* acc = pre, or bias + W x. */
GI_INLINE void input_products(v_f *acc, const gi_step *s, const cell_form f, cell_spot spot) {
    const tile_shape t = f.t;
    const int64_t line = f.gates * GI_BLOCK, start = spot.block * line + spot.part * V_LANES, I = s->cell->input_size;
    GI_UNROLL
    for (int b = 0; b < t.blocks; b++) {
        const float *from = s->pre ? s->pre + spot.row * s->pre_stride : s->packed + s->at->bias;
        start_from(acc + b * t.rows * t.lines * t.parts, t.rows, t.lines, t.parts, from + start + b * line, s->pre ? s->pre_stride : 0);
    }
    if (!s->pre)
        accumulate(acc, t, spot.part, s->x + spot.row * s->x_stride, s->x_stride, I,
                   s->packed + s->at->w + spot.block * f.gates * gi_line_floats(t.weights, I), NULL);
}

/* acc += R v, where v [rows, H] is h or r h and R's panels begin at `panels`. */
GI_INLINE void state_products(v_f *acc, const gi_step *s, const cell_form f, cell_spot spot, const float *v, int64_t v_stride,
                              int64_t panels) {
    const int64_t H = s->cell->hidden_size;
    const tile_shape t = f.t;
    if (f.ahead) {
        accumulate_ahead(acc, s, t.lines, f.gates, spot.block);
        return;
    }
    accumulate(acc, t, spot.part, v + spot.row * v_stride, v_stride, H,
               s->packed + panels + spot.block * f.gates * gi_line_floats(t.weights, H), NULL);
}

/* Of a single float32 row the last whole block, `block`, and the half one after it, whose chains are too few alone. */
#if V_ROW_BLOCKS > 1
_Static_assert(V_PARTS == 1, "a line is one vector here");
#define GI_END_WHOLE(gates) ((cell_form){1, {GI_WEIGHTS_F32, 1, 1, gates, V_PARTS, 0}, gates, 0})
#define GI_END_HALF(gates) ((cell_form){1, {GI_WEIGHTS_F32, 1, 1, GI_HALF_LINES(gates), V_PARTS, 0}, gates, 0})

/* acc [whole + half] += x [K] * panels of so many lines. */
GI_INLINE void end_products(v_f *acc, const int whole, const int half, const float *x, int64_t K, const float *panel) {
    const float *second = panel + K * whole * GI_BLOCK;
    for (int64_t k = 0; k < K; k++, panel += whole * GI_BLOCK, second += half * GI_BLOCK) {
        multiply_line(acc, whole, x[k], panel), multiply_line(acc + whole, half, x[k], second);
        settle_all(acc, whole + half);
    }
}

/* acc [gates + GI_HALF_LINES(gates)] = pre, or bias + W x. */
GI_INLINE void end_input(v_f *acc, const gi_step *s, const int gates, int64_t block) {
    const int64_t first = block * gates * GI_BLOCK, I = s->cell->input_size;
    start_from(acc, 1, gates + GI_HALF_LINES(gates), V_PARTS, (s->pre ? s->pre : s->packed + s->at->bias) + first, 0);
    if (!s->pre) end_products(acc, gates, GI_HALF_LINES(gates), s->x, I, s->packed + s->at->w + first * I);
}
#endif

/* Several rows of one panel: their products as a band, then the update of each. `first_line` is where the panel's lines begin
 * among all lines of the layer; sums [rows][BAND_STRIDE], gates gi_gate_lanes apart. */
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

/* Vectors of units of a tile, and the sums of all their gates, at most. */
enum {
    WHOLE_VECTORS = V_WIDE_PARTS * (TILE_ROWS > V_ROW_BLOCKS ? TILE_ROWS : V_ROW_BLOCKS),
    TILE_VECTORS = WHOLE_VECTORS > HALF_PARTS ? WHOLE_VECTORS : HALF_PARTS,
    TILE_SUMS = 4 * TILE_VECTORS
};
