/* GRU: h' = (1 - z) n + z h, gates in the order z r h. The two places of the reset gate are two cells. */

GI_INLINE v_f gru_gate(const gi_step *s, const int plain, v_f x) { return plain ? v_sigmoid(x) : gate_value(s->cell, x, 0); }
GI_INLINE v_f gru_candidate(const gi_step *s, const int plain, v_f x) { return plain ? v_tanh(x) : gate_value(s->cell, x, 1); }

GI_INLINE void gru_update(const gi_step *s, v_f z, v_f n, int64_t row, int64_t unit) {
    const int64_t lanes = s->cell->hidden_size - unit;
    const v_f h = load_lanes(s->h + row * s->h_stride + unit, lanes);
    const v_f kept = v_mul(v_sub(v_set1(1.0f), z), n);
    store_h(s, row, unit, v_fma(z, h, kept));
}

/* linear_before_reset = 1: n = g(W_n x + Wb_n + r (R_n h + Rb_n)), so the candidate has two accumulators. acc = input, but the
 * candidate's line, which is the last, = Rb_n. */
GI_INLINE void gru_start_state(v_f *acc, const gi_step *s, const cell_form f, cell_spot spot, const v_f *input) {
    const tile_shape t = f.t;
    GI_UNROLL
    for (int i = 0; i < t.blocks * t.rows * t.lines * t.parts; i++) {
        const int64_t block = spot.block + i / (t.rows * t.lines * t.parts), part = spot.part + i % t.parts;
        const int is_last = i / t.parts % t.lines == t.lines - 1;
        acc[i] = is_last ? v_load(s->packed + s->at->extra + block * GI_BLOCK + part * V_LANES) : input[i];
    }
}

GI_INLINE void gru_reset_after_update(const gi_step *s, const cell_form f, cell_spot spot, const v_f *input, const v_f *acc) {
    v_f candidate[TILE_VECTORS];
    GI_UNROLL
    for (int i = 0; i < unit_vectors(f); i++)
        candidate[i] = v_fma(gru_gate(s, f.plain, gate_of(acc, f, 1, i)), gate_of(acc, f, 2, i), gate_of(input, f, 2, i));
    GI_UNROLL
    for (int i = 0; i < unit_vectors(f); i++) {
        const v_f z = gru_gate(s, f.plain, gate_of(acc, f, 0, i)), n = gru_candidate(s, f.plain, candidate[i]);
        gru_update(s, z, n, row_of(f, spot, i), unit_of(f, spot, i));
    }
}

GI_INLINE void gru_reset_after_tile(const gi_step *s, const cell_form f, cell_spot spot) {
    v_f input[TILE_SUMS], acc[TILE_SUMS];
    input_products(input, s, f, spot);
    gru_start_state(acc, s, f, spot, input);
    state_products(acc, s, f, spot, s->h, s->h_stride, s->at->r);
    gru_reset_after_update(s, f, spot, input, acc);
}

#if V_ROW_BLOCKS > 1
GI_INLINE void gru_reset_after_end(const gi_step *s, int64_t block) {
    const int64_t H = s->cell->hidden_size;
    const cell_form whole = GI_END_WHOLE(3), half = GI_END_HALF(3);
    const cell_spot first = {block, 0, 0}, last = {block + 1, 0, 0};
    v_f input[3 + GI_HALF_LINES(3)], acc[3 + GI_HALF_LINES(3)];
    end_input(input, s, 3, block);
    gru_start_state(acc, s, whole, first, input), gru_start_state(acc + 3, s, half, last, input + 3);
    end_products(acc, 3, GI_HALF_LINES(3), s->h, H, s->packed + s->at->r + block * 3 * GI_BLOCK * H);
    gru_reset_after_update(s, whole, first, input, acc), gru_reset_after_update(s, half, last, input + 3, acc + 3);
}
#endif

GI_DEFINE_COMMON_CELL(gru_reset_after_plain, gru_reset_after_tile, gru_reset_after_end, 3)
GI_DEFINE_CELL(gru_reset_after_general, gru_reset_after_tile, 0, 3)

/* The input part of the candidate rests in line 3 of the sums, which no block has. */
GI_INLINE void gru_reset_after_band(const gi_step *s, const cell_band *b, const int plain) {
    const band_start input = band_input(s, b);
    const int64_t lanes = gi_gate_lanes(s->at, b->block);
    for (int64_t m = 0; m < b->rows; m++) {
        for (int64_t lane = 0; lane < lanes; lane += V_LANES) {
            const float *from = input.p + m * input.stride + lane;
            float *sums = b->sums + m * BAND_STRIDE + lane;
            v_store(sums + 3 * GI_BLOCK, v_load(from + 2 * lanes));
            v_store(sums, v_load(from)), v_store(sums + lanes, v_load(from + lanes));
            v_store(sums + 2 * lanes, v_load(s->packed + s->at->extra + b->block * GI_BLOCK + lane));
        }
    }
    band_state(s, b, (band_start){b->sums, BAND_STRIDE}, s->h, s->h_stride, s->at->r);
    for (int64_t m = 0; m < b->rows; m++) {
        const float *sums = b->sums + m * BAND_STRIDE;
        v_f candidate[V_PARTS];
        for (int i = 0, lane = 0; lane < lanes; i++, lane += V_LANES) {
            const v_f r = gru_gate(s, plain, v_load(sums + lanes + lane));
            candidate[i] = v_fma(r, v_load(sums + 2 * lanes + lane), v_load(sums + 3 * GI_BLOCK + lane));
        }
        for (int i = 0, lane = 0; lane < lanes; i++, lane += V_LANES) {
            const v_f z = gru_gate(s, plain, v_load(sums + lane));
            gru_update(s, z, gru_candidate(s, plain, candidate[i]), b->row + m, b->block * GI_BLOCK + lane);
        }
    }
}

