/* Reductions over contiguous runs, or of neighbouring columns. Element i goes to lane i % 16 whatever the vector width, the last
 * block is filled up with a neutral value, and the 16 lanes meet in one fixed tree: lane j with j + 8, then + 4, + 2, + 1. */

enum { JOIN_SUM, JOIN_PROD, JOIN_MAX, JOIN_MIN };
enum { EACH_SELF, EACH_SQUARE /* (x - shift)^2 */, EACH_EXP /* e^(x - shift) */, EACH_NONZERO /* 1 */ };

/* NaN stays once it is seen, which v_max and v_min alone promise only for their second operand. */
V_INLINE v_f v_max_nan(v_f a, v_f b) { return v_select(v_eq(a, a), v_max(a, b), a); }
V_INLINE v_f v_min_nan(v_f a, v_f b) { return v_select(v_eq(a, a), v_min(a, b), a); }

V_INLINE v_f join(const int op, v_f a, v_f b) {
    switch (op) {
    case JOIN_SUM: return v_add(a, b);
    case JOIN_PROD: return v_mul(a, b);
    case JOIN_MAX: return v_max_nan(a, b);
    default: return v_min_nan(a, b);
    }
}

/* acc [count] meet in the first: j with j + count / 2, and so on. */
V_INLINE void meet(const int op, v_f *acc, const int count) {
    GI_UNROLL
    for (int half = count / 2; half > 0; half /= 2) {
        GI_UNROLL
        for (int j = 0; j < half; j++) acc[j] = join(op, acc[j], acc[j + half]);
    }
}

/* The 16 lanes of acc [V_PARTS] meet: parts with parts, then lanes with lanes. */
V_INLINE float tree(const int op, v_f *acc) {
    meet(op, acc, V_PARTS);
    GI_UNROLL
    for (int half = V_LANES / 2; half > 0; half /= 2) acc[0] = join(op, acc[0], v_down(acc[0], half));
    return v_first_lane(acc[0]);
}

V_INLINE v_f accumulate_each(const int op, const int each, v_f acc, v_f x, v_f shift) {
    if (each == EACH_SELF) return join(op, x, acc);
    if (each == EACH_NONZERO) return v_add(v_select(v_eq(x, v_set1(0.0f)), v_set1(0.0f), v_set1(1.0f)), acc);
    x = v_sub(x, shift);
    return each == EACH_SQUARE ? v_fma(x, x, acc) : v_add(v_exp(x), acc);
}

/* neutral: what an empty run gives. fill: an element that leaves an accumulator as it is. */
V_INLINE float reduce_run(const int op, const int each, const float *src, int64_t n, float shift, float neutral,
                          float fill) {
    v_f acc[V_PARTS];
    int64_t i = 0;
    for (int p = 0; p < V_PARTS; p++) acc[p] = v_set1(neutral);
    for (; i + GI_BLOCK <= n; i += GI_BLOCK) {
        GI_UNROLL
        for (int p = 0; p < V_PARTS; p++)
            acc[p] = accumulate_each(op, each, acc[p], v_load(src + i + p * V_LANES), v_set1(shift));
    }
    GI_UNROLL
    for (int p = 0; p < V_PARTS && i < n; p++) {
        const v_f x = v_load_or(src + i + p * V_LANES, n - i - p * V_LANES, v_set1(fill));
        acc[p] = accumulate_each(op, each, acc[p], x, v_set1(shift));
    }
    return tree(op, acc);
}

/* A vector holds neighbouring columns, acc [lane] that lane of the run of each. neutral: what fills up the last block, too. */
V_INLINE void reduce_beside(const int op, const int each, float *dst, const float *src, int64_t stride, int64_t n,
                            int64_t columns, float neutral) {
    const v_f fill = v_set1(neutral);
    for (int64_t j = 0; j < columns; j += V_LANES) {
        v_f acc[GI_BLOCK];
        GI_UNROLL
        for (int lane = 0; lane < GI_BLOCK; lane++) acc[lane] = fill;
        for (int64_t i = 0; i < n; i += GI_BLOCK) {
            GI_UNROLL
            for (int lane = 0; lane < GI_BLOCK; lane++) {
                if (lane >= n) continue;   /* no block has an element there */
                const v_f x = i + lane < n ? load_lanes(src + (i + lane) * stride + j, columns - j) : fill;
                acc[lane] = accumulate_each(op, each, acc[lane], x, v_set1(0.0f));
            }
        }
        meet(op, acc, GI_BLOCK);
        store_lanes(dst + j, acc[0], columns - j);
    }
}

