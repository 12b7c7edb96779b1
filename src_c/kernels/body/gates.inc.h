/* Fused cells: products into registers, then bias, activations and the state update on the same registers, one pass.
 * Formulas: ONNX operators LSTM, GRU, RNN. G accumulators of a block end in the same lanes, so nothing is transposed.
 * `plain` is a literal: the default activations and no clip, peephole or input_forget, which needs no branches. */

/* Any activation, out of line: inlined into every tile it would be most of the library. */
static __attribute__((noinline)) v_f activate(const gi_activation *act, v_f x) {
    return v_activation(act->kind, x, v_set1(act->alpha), v_set1(act->beta));
}

/* f(clip(x)) with the cell's activation `which`. NaN stays: v_min and v_max return their second operand then. */
static __attribute__((noinline)) v_f gate_value(const gi_cell *cell, v_f x, int which) {
    if (cell->clip > 0) x = v_min(v_set1(cell->clip), v_max(v_set1(-cell->clip), x));
    return activate(&cell->act[which], x);
}

GI_INLINE int is_plain(const gi_cell *cell, int activations, int peephole) {
    int plain = !peephole && !cell->input_forget && !(cell->clip > 0);
    for (int i = 0; i < activations; i++) plain &= cell->act[i].kind == (i ? GI_TANH : GI_SIGMOID);
    return plain;
}

/* ---- LSTM: C' = f C + i g,  h' = o tanh(C') ------------------------------------------------------------------------- */

/* xi xo xf xc: pre-activations of one vector of units; peep: the i o f lines of P at these lanes, or NULL. */
GI_INLINE void lstm_tail(const gi_step *s, const int plain, const float *peep, v_f xi, v_f xo, v_f xf, v_f xc, int64_t row,
                         int64_t unit) {
    const int64_t lanes = s->cell->hidden_size - unit;
    const v_f c = load_lanes(s->c + row * s->c_stride + unit, lanes);
    v_f i, f, g, o, c_next, h;
    if (plain) {
        i = v_sigmoid(xi), f = v_sigmoid(xf), g = v_tanh(xc), o = v_sigmoid(xo);
        c_next = v_fma(f, c, v_mul(i, g));
        h = v_mul(o, v_tanh(c_next));
    } else {
        const gi_cell *cell = s->cell;
        if (peep) xi = v_fma(v_load(peep), c, xi), xf = v_fma(v_load(peep + 2 * GI_BLOCK), c, xf);
        i = gate_value(cell, xi, 0);
        f = cell->input_forget ? v_sub(v_set1(1.0f), i) : gate_value(cell, xf, 0);
        g = gate_value(cell, xc, 1);
        c_next = v_fma(f, c, v_mul(i, g));
        if (peep) xo = v_fma(v_load(peep + GI_BLOCK), c_next, xo);
        o = gate_value(cell, xo, 0);
        h = v_mul(o, activate(&cell->act[2], c_next));
    }
    store_lanes(s->c_next + row * s->c_next_stride + unit, c_next, lanes);
    store_lanes(s->h_next + row * s->h_next_stride + unit, h, lanes);
}

/* acc [rows][gates][parts] = pre, or bias + W x. `block` counts blocks of 16 units. */
GI_INLINE void input_products(v_f *acc, const gi_step *s, const gi_cell_layout *at, const int gates, int64_t block,
                              const int rows, const int parts, int64_t row, int64_t lane) {
    const int64_t start = block * gates * GI_BLOCK + lane, I = s->cell->input_size;
    if (s->pre) {
        start_from(acc, rows, gates, parts, s->pre + row * s->pre_stride + start, s->pre_stride);
        return;
    }
    start_from(acc, rows, gates, parts, s->packed + at->bias + start, 0);
    accumulate(acc, rows, gates, parts, s->x + row * s->x_stride, s->x_stride, I,
               s->packed + at->w + block * I * gates * GI_BLOCK + lane, gates * GI_BLOCK);
}

