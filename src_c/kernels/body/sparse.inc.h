/* The product of a single row of which few inputs are not zero, as a Relu or a one-hot vector has them: the others' weights are
 * not read.
 *
 * The bits are those of `product`. Adding a finite weight times zero changes no sum but one: -0 may become +0, and the sums that
 * follow are the same for either. So a chain with those left out differs in the sign of a zero at most, and only if it ends with
 * -0 itself. One that ends with anything else is right. */

GI_INLINE v_m is_minus_zero(v_f a) { return v_and(v_eq(a, v_set1(0.0f)), v_lt(v_copysign(v_set1(1.0f), a), v_set1(0.0f))); }

/* Returns 0 if one of its sums is -0. */
GI_INLINE int sparse_group(const gi_product *p, const int lines, int64_t first, const float *panel, const int32_t *index,
                           int64_t count) {
    const tile_shape t = {GI_WEIGHTS_F32, 1, 1, lines, V_WIDE_PARTS, 0};
    const tile_x x = rows_of(p->x, 0, 1);
    int found = 1;
    for (int part = 0; part < V_PARTS; part += V_WIDE_PARTS) {
        v_f acc[GI_DENSE_GROUP * V_WIDE_PARTS];
        start_from(acc, 1, lines, t.parts, p->start + first + part * V_LANES, 0);
        for (int64_t i = 0; i < count; i++) {
            const int64_t k = index[i];
            multiply_add(acc, t, V_PARTS == 1 ? 0 : part, &x, k, panel + k * lines * GI_BLOCK, 0, NULL);
            settle(acc, t);
        }
        store_row(p, t, first, 0, part, acc);
        GI_UNROLL
        for (int i = 0; i < lines * t.parts; i++) found &= !v_any(is_minus_zero(acc[i]));
    }
    return found;
}

static int sparse_groups(const gi_product *p, const int32_t *index, int64_t count) {
    const int64_t blocks = gi_blocks(p->width);
    int found = 1;
    for (int64_t block = 0, lines; block < blocks && found; block += lines) {
        lines = gi_group_lines(blocks, p->lines, block);
        const int64_t first = block * GI_BLOCK;
        const float *panel = p->panels + first * p->depth + p->step * lines * GI_BLOCK;
        switch (lines) {
        case 4: found = sparse_group(p, 4, first, panel, index, count); break;
        case 3: found = sparse_group(p, 3, first, panel, index, count); break;
        case 2: found = sparse_group(p, 2, first, panel, index, count); break;
        default: found = sparse_group(p, 1, first, panel, index, count); break;
        }
    }
    return found;
}

static int sparse_product(const gi_product *p, int32_t *index) {
    const float nonzero = reduce_run(JOIN_SUM, EACH_NONZERO, p->x, p->K, 0, 0, 0);
    if (nonzero * GI_SPARSE_PART > (float)p->K) return 0;
    int64_t count = 0;
    for (int64_t k = 0; k < p->K; k++) index[count] = (int32_t)k, count += p->x[k] != 0;
    return sparse_groups(p, index, count);
}