/* reduce_<name> and columns_<name>. neutral is what fills up, too. */
#define GI_DEFINE_REDUCTION(name, op, each, neutral)                                                              \
    static float reduce_##name(const float *src, int64_t n) { return reduce_run(op, each, src, n, 0, neutral, neutral); } \
    static void columns_##name(float *dst, const float *src, int64_t stride, int64_t n, int64_t columns) {        \
        reduce_beside(op, each, dst, src, stride, n, columns, neutral);                                           \
    }
GI_DEFINE_REDUCTION(sum, JOIN_SUM, EACH_SELF, 0)
GI_DEFINE_REDUCTION(prod, JOIN_PROD, EACH_SELF, 1)
GI_DEFINE_REDUCTION(max, JOIN_MAX, EACH_SELF, -INFINITY)
GI_DEFINE_REDUCTION(min, JOIN_MIN, EACH_SELF, INFINITY)
GI_DEFINE_REDUCTION(squares, JOIN_SUM, EACH_SQUARE, 0)

static float dot(const float *x, const float *w, int64_t K) {
    v_f acc[V_PARTS];
    int64_t k = 0;
    for (int p = 0; p < V_PARTS; p++) acc[p] = v_set1(0.0f);
    for (; k + GI_BLOCK <= K; k += GI_BLOCK) {
        GI_UNROLL
        for (int p = 0; p < V_PARTS; p++)
            acc[p] = v_fma(v_load(x + k + p * V_LANES), v_load(w + k + p * V_LANES), acc[p]);
    }
    GI_UNROLL
    for (int p = 0; p < V_PARTS && k < K; p++) {
        const int64_t at = k + p * V_LANES;
        acc[p] = v_fma(v_load_n(x + at, K - at), v_load_n(w + at, K - at), acc[p]);
    }
    return tree(JOIN_SUM, acc);
}

/* dst = (x - top) - log sum e^(x - top), where `top` is the largest x. */
static void log_softmax(float *dst, const float *src, int64_t n, float top) {
    const v_f log_sum = v_log(v_set1(reduce_run(JOIN_SUM, EACH_EXP, src, n, top, 0, -INFINITY)));
    for (int64_t i = 0; i < n; i += V_LANES)
        store_lanes(dst + i, v_sub(v_sub(load_lanes(src + i, n - i), v_set1(top)), log_sum), n - i);
}

/* dst = e^(x - top) / sum e^(x - top), of a line that one vector holds: reading back what has just been stored takes long. */
static void softmax_vector(float *dst, const float *src, int64_t n, float top) {
    const v_f e = v_exp(v_sub(v_load_or(src, n, v_set1(-INFINITY)), v_set1(top)));
    v_f acc[V_PARTS] = {e};   /* zeros in the other parts */
    store_lanes(dst, v_div(e, v_set1(tree(JOIN_SUM, acc))), n);
}

/* The same of any line. */
static void softmax_line(float *dst, const float *src, int64_t n, float top) {
    for (int64_t i = 0; i < n; i += V_LANES) store_lanes(dst + i, v_exp(v_sub(load_lanes(src + i, n - i), v_set1(top))), n - i);
    const v_f sum = v_set1(reduce_sum(dst, n));
    for (int64_t i = 0; i < n; i += V_LANES) store_lanes(dst + i, v_div(load_lanes(dst + i, n - i), sum), n - i);
}

static void softmax(float *dst, const float *src, int64_t n, int logarithm) {
    const float top = reduce_max(src, n);
    (logarithm ? log_softmax : n <= V_LANES ? softmax_vector : softmax_line)(dst, src, n, top);
}

static void layer_norm(float *dst, const float *src, const float *scale, const float *bias, int64_t n, float epsilon) {
    const float mean = reduce_sum(src, n) / (float)n;
    const float variance = reduce_run(JOIN_SUM, EACH_SQUARE, src, n, mean, 0, mean) / (float)n;
    const v_f inverse = v_div(v_set1(1.0f), v_sqrt(v_set1(variance + epsilon)));
    for (int64_t i = 0; i < n; i += V_LANES) {
        v_f y = v_mul(v_sub(v_load_n(src + i, n - i), v_set1(mean)), inverse);
        if (scale) y = v_mul(y, v_load_n(scale + i, n - i));
        if (bias) y = v_add(y, v_load_n(bias + i, n - i));
        v_store_n(dst + i, y, n - i);
    }
}
