/* Small GRU cells side by side: units 0 .. H - 1 of cell j in the lanes j H .. j H + H - 1 of one block. What a step of
 * one small cell costs is mostly activations of empty lanes and a way through the code; here several share it. Chains are
 * those of the cell alone (gru.inc.h), because each lane group multiplies with the state of its own cell. */

static const float side_lane[GI_BLOCK] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Lanes of part `part` that belong to cell j or one before it. */
GI_INLINE void side_masks(v_m *upto, const gi_side *s, const int cells, const int part) {
    GI_UNROLL
    for (int j = 0; j + 1 < cells; j++)
        upto[j] = v_lt(v_load(side_lane + part * V_LANES), v_set1((float)((j + 1) * s->hidden_size)));
}

/* x [cells], each in the lanes of its cell. */
GI_INLINE v_f side_join(const v_m *upto, const v_f *x, const int cells) {
    v_f joined = x[cells - 1];
    GI_UNROLL
    for (int j = cells - 2; j >= 0; j--) joined = v_select(upto[j], x[j], joined);
    return joined;
}

/* Part `part` of the state [16] after step t. */
GI_INLINE void side_part(const gi_side *s, const int cells, const int part, const v_m *upto, int64_t t) {
    const int64_t H = s->hidden_size;
    const float *h = s->before + t * GI_BLOCK, *r = s->r + part * V_LANES;
    v_f acc[3], x[GI_SIDE_CELLS];
    GI_UNROLL
    for (int g = 0; g < 3; g++) {
        GI_UNROLL
        for (int j = 0; j < cells; j++)
            x[j] = v_load(s->pre[j] + t * s->pre_stride[j] + g * GI_HALF_BLOCK + part * V_LANES - j * H);
        acc[g] = side_join(upto, x, cells);
    }
    const v_f input = acc[2];
    acc[2] = v_load(s->extra + part * V_LANES);
    for (int64_t k = 0; k < H; k++, r += 3 * GI_BLOCK) {
        GI_UNROLL
        for (int j = 0; j < cells; j++) x[j] = v_set1(h[j * H + k]);
        const v_f hk = side_join(upto, x, cells);
        GI_UNROLL
        for (int g = 0; g < 3; g++) acc[g] = v_fma(hk, v_load(r + g * GI_BLOCK), acc[g]);
    }
    const v_f z = v_sigmoid(acc[0]), n = v_tanh(v_fma(v_sigmoid(acc[1]), acc[2], input));
    const v_f kept = v_mul(v_sub(v_set1(1.0f), z), n);
    v_store(s->after + t * GI_BLOCK + part * V_LANES, v_fma(z, v_load(h + part * V_LANES), kept));
}

GI_INLINE void side_steps(const gi_side *s, const int cells) {
    v_m upto[V_PARTS][GI_SIDE_CELLS];
    GI_UNROLL
    for (int part = 0; part < V_PARTS; part++) side_masks(upto[part], s, cells, part);
    for (int64_t t = 0; t < s->steps; t++) {
        GI_UNROLL
        for (int part = 0; part < V_PARTS; part++) side_part(s, cells, part, upto[part], t);
    }
}

static __attribute__((noinline)) void side_two(const gi_side *s) { side_steps(s, 2); }
static __attribute__((noinline)) void side_three(const gi_side *s) { side_steps(s, 3); }
static __attribute__((noinline)) void side_four(const gi_side *s) { side_steps(s, 4); }

static void gru_side(const gi_side *s) {
    s->cells == 2 ? side_two(s) : s->cells == 3 ? side_three(s) : side_four(s);
}
