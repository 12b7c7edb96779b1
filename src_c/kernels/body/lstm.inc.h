/* LSTM: C' = f C + i g,  h' = o tanh(C'), gates in the order i o f c. */

/* c' of one vector of units from its pre-activations x [4] and old c. peep: the i o f lines of P here, or NULL. */
GI_INLINE v_f lstm_c(const gi_cell *cell, const int plain, const float *peep, const v_f *x, v_f c) {
    if (plain) return v_fma(v_sigmoid(x[2]), c, v_mul(v_sigmoid(x[0]), v_tanh(x[3])));
    const v_f i = gate_value(cell, peep ? v_fma(v_load(peep), c, x[0]) : x[0], 0);
    const v_f to_f = peep ? v_fma(v_load(peep + 2 * GI_BLOCK), c, x[2]) : x[2];
    const v_f f = cell->input_forget ? v_sub(v_set1(1.0f), i) : gate_value(cell, to_f, 0);
    return v_fma(f, c, v_mul(i, gate_value(cell, x[3], 1)));
}

/* h' from the pre-activation of o and c'. */
GI_INLINE v_f lstm_h(const gi_cell *cell, const int plain, const float *peep, v_f o, v_f c) {
    if (plain) return v_mul(v_sigmoid(o), v_tanh(c));
    return v_mul(gate_value(cell, peep ? v_fma(v_load(peep + GI_BLOCK), c, o) : o, 0), activate(&cell->act[2], c));
}

/* One vector of new cell states, from unit `unit` on. */
GI_INLINE void lstm_store_c(const gi_step *s, int64_t row, int64_t unit, v_f c) {
    const int64_t lanes = s->cell->hidden_size - unit;
    store_lanes(s->c_next + row * s->c_next_stride + unit, c, lanes);
    if (s->c_again) store_lanes(s->c_again + row * s->c_stride + unit, c, lanes);
}

/* P's i o f lines where it has any, from unit `unit` on. */
GI_INLINE const float *lstm_peep(const gi_step *s, const int plain, int64_t unit) {
    if (plain || s->packed[0] == 0) return NULL;
    return s->packed + s->at->extra + unit / GI_BLOCK * 3 * GI_BLOCK + unit % GI_BLOCK;
}

/* All of c' before h': what a core looks ahead holds one row's update and little more, and its two tanh wait for each other. */
GI_INLINE void lstm_tile(const gi_step *s, const cell_form f, cell_spot spot) {
    v_f acc[GI_TILE_VECTORS * 4], c[GI_TILE_VECTORS];
    const int vectors = f.t.blocks * f.t.rows * f.t.parts;
    input_products(acc, s, f.t, spot);
    state_products(acc, s, f, spot, s->h, s->h_stride, s->at->r);
    GI_UNROLL
    for (int i = 0; i < vectors; i++) {
        const int64_t unit = unit_of(f.t, spot, i), row = row_of(f.t, spot, i), lanes = s->cell->hidden_size - unit;
        const v_f x[4] = {gate_of(acc, f.t, 0, i), gate_of(acc, f.t, 1, i), gate_of(acc, f.t, 2, i), gate_of(acc, f.t, 3, i)};
        c[i] = lstm_c(s->cell, f.plain, lstm_peep(s, f.plain, unit), x, load_lanes(s->c + row * s->c_stride + unit, lanes));
        lstm_store_c(s, row, unit, c[i]);
    }
    GI_UNROLL
    for (int i = 0; i < vectors; i++) {
        const int64_t unit = unit_of(f.t, spot, i), row = row_of(f.t, spot, i);
        store_h(s, row, unit, lstm_h(s->cell, f.plain, lstm_peep(s, f.plain, unit), gate_of(acc, f.t, 1, i), c[i]));
    }
}

GI_DEFINE_COMMON_CELL(lstm_plain, lstm_tile, 4)
GI_DEFINE_CELL(lstm_general, lstm_tile, 0, 4)

GI_INLINE void lstm_band(const gi_step *s, const cell_band *b, const int plain) {
    const int64_t first = b->block * GI_BLOCK, H = s->cell->hidden_size;
    band_state(s, b, band_input(s, b), s->h, s->h_stride, s->at->r);
    for (int64_t m = 0; m < b->rows; m++) {
        const float *sums = b->sums + m * BAND_STRIDE, *c = s->c + (b->row + m) * s->c_stride + first;
        v_f next[V_PARTS];
        for (int i = 0, lane = 0; i < V_PARTS; i++, lane += V_LANES) {
            v_f x[4] = {v_load(sums + lane), v_load(sums + GI_BLOCK + lane), v_load(sums + 2 * GI_BLOCK + lane),
                        v_load(sums + 3 * GI_BLOCK + lane)};
            next[i] = lstm_c(s->cell, plain, lstm_peep(s, plain, first + lane), x, load_lanes(c + lane, H - first - lane));
            lstm_store_c(s, b->row + m, first + lane, next[i]);
        }
        for (int i = 0, lane = 0; i < V_PARTS; i++, lane += V_LANES)
            store_h(s, b->row + m, first + lane,
                    lstm_h(s->cell, plain, lstm_peep(s, plain, first + lane), v_load(sums + GI_BLOCK + lane), next[i]));
    }
}

static void lstm_band_plain(const gi_step *s, const cell_band *b) { lstm_band(s, b, 1); }
static void lstm_band_general(const gi_step *s, const cell_band *b) { lstm_band(s, b, 0); }

GI_DEFINE_AHEAD(lstm_ahead, lstm_tile, 4)

static void lstm_step(const gi_step *s) {
    if (V_AHEAD && s->ahead) {
        ahead_blocks(s, lstm_ahead);
        return;
    }
    const int plain = s->at->plain && s->packed[0] == 0;
    cell_blocks(s, &(plain ? lstm_plain : lstm_general)[s->cell->weights], plain ? lstm_band_plain : lstm_band_general, 4);
}
