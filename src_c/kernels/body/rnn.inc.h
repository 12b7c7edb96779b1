/* RNN: h' = f(W x + R h + Wb + Rb), up to GI_DENSE_GROUP blocks at once. */

GI_INLINE void rnn_tile(const gi_step *s, const cell_form f, cell_spot spot) {
    v_f acc[TILE_ROWS * GI_DENSE_GROUP * V_WIDE_PARTS];
    const tile_shape t = f.t;
    const int64_t I = s->cell->input_size, H = s->cell->hidden_size, start = spot.block * GI_BLOCK + spot.part * V_LANES;
    if (s->pre) {
        start_from(acc, t.rows, t.lines, t.parts, s->pre + spot.row * s->pre_stride + start, s->pre_stride);
    } else {
        start_from(acc, t.rows, t.lines, t.parts, s->packed + s->at->bias + start, 0);
        accumulate(acc, t, spot.part, s->x + spot.row * s->x_stride, s->x_stride, I,
                   s->packed + s->at->w + spot.block * gi_line_floats(t.weights, I), NULL);
    }
    accumulate(acc, t, spot.part, s->h + spot.row * s->h_stride, s->h_stride, H,
               s->packed + s->at->r + spot.block * gi_line_floats(t.weights, H), NULL);
    GI_UNROLL
    for (int i = 0; i < t.rows * t.lines * t.parts; i++) {
        const int64_t unit = start + i / t.parts % t.lines * GI_BLOCK + i % t.parts * V_LANES, row = spot.row + i / (t.parts * t.lines);
        store_h(s, row, unit, gate_value(s->cell, acc[i], 0));
    }
}

GI_DEFINE_GROUPED_CELL(rnn, rnn_tile, 0)

static void rnn_band(const gi_step *s, const cell_band *b) {
    const int64_t first = b->block * GI_BLOCK;
    band_state(s, b, band_input(s, b), s->h, s->h_stride, s->at->r);
    for (int64_t m = 0; m < b->rows; m++)
        for (int64_t lane = 0; lane < b->lines * GI_BLOCK; lane += V_LANES)
            store_h(s, b->row + m, first + lane, gate_value(s->cell, v_load(b->sums + m * BAND_STRIDE + lane), 0));
}

static void rnn_step(const gi_step *s) { cell_groups(s, rnn, rnn_band); }