static void gru_reset_after_band_plain(const gi_step *s, const cell_band *b) { gru_reset_after_band(s, b, 1); }
static void gru_reset_after_band_general(const gi_step *s, const cell_band *b) { gru_reset_after_band(s, b, 0); }

GI_DEFINE_AHEAD(gru_ahead, gru_reset_after_tile, 3)

static void gru_reset_after_step(const gi_step *s) {
    if (V_AHEAD && s->ahead) {
        ahead_blocks(s, &gru_ahead);
        return;
    }
    const gate_tiles *tiles = s->at->plain ? gru_reset_after_plain : gru_reset_after_general;
    cell_blocks(s, &tiles[s->cell->weights], s->at->plain ? gru_reset_after_band_plain : gru_reset_after_band_general, 3);
}

/* linear_before_reset = 0, first: z, r h and the candidate's input part go to scratch [3][nb * 16] per row. */
GI_INLINE cell_form gru_z_r(cell_form f) {
    f.gates = 2, f.t.lines--;
    return f;
}

/* acc = input without the candidate's line, which is the last and goes to scratch. */
GI_INLINE void gru_set_aside(v_f *acc, const gi_step *s, const cell_form f, cell_spot spot, const v_f *input) {
    const int64_t span = gi_blocks(s->cell->hidden_size) * GI_BLOCK;
    const int width = f.t.lines * f.t.parts, kept = width - f.t.parts;
    GI_UNROLL
    for (int i = 0; i < f.t.blocks * f.t.rows * kept; i++) acc[i] = input[i / kept * width + i % kept];
    GI_UNROLL
    for (int i = 0; i < unit_vectors(f); i++)
        v_store(s->gate + row_of(f, spot, i) * s->gate_stride + unit_of(f, spot, i) + 2 * span, gate_of(input, f, 2, i));
}

/* f: of z and r. */
GI_INLINE void gru_reset_before_update(const gi_step *s, const cell_form f, cell_spot spot, const v_f *acc) {
    const int64_t H = s->cell->hidden_size, span = gi_blocks(H) * GI_BLOCK;
    GI_UNROLL
    for (int i = 0; i < unit_vectors(f); i++) {
        const int64_t unit = unit_of(f, spot, i), row = row_of(f, spot, i);
        float *gate = s->gate + row * s->gate_stride + unit;
        v_store(gate, gru_gate(s, f.plain, gate_of(acc, f, 0, i)));
        const v_f h = load_lanes(s->h + row * s->h_stride + unit, H - unit);
        v_store(gate + span, v_mul(gru_gate(s, f.plain, gate_of(acc, f, 1, i)), h));
    }
}

GI_INLINE void gru_reset_before_tile(const gi_step *s, const cell_form f, cell_spot spot) {
    v_f input[TILE_SUMS], acc[TILE_SUMS];
    input_products(input, s, f, spot);
    gru_set_aside(acc, s, f, spot, input);
    state_products(acc, s, gru_z_r(f), spot, s->h, s->h_stride, s->at->r);
    gru_reset_before_update(s, gru_z_r(f), spot, acc);
}

#if V_ROW_BLOCKS > 1
GI_INLINE void gru_reset_before_end(const gi_step *s, int64_t block) {
    const int64_t H = s->cell->hidden_size;
    const cell_form whole = GI_END_WHOLE(3), half = GI_END_HALF(3);
    const cell_spot first = {block, 0, 0}, last = {block + 1, 0, 0};
    v_f input[3 + GI_HALF_LINES(3)], acc[2 + GI_HALF_LINES(2)];
    end_input(input, s, 3, block);
    gru_set_aside(acc, s, whole, first, input), gru_set_aside(acc + 2, s, half, last, input + 3);
    end_products(acc, 2, GI_HALF_LINES(2), s->h, H, s->packed + s->at->r + block * 2 * GI_BLOCK * H);
    gru_reset_before_update(s, gru_z_r(whole), first, acc), gru_reset_before_update(s, gru_z_r(half), last, acc + 2);
}
#endif

GI_DEFINE_COMMON_CELL(gru_reset_before_plain, gru_reset_before_tile, gru_reset_before_end, 3)
GI_DEFINE_CELL(gru_reset_before_general, gru_reset_before_tile, 0, 3)

