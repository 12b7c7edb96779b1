/* LSTM: C' = f C + i g,  h' = o tanh(C'), gates in the order i o f c. */

/* c' and h' of one vector of units from its pre-activations x [4] and old c. peep: the i o f lines of P here, or NULL. */
typedef struct lstm_state { v_f c, h; } lstm_state;

GI_INLINE lstm_state lstm_update(const v_f *x, v_f c) {
    const v_f i = v_sigmoid(x[0]), o = v_sigmoid(x[1]), f = v_sigmoid(x[2]), g = v_tanh(x[3]);
    const v_f next = v_fma(f, c, v_mul(i, g));
    return (lstm_state){next, v_mul(o, v_tanh(next))};
}

GI_INLINE lstm_state lstm_update_general(const gi_cell *cell, const float *peep, v_f *x, v_f c) {
    if (peep) x[0] = v_fma(v_load(peep), c, x[0]), x[2] = v_fma(v_load(peep + 2 * GI_BLOCK), c, x[2]);
    const v_f i = gate_value(cell, x[0], 0);
    const v_f f = cell->input_forget ? v_sub(v_set1(1.0f), i) : gate_value(cell, x[2], 0);
    const v_f next = v_fma(f, c, v_mul(i, gate_value(cell, x[3], 1)));
    if (peep) x[1] = v_fma(v_load(peep + GI_BLOCK), next, x[1]);
    return (lstm_state){next, v_mul(gate_value(cell, x[1], 0), activate(&cell->act[2], next))};
}

/* One vector of new states, from unit `unit` on. */
GI_INLINE void lstm_store(const gi_step *s, int64_t row, int64_t unit, lstm_state next) {
    const int64_t lanes = s->cell->hidden_size - unit;
    store_lanes(s->c_next + row * s->c_next_stride + unit, next.c, lanes);
    if (s->c_again) store_lanes(s->c_again + row * s->c_stride + unit, next.c, lanes);
    store_h(s, row, unit, next.h);
}

GI_INLINE void lstm_tile(const gi_step *s, const cell_form f, cell_spot spot) {
    v_f acc[GI_TILE_VECTORS * 4];
    const int has_peephole = !f.plain && s->packed[0] != 0;
    input_products(acc, s, f.t, spot);
    state_products(acc, s, f, spot, s->h, s->h_stride, s->at->r);
    GI_UNROLL
    for (int i = 0; i < f.t.blocks * f.t.rows * f.t.parts; i++) {
        const int64_t unit = unit_of(f.t, spot, i), row = row_of(f.t, spot, i), lanes = s->cell->hidden_size - unit;
        const float *peep = has_peephole ? s->packed + s->at->extra + unit / GI_BLOCK * 3 * GI_BLOCK + unit % GI_BLOCK : NULL;
        const v_f c = load_lanes(s->c + row * s->c_stride + unit, lanes);
        v_f x[4] = {gate_of(acc, f.t, 0, i), gate_of(acc, f.t, 1, i), gate_of(acc, f.t, 2, i), gate_of(acc, f.t, 3, i)};
        const lstm_state next = f.plain ? lstm_update(x, c) : lstm_update_general(s->cell, peep, x, c);
        lstm_store(s, row, unit, next);
    }
}

GI_DEFINE_COMMON_CELL(lstm_plain, lstm_tile, 4)
GI_DEFINE_CELL(lstm_general, lstm_tile, 0, 4)

GI_INLINE void lstm_band(const gi_step *s, const cell_band *b, const int plain) {
    const int64_t H = s->cell->hidden_size;
    const float *peep = !plain && s->packed[0] != 0 ? s->packed + s->at->extra + b->block * 3 * GI_BLOCK : NULL;
    band_state(s, b, band_input(s, b), s->h, s->h_stride, s->at->r);
    for (int64_t m = 0; m < b->rows; m++) {
        for (int64_t lane = 0; lane < GI_BLOCK; lane += V_LANES) {
            const int64_t unit = b->block * GI_BLOCK + lane, row = b->row + m, lanes = H - unit;
            const float *sums = b->sums + m * BAND_STRIDE + lane;
            const v_f c = load_lanes(s->c + row * s->c_stride + unit, lanes);
            v_f x[4] = {v_load(sums), v_load(sums + GI_BLOCK), v_load(sums + 2 * GI_BLOCK), v_load(sums + 3 * GI_BLOCK)};
            const lstm_state next = plain ? lstm_update(x, c) : lstm_update_general(s->cell, peep ? peep + lane : NULL, x, c);
            lstm_store(s, row, unit, next);
        }
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
