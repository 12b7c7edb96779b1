/* GRU: h' = (1 - z) n + z h, gates in the order z r h. The two places of the reset gate are two cells. */

GI_INLINE v_f gru_gate(const gi_step *s, const int plain, v_f x) { return plain ? v_sigmoid(x) : gate_value(s->cell, x, 0); }
GI_INLINE v_f gru_candidate(const gi_step *s, const int plain, v_f x) { return plain ? v_tanh(x) : gate_value(s->cell, x, 1); }

GI_INLINE void gru_update(const gi_step *s, v_f z, v_f n, int64_t row, int64_t unit) {
    const int64_t lanes = s->cell->hidden_size - unit;
    const v_f h = load_lanes(s->h + row * s->h_stride + unit, lanes);
    const v_f kept = v_mul(v_sub(v_set1(1.0f), z), n);
    store_h(s, row, unit, v_fma(z, h, kept));
}

/* linear_before_reset = 1: n = g(W_n x + Wb_n + r (R_n h + Rb_n)), so the candidate has two accumulators. */
GI_INLINE void gru_reset_after_tile(const gi_step *s, const cell_form f, cell_spot spot) {
    v_f input[GI_TILE_VECTORS * 3], acc[GI_TILE_VECTORS * 3], candidate[GI_TILE_VECTORS];
    const tile_shape t = f.t;
    input_products(input, s, t, spot);
    GI_UNROLL
    for (int i = 0; i < t.blocks * t.rows * 3 * t.parts; i++) {
        const int64_t block = spot.block + i / (t.rows * 3 * t.parts), part = spot.part + i % t.parts;
        acc[i] = i / t.parts % 3 < 2 ? input[i] : v_load(s->packed + s->at->extra + block * GI_BLOCK + part * V_LANES);
    }
    state_products(acc, s, f, spot, s->h, s->h_stride, s->at->r);
    GI_UNROLL
    for (int i = 0; i < t.blocks * t.rows * t.parts; i++)
        candidate[i] = v_fma(gru_gate(s, f.plain, gate_of(acc, t, 1, i)), gate_of(acc, t, 2, i), gate_of(input, t, 2, i));
    GI_UNROLL
    for (int i = 0; i < t.blocks * t.rows * t.parts; i++) {
        const v_f z = gru_gate(s, f.plain, gate_of(acc, t, 0, i)), n = gru_candidate(s, f.plain, candidate[i]);
        gru_update(s, z, n, row_of(t, spot, i), unit_of(t, spot, i));
    }
}

GI_DEFINE_COMMON_CELL(gru_reset_after_plain, gru_reset_after_tile, 3)
GI_DEFINE_CELL(gru_reset_after_general, gru_reset_after_tile, 0, 3)

/* The input part of the candidate rests in line 3 of the sums. */
GI_INLINE void gru_reset_after_band(const gi_step *s, const cell_band *b, const int plain) {
    const band_start input = band_input(s, b);
    for (int64_t m = 0; m < b->rows; m++) {
        for (int64_t lane = 0; lane < GI_BLOCK; lane += V_LANES) {
            const float *from = input.p + m * input.stride + lane;
            float *sums = b->sums + m * BAND_STRIDE + lane;
            v_store(sums + 3 * GI_BLOCK, v_load(from + 2 * GI_BLOCK));
            v_store(sums, v_load(from)), v_store(sums + GI_BLOCK, v_load(from + GI_BLOCK));
            v_store(sums + 2 * GI_BLOCK, v_load(s->packed + s->at->extra + b->block * GI_BLOCK + lane));
        }
    }
    band_state(s, b, (band_start){b->sums, BAND_STRIDE}, s->h, s->h_stride, s->at->r);
    for (int64_t m = 0; m < b->rows; m++) {
        for (int64_t lane = 0; lane < GI_BLOCK; lane += V_LANES) {
            const float *sums = b->sums + m * BAND_STRIDE + lane;
            const v_f z = gru_gate(s, plain, v_load(sums)), r = gru_gate(s, plain, v_load(sums + GI_BLOCK));
            const v_f n = gru_candidate(s, plain, v_fma(r, v_load(sums + 2 * GI_BLOCK), v_load(sums + 3 * GI_BLOCK)));
            gru_update(s, z, n, b->row + m, b->block * GI_BLOCK + lane);
        }
    }
}