GI_INLINE void gru_reset_before_band(const gi_step *s, const cell_band *b, const int plain) {
    const int64_t H = s->cell->hidden_size, span = gi_blocks(H) * GI_BLOCK, first = b->block * GI_BLOCK;
    const int64_t lanes = gi_gate_lanes(s->at, b->block);
    const band_start input = band_input(s, b);
    for (int64_t m = 0; m < b->rows; m++)
        for (int64_t lane = 0; lane < lanes; lane += V_LANES)
            v_store(s->gate + (b->row + m) * s->gate_stride + 2 * span + first + lane,
                    v_load(input.p + m * input.stride + 2 * lanes + lane));
    const cell_band gates = {b->block, b->row, b->rows, b->block * 2, b->lines - 1, b->sums};
    band_state(s, &gates, input, s->h, s->h_stride, s->at->r);
    for (int64_t m = 0; m < b->rows; m++) {
        for (int64_t lane = 0; lane < lanes; lane += V_LANES) {
            const int64_t unit = first + lane, row = b->row + m;
            const float *sums = b->sums + m * BAND_STRIDE + lane;
            float *gate = s->gate + row * s->gate_stride + unit;
            v_store(gate, gru_gate(s, plain, v_load(sums)));
            v_store(gate + span, v_mul(gru_gate(s, plain, v_load(sums + lanes)),
                                       load_lanes(s->h + row * s->h_stride + unit, H - unit)));
        }
    }
}

static void gru_reset_before_band_plain(const gi_step *s, const cell_band *b) { gru_reset_before_band(s, b, 1); }
static void gru_reset_before_band_general(const gi_step *s, const cell_band *b) { gru_reset_before_band(s, b, 0); }

static void gru_reset_before_step(const gi_step *s) {
    const gate_tiles *tiles = s->at->plain ? gru_reset_before_plain : gru_reset_before_general;
    cell_blocks(s, &tiles[s->cell->weights], s->at->plain ? gru_reset_before_band_plain : gru_reset_before_band_general, 3);
}

/* Then, `lines` blocks at once and for all units together: n = g(input part + R_n (r h)). */
GI_INLINE void gru_candidate_tile(const gi_step *s, const cell_form f, cell_spot spot) {
    v_f acc[TILE_ROWS * GI_DENSE_GROUP * V_WIDE_PARTS];
    const tile_shape t = f.t;
    const int64_t H = s->cell->hidden_size, span = gi_blocks(H) * GI_BLOCK;
    const float *gate = s->gate + spot.row * s->gate_stride + spot.block * GI_BLOCK + spot.part * V_LANES;
    start_from(acc, t.rows, t.lines, t.parts, gate + 2 * span, s->gate_stride);
    accumulate(acc, t, spot.part, s->gate + spot.row * s->gate_stride + span, s->gate_stride, H,
               s->packed + s->at->r_candidate + spot.block * gi_line_floats(t.weights, H), NULL);
    GI_UNROLL
    for (int i = 0; i < t.rows * t.lines * t.parts; i++) {
        const int64_t line = i / t.parts % t.lines, m = i / (t.parts * t.lines), lane = i % t.parts * V_LANES;
        const v_f z = v_load(gate + m * s->gate_stride + line * GI_BLOCK + lane);
        gru_update(s, z, gru_candidate(s, f.plain, acc[i]), spot.row + m, (spot.block + line) * GI_BLOCK + spot.part * V_LANES + lane);
    }
}

GI_DEFINE_GROUPED_CELL(gru_candidate_plain, gru_candidate_tile, 1)
GI_DEFINE_GROUPED_CELL(gru_candidate_general, gru_candidate_tile, 0)

GI_INLINE void gru_candidate_band(const gi_step *s, const cell_band *b, const int plain) {
    const int64_t span = gi_blocks(s->cell->hidden_size) * GI_BLOCK, first = b->block * GI_BLOCK;
    const float *gate = s->gate + b->row * s->gate_stride + first;
    band_state(s, b, (band_start){gate + 2 * span, s->gate_stride}, s->gate + span, s->gate_stride, s->at->r_candidate);
    for (int64_t m = 0; m < b->rows; m++) {
        for (int64_t lane = 0; lane < b->lines * GI_BLOCK; lane += V_LANES) {
            const v_f z = v_load(gate + m * s->gate_stride + lane);
            gru_update(s, z, gru_candidate(s, plain, v_load(b->sums + m * BAND_STRIDE + lane)), b->row + m, first + lane);
        }
    }
}

static void gru_candidate_band_plain(const gi_step *s, const cell_band *b) { gru_candidate_band(s, b, 1); }
static void gru_candidate_band_general(const gi_step *s, const cell_band *b) { gru_candidate_band(s, b, 0); }

static void gru_candidate_step(const gi_step *s) {
    cell_groups(s, s->at->plain ? gru_candidate_plain : gru_candidate_general,
                s->at->plain ? gru_candidate_band_plain : gru_candidate_band_general);
}
