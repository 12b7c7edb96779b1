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
    if (plain || s->packed[GI_HAS_PEEPHOLE] == 0) return NULL;
    return s->packed + s->at->extra + unit / GI_BLOCK * 3 * GI_BLOCK + unit % GI_BLOCK;
}

/* The new states from the pre-activations of a tile. All of c' before h': what a core looks ahead holds one row's update and
 * little more, and its two tanh wait for each other. */
GI_INLINE void lstm_update(const gi_step *s, const cell_form f, cell_spot spot, const v_f *acc) {
    v_f c[TILE_VECTORS];
    const int vectors = unit_vectors(f);
    GI_UNROLL
    for (int i = 0; i < vectors; i++) {
        const int64_t unit = unit_of(f, spot, i), row = row_of(f, spot, i), lanes = s->cell->hidden_size - unit;
        const v_f x[4] = {gate_of(acc, f, 0, i), gate_of(acc, f, 1, i), gate_of(acc, f, 2, i), gate_of(acc, f, 3, i)};
        c[i] = lstm_c(s->cell, f.plain, lstm_peep(s, f.plain, unit), x, load_lanes(s->c + row * s->c_stride + unit, lanes));
        lstm_store_c(s, row, unit, c[i]);
    }
    GI_UNROLL
    for (int i = 0; i < vectors; i++) {
        const int64_t unit = unit_of(f, spot, i), row = row_of(f, spot, i);
        store_h(s, row, unit, lstm_h(s->cell, f.plain, lstm_peep(s, f.plain, unit), gate_of(acc, f, 1, i), c[i]));
    }
}

GI_INLINE void lstm_tile(const gi_step *s, const cell_form f, cell_spot spot) {
    v_f acc[TILE_SUMS];
    input_products(acc, s, f, spot);
    state_products(acc, s, f, spot, s->h, s->h_stride, s->at->r);
    lstm_update(s, f, spot, acc);
}

#if V_ROW_BLOCKS > 1
GI_INLINE void lstm_end(const gi_step *s, int64_t block) {
    const int64_t H = s->cell->hidden_size;
    v_f acc[4 + GI_HALF_LINES(4)];
    end_input(acc, s, 4, block);
    end_products(acc, 4, GI_HALF_LINES(4), s->h, H, s->packed + s->at->r + block * 4 * GI_BLOCK * H);
    lstm_update(s, GI_END_WHOLE(4), (cell_spot){block, 0, 0}, acc);
    lstm_update(s, GI_END_HALF(4), (cell_spot){block + 1, 0, 0}, acc + 4);
}
#endif

GI_DEFINE_COMMON_CELL(lstm_plain, lstm_tile, lstm_end, 4)
GI_DEFINE_CELL(lstm_general, lstm_tile, 0, 4)

GI_INLINE void lstm_band(const gi_step *s, const cell_band *b, const int plain) {
    const int64_t first = b->block * GI_BLOCK, H = s->cell->hidden_size, lanes = gi_gate_lanes(s->at, b->block);
    band_state(s, b, band_input(s, b), s->h, s->h_stride, s->at->r);
    for (int64_t m = 0; m < b->rows; m++) {
        const float *sums = b->sums + m * BAND_STRIDE, *c = s->c + (b->row + m) * s->c_stride + first;
        v_f next[V_PARTS];
        for (int i = 0, lane = 0; lane < lanes; i++, lane += V_LANES) {
            v_f x[4] = {v_load(sums + lane), v_load(sums + lanes + lane), v_load(sums + 2 * lanes + lane),
                        v_load(sums + 3 * lanes + lane)};
            next[i] = lstm_c(s->cell, plain, lstm_peep(s, plain, first + lane), x, load_lanes(c + lane, H - first - lane));
            lstm_store_c(s, b->row + m, first + lane, next[i]);
        }
        for (int i = 0, lane = 0; lane < lanes; i++, lane += V_LANES)
            store_h(s, b->row + m, first + lane,
                    lstm_h(s->cell, plain, lstm_peep(s, plain, first + lane), v_load(sums + lanes + lane), next[i]));
    }
}

static void lstm_band_plain(const gi_step *s, const cell_band *b) { lstm_band(s, b, 1); }
static void lstm_band_general(const gi_step *s, const cell_band *b) { lstm_band(s, b, 0); }

GI_DEFINE_AHEAD(lstm_ahead, lstm_tile, 4)

static void lstm_step(const gi_step *s) {
    if (V_AHEAD && s->ahead) {
        ahead_blocks(s, &lstm_ahead);
        return;
    }
    const int plain = s->at->plain && s->packed[GI_HAS_PEEPHOLE] == 0;
    cell_blocks(s, &(plain ? lstm_plain : lstm_general)[s->cell->weights], plain ? lstm_band_plain : lstm_band_general, 4);
}
