/* Reductions over contiguous runs. Element i goes to lane i % 16 whatever the vector width, the last block is filled up with
 * the operation's neutral value, and the 16 lanes meet in one fixed tree (lane j with j + 8, + 4, + 2, + 1). */

typedef v_f v_join(v_f a, v_f b);

/* NaN stays once it is seen: v_max and v_min only pass on a NaN in their second operand. */
V_INLINE v_f v_max_nan(v_f a, v_f b) { return v_select(v_eq(a, a), v_max(a, b), a); }
V_INLINE v_f v_min_nan(v_f a, v_f b) { return v_select(v_eq(a, a), v_min(a, b), a); }

/* The 16 elements at src + i, filled up from n on: src itself or a copy in `last`. */
V_INLINE const float *block_at(const float *src, int64_t i, int64_t n, float fill, float *last /* [16] */) {
    if (n - i >= GI_BLOCK) return src + i;
    for (int j = 0; j < GI_BLOCK; j++) last[j] = i + j < n ? src[i + j] : fill;
    return last;
}

V_INLINE float tree(v_join *join, const v_f *acc /* [V_PARTS] */) {
    float lane[GI_BLOCK], one[V_LANES];
    for (int p = 0; p < V_PARTS; p++) v_store(lane + p * V_LANES, acc[p]);
    for (int half = GI_BLOCK / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) {
            v_store(one, join(v_set1(lane[j]), v_set1(lane[j + half])));
            lane[j] = one[0];
        }
    return lane[0];
}

V_INLINE v_f v_same(v_f x) { return x; }
V_INLINE v_f v_square(v_f x) { return v_mul(x, x); }