GI_INLINE void lstm_tile(const gi_step *s, const gi_cell_layout *at, const int plain, int64_t block, const int rows,
                         const int parts, int64_t row, int part) {
    v_f acc[V_TILE_ROWS * 4 * V_WIDE_PARTS];
    const int64_t lane = part * V_LANES, H = s->cell->hidden_size;
    const int has_peephole = !plain && s->packed[0] != 0;
    input_products(acc, s, at, 4, block, rows, parts, row, lane);
    accumulate(acc, rows, 4, parts, s->h + row * s->h_stride, s->h_stride, H, s->packed + at->r + block * H * 4 * GI_BLOCK + lane,
               4 * GI_BLOCK);
    GI_UNROLL
    for (int m = 0; m < rows; m++) {
        GI_UNROLL
        for (int p = 0; p < parts; p++) {
            const v_f *a = acc + m * 4 * parts + p;
            const int64_t inside = lane + p * V_LANES;
            const float *peep = has_peephole ? s->packed + at->extra + block * 3 * GI_BLOCK + inside : NULL;
            lstm_tail(s, plain, peep, a[0], a[parts], a[2 * parts], a[3 * parts], row + m, block * GI_BLOCK + inside);
        }
    }
}

GI_INLINE void lstm_blocks(const gi_step *s, const int plain) {
    const gi_cell_layout at = gi_cell_place(s->cell);
    const int64_t blocks = gi_blocks(s->cell->hidden_size);
#define TILE(rows, parts, row, part) lstm_tile(s, &at, plain, block, rows, parts, row, part)
    for (int64_t block = 0; block < blocks; block++) GI_FOR_TILES(s->rows, TILE);
#undef TILE
}

static void lstm_step(const gi_step *s) {
    if (is_plain(s->cell, 3, s->packed[0] != 0)) lstm_blocks(s, 1);
    else lstm_blocks(s, 0);
}

/* ---- GRU: h' = (1 - z) n + z h ---------------------------------------------------------------------------------------- */

GI_INLINE v_f gru_gate(const gi_step *s, const int plain, v_f x) { return plain ? v_sigmoid(x) : gate_value(s->cell, x, 0); }
GI_INLINE v_f gru_candidate(const gi_step *s, const int plain, v_f x) { return plain ? v_tanh(x) : gate_value(s->cell, x, 1); }

GI_INLINE void gru_update(const gi_step *s, v_f z, v_f n, int64_t row, int64_t unit) {
    const int64_t lanes = s->cell->hidden_size - unit;
    const v_f h = load_lanes(s->h + row * s->h_stride + unit, lanes);
    const v_f kept = v_mul(v_sub(v_set1(1.0f), z), n);
    store_lanes(s->h_next + row * s->h_next_stride + unit, v_fma(z, h, kept), lanes);
}

/* linear_before_reset = 1: n = g(W_n x + Wb_n + r (R_n h + Rb_n)), so the candidate has two accumulators. */
GI_INLINE void gru_reset_after_tile(const gi_step *s, const gi_cell_layout *at, const int plain, int64_t block,
                                    const int rows, const int parts, int64_t row, int part) {
    v_f input[V_TILE_ROWS * 3 * V_WIDE_PARTS], acc[V_TILE_ROWS * 3 * V_WIDE_PARTS];
    const int64_t lane = part * V_LANES, H = s->cell->hidden_size;
    input_products(input, s, at, 3, block, rows, parts, row, lane);
    GI_UNROLL
    for (int i = 0; i < rows * 3 * parts; i++) {
        const int gate = i / parts % 3;
        acc[i] = gate < 2 ? input[i] : v_load(s->packed + at->extra + block * GI_BLOCK + lane + i % parts * V_LANES);
    }
    accumulate(acc, rows, 3, parts, s->h + row * s->h_stride, s->h_stride, H, s->packed + at->r + block * H * 3 * GI_BLOCK + lane,
               3 * GI_BLOCK);
    GI_UNROLL
    for (int m = 0; m < rows; m++) {
        GI_UNROLL
        for (int p = 0; p < parts; p++) {
            const v_f *a = acc + m * 3 * parts + p, *x = input + m * 3 * parts + p;
            const v_f z = gru_gate(s, plain, a[0]), r = gru_gate(s, plain, a[parts]);
            const v_f n = gru_candidate(s, plain, v_fma(r, a[2 * parts], x[2 * parts]));
            gru_update(s, z, n, row + m, block * GI_BLOCK + lane + p * V_LANES);
        }
    }
}