static void gru_reset_after_band_plain(const gi_step *s, const cell_band *b) { gru_reset_after_band(s, b, 1); }
static void gru_reset_after_band_general(const gi_step *s, const cell_band *b) { gru_reset_after_band(s, b, 0); }

GI_DEFINE_AHEAD(gru_ahead, gru_reset_after_tile, 3)

static void gru_reset_after_step(const gi_step *s) {
    if (V_AHEAD && s->ahead) {
        ahead_blocks(s, gru_ahead);
        return;
    }
    const cell_tiles *tiles = s->at->plain ? gru_reset_after_plain : gru_reset_after_general;
    cell_blocks(s, &tiles[s->cell->weights], s->at->plain ? gru_reset_after_band_plain : gru_reset_after_band_general, 3);
}

/* linear_before_reset = 0, first: z, r h and the candidate's input part go to scratch [3][nb * 16] per row. */
GI_INLINE void gru_reset_before_tile(const gi_step *s, const cell_form f, cell_spot spot) {
    v_f input[GI_TILE_VECTORS * 3], acc[GI_TILE_VECTORS * 2];
    const int64_t H = s->cell->hidden_size, span = gi_blocks(H) * GI_BLOCK;
    tile_shape t = f.t;
    input_products(input, s, t, spot);
    t.lines = 2;
    GI_UNROLL
    for (int i = 0; i < t.blocks * t.rows * t.parts; i++) {
        float *gate = s->gate + row_of(t, spot, i) * s->gate_stride + unit_of(t, spot, i);
        acc[i / t.parts * 2 * t.parts + i % t.parts] = gate_of(input, f.t, 0, i);
        acc[(i / t.parts * 2 + 1) * t.parts + i % t.parts] = gate_of(input, f.t, 1, i);
        v_store(gate + 2 * span, gate_of(input, f.t, 2, i));
    }
    state_products(acc, s, (cell_form){f.plain, t, 0}, spot, s->h, s->h_stride, s->at->r);
    GI_UNROLL
    for (int i = 0; i < t.blocks * t.rows * t.parts; i++) {
        const int64_t unit = unit_of(t, spot, i), row = row_of(t, spot, i);
        float *gate = s->gate + row * s->gate_stride + unit;
        v_store(gate, gru_gate(s, f.plain, gate_of(acc, t, 0, i)));
        v_store(gate + span, v_mul(gru_gate(s, f.plain, gate_of(acc, t, 1, i)), load_lanes(s->h + row * s->h_stride + unit, H - unit)));
    }
}

GI_DEFINE_COMMON_CELL(gru_reset_before_plain, gru_reset_before_tile, 3)
GI_DEFINE_CELL(gru_reset_before_general, gru_reset_before_tile, 0, 3)

GI_INLINE void gru_reset_before_band(const gi_step *s, const cell_band *b, const int plain) {
    const int64_t H = s->cell->hidden_size, span = gi_blocks(H) * GI_BLOCK, first = b->block * GI_BLOCK;
    const band_start input = band_input(s, b);
    for (int64_t m = 0; m < b->rows; m++)
        for (int64_t lane = 0; lane < GI_BLOCK; lane += V_LANES)
            v_store(s->gate + (b->row + m) * s->gate_stride + 2 * span + first + lane,
                    v_load(input.p + m * input.stride + 2 * GI_BLOCK + lane));
    const cell_band gates = {b->block, b->row, b->rows, b->block * 2, 2, b->sums};
    band_state(s, &gates, input, s->h, s->h_stride, s->at->r);
    for (int64_t m = 0; m < b->rows; m++) {
        for (int64_t lane = 0; lane < GI_BLOCK; lane += V_LANES) {
            const int64_t unit = first + lane, row = b->row + m;
            const float *sums = b->sums + m * BAND_STRIDE + lane;
            float *gate = s->gate + row * s->gate_stride + unit;
            v_store(gate, gru_gate(s, plain, v_load(sums)));
            v_store(gate + span, v_mul(gru_gate(s, plain, v_load(sums + GI_BLOCK)),
                                       load_lanes(s->h + row * s->h_stride + unit, H - unit)));
        }
    }
}

static void gru_reset_before_band_plain(const gi_step *s, const cell_band *b) { gru_reset_before_band(s, b, 1); }
static void gru_reset_before_band_general(const gi_step *s, const cell_band *b) { gru_reset_before_band(s, b, 0); }

static void gru_reset_before_step(const gi_step *s) {
    const cell_tiles *tiles = s->at->plain ? gru_reset_before_plain : gru_reset_before_general;
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