/* linear_before_reset = 0, first pass: z, r h and the candidate's input part go to scratch [3][nb * 16] per row. */
GI_INLINE void gru_reset_before_tile(const gi_step *s, const gi_cell_layout *at, const int plain, int64_t block,
                                     const int rows, const int parts, int64_t row, int part) {
    v_f input[V_TILE_ROWS * 3 * V_WIDE_PARTS], acc[V_TILE_ROWS * 2 * V_WIDE_PARTS];
    const int64_t lane = part * V_LANES, H = s->cell->hidden_size, span = gi_blocks(H) * GI_BLOCK;
    input_products(input, s, at, 3, block, rows, parts, row, lane);
    GI_UNROLL
    for (int i = 0; i < rows * 2 * parts; i++) acc[i] = input[i / (2 * parts) * 3 * parts + i % (2 * parts)];
    accumulate(acc, rows, 2, parts, s->h + row * s->h_stride, s->h_stride, H, s->packed + at->r + block * H * 2 * GI_BLOCK + lane,
               2 * GI_BLOCK);
    GI_UNROLL
    for (int m = 0; m < rows; m++) {
        GI_UNROLL
        for (int p = 0; p < parts; p++) {
            const int64_t unit = block * GI_BLOCK + lane + p * V_LANES;
            float *gate = s->gate + (row + m) * s->gate_stride + unit;
            const v_f h = load_lanes(s->h + (row + m) * s->h_stride + unit, H - unit);
            v_store(gate, gru_gate(s, plain, acc[m * 2 * parts + p]));
            v_store(gate + span, v_mul(gru_gate(s, plain, acc[(m * 2 + 1) * parts + p]), h));
            v_store(gate + 2 * span, input[(m * 3 + 2) * parts + p]);
        }
    }
}

/* Second pass, `lines` blocks at once: n = g(input part + R_n (r h)). */
GI_INLINE void gru_candidate_tile(const gi_step *s, const gi_cell_layout *at, const int plain, const int lines,
                                  int64_t block, const int rows, const int parts, int64_t row, int part) {
    v_f acc[V_TILE_ROWS * GI_DENSE_GROUP * V_WIDE_PARTS];
    const int64_t lane = part * V_LANES, H = s->cell->hidden_size, span = gi_blocks(H) * GI_BLOCK;
    const float *gate = s->gate + row * s->gate_stride;
    start_from(acc, rows, lines, parts, gate + 2 * span + block * GI_BLOCK + lane, s->gate_stride);
    accumulate(acc, rows, lines, parts, gate + span, s->gate_stride, H, s->packed + at->r_candidate + block * H * GI_BLOCK + lane,
               lines * GI_BLOCK);
    GI_UNROLL
    for (int m = 0; m < rows; m++) {
        GI_UNROLL
        for (int i = 0; i < lines * parts; i++) {
            const int64_t unit = (block + i / parts) * GI_BLOCK + lane + i % parts * V_LANES;
            const v_f z = v_load(gate + m * s->gate_stride + unit);
            gru_update(s, z, gru_candidate(s, plain, acc[m * lines * parts + i]), row + m, unit);
        }
    }
}

/* Calls body(lines) for each group of GI_DENSE_GROUP blocks, the last one smaller, with literal lines. */
#define GI_FOR_GROUPS(blocks, block, body)                                         \
    for (int64_t block = 0; block < (blocks); block += GI_DENSE_GROUP)             \
        switch ((blocks) - block) {                                                \
        case 1: body(1); break;                                                    \
        case 2: body(2); break;                                                    \
        case 3: body(3); break;                                                    \
        default: body(4); break;                                                   \
        }

GI_INLINE void gru_blocks(const gi_step *s, const int plain) {
    const gi_cell_layout at = gi_cell_place(s->cell);
    const int64_t blocks = gi_blocks(s->cell->hidden_size);
#define AFTER(rows, parts, row, part) gru_reset_after_tile(s, &at, plain, block, rows, parts, row, part)
#define BEFORE(rows, parts, row, part) gru_reset_before_tile(s, &at, plain, block, rows, parts, row, part)
    for (int64_t block = 0; block < blocks; block++)
        if (s->cell->linear_before_reset) GI_FOR_TILES(s->rows, AFTER);
        else GI_FOR_TILES(s->rows, BEFORE);
#undef AFTER
#undef BEFORE
    if (s->cell->linear_before_reset) return;
#define TILE(rows, parts, row, part) gru_candidate_tile(s, &at, plain, lines_, block, rows, parts, row, part)
#define GROUP(lines) do { const int lines_ = lines; GI_FOR_TILES(s->rows, TILE); } while (0)
    GI_FOR_GROUPS(blocks, block, GROUP)
#undef GROUP
#undef TILE
}

static void gru_step(const gi_step *s) {
    if (is_plain(s->cell, 2, 0)) gru_blocks(s, 1);
    else gru_blocks(s, 0);
}

/* ---- RNN: h' = f(W x + R h + Wb + Rb) ---------------------------------------------------------------------------------- */

GI_INLINE void rnn_tile(const gi_step *s, const gi_cell_layout *at, const int lines, int64_t block, const int rows,
                        const int parts, int64_t row, int part) {
    v_f acc[V_TILE_ROWS * GI_DENSE_GROUP * V_WIDE_PARTS];
    const int64_t lane = part * V_LANES, I = s->cell->input_size, H = s->cell->hidden_size, start = block * GI_BLOCK + lane;
    if (s->pre) {
        start_from(acc, rows, lines, parts, s->pre + row * s->pre_stride + start, s->pre_stride);
    } else {
        start_from(acc, rows, lines, parts, s->packed + at->bias + start, 0);
        accumulate(acc, rows, lines, parts, s->x + row * s->x_stride, s->x_stride, I,
                   s->packed + at->w + block * I * GI_BLOCK + lane, lines * GI_BLOCK);
    }
    accumulate(acc, rows, lines, parts, s->h + row * s->h_stride, s->h_stride, H,
               s->packed + at->r + block * H * GI_BLOCK + lane, lines * GI_BLOCK);
    GI_UNROLL
    for (int m = 0; m < rows; m++) {
        GI_UNROLL
        for (int i = 0; i < lines * parts; i++) {
            const int64_t unit = start + i / parts * GI_BLOCK + i % parts * V_LANES;
            store_lanes(s->h_next + (row + m) * s->h_next_stride + unit, gate_value(s->cell, acc[m * lines * parts + i], 0),
                        H - unit);
        }
    }
}

static void rnn_step(const gi_step *s) {
    const gi_cell_layout at = gi_cell_place(s->cell);
    const int64_t blocks = gi_blocks(s->cell->hidden_size);
#define TILE(rows, parts, row, part) rnn_tile(s, &at, lines_, block, rows, parts, row, part)
#define GROUP(lines) do { const int lines_ = lines; GI_FOR_TILES(s->rows, TILE); } while (0)
    GI_FOR_GROUPS(blocks, block, GROUP)
#undef GROUP
#undef TILE
}
