/* Element-wise maps over contiguous runs: one loop per arity, compiled once per function. Full vectors first, then one
 * masked tail; a function never sees more than its own lane, so the width does not show in the result. */

/* C's remainder, given the sign of the divisor as Python's %. */
static float mod_lane(float a, float b) {
    float r = fmodf(a, b);
    if (r == 0) return copysignf(0.0f, b);
    return (r < 0) != (b < 0) ? r + b : r;
}

/* A libm function in every lane, for what is not worth a polynomial. */
V_INLINE v_f each_lane(float (*fn)(float, float), v_f a, v_f b) {
    float x[V_LANES], y[V_LANES];
    v_store(x, a);
    v_store(y, b);
    for (int i = 0; i < V_LANES; i++) x[i] = fn(x[i], y[i]);
    return v_load(x);
}

V_INLINE v_f v_arithmetic(const int fn, v_f a, v_f b) {
    switch (fn) {
    case GI_ADD: return v_add(a, b);
    case GI_SUB: return v_sub(a, b);
    case GI_MUL: return v_mul(a, b);
    case GI_DIV: return v_div(a, b);
    case GI_MIN: return v_min_nan(a, b);
    case GI_MAX: return v_max_nan(a, b);
    case GI_PRELU: return v_select(v_le(v_set1(0.0f), a), a, v_mul(a, b));
    case GI_POW: return each_lane(powf, a, b);
    default: return each_lane(mod_lane, a, b);
    }
}

V_INLINE v_f v_unary(const int fn, v_f x, v_f alpha, v_f beta) {
    const v_f zero = v_set1(0.0f), one = v_set1(1.0f);
    switch (fn) {
    case GI_EXP: return v_exp(x);
    case GI_LOG: return v_log(x);
    case GI_SQRT: return v_sqrt(x);
    case GI_NEG: return v_neg(x);
    case GI_ABS: return v_abs(x);
    case GI_ERF: return v_erf(x);
    case GI_RECIPROCAL: return v_div(one, x);
    case GI_CLIP: return v_min(beta, v_max(alpha, x));
    case GI_FLOOR: return v_floor(x);
    case GI_CEIL: return v_ceil(x);
    case GI_ROUND: return v_round(x);
    case GI_SIGN: return v_select(v_lt(zero, x), one, v_select(v_lt(x, zero), v_neg(one), v_add(x, zero)));
    case GI_SIN: return v_sin(x);
    case GI_COS: return v_cos(x);
    case GI_POWER: return v_power(x, alpha, beta);
    default: return v_activation(fn, x, alpha, beta);
    }
}

V_INLINE void map_unary(const int fn, float *dst, const float *src, int64_t n, float alpha, float beta) {
    const v_f a = v_set1(alpha), b = v_set1(beta);
    int64_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) v_store(dst + i, v_unary(fn, v_load(src + i), a, b));
    if (i < n) v_store_n(dst + i, v_unary(fn, v_load_n(src + i, n - i), a, b), n - i);
}

/* Elements i.. of an operand with step 1, else `all`, read before the first store because dst may be the operand. */
V_INLINE v_f operand(const float *p, int step, v_f all, int64_t i, int64_t n) {
    if (!step) return all;
    return n - i >= V_LANES ? v_load(p + i) : v_load_n(p + i, n - i);
}

V_INLINE void map_arithmetic(const int fn, float *dst, const float *a, int a_step, const float *b, int b_step,
                             int64_t n) {
    if (n <= 0) return;
    const v_f all_a = v_set1(*a), all_b = v_set1(*b);
    for (int64_t i = 0; i < n; i += V_LANES) {
        const v_f y = v_arithmetic(fn, operand(a, a_step, all_a, i, n), operand(b, b_step, all_b, i, n));
        if (n - i >= V_LANES) v_store(dst + i, y);
        else v_store_n(dst + i, y, n - i);
    }
}

/* Comparisons are exact in plain C too, and bytes leave no use for float lanes. */
V_INLINE int compare(const int fn, float a, float b) {
    switch (fn) {
    case GI_EQUAL: return a == b;
    case GI_LESS: return a < b;
    case GI_LESS_EQUAL: return a <= b;
    case GI_GREATER: return a > b;
    default: return a >= b;
    }
}

V_INLINE void map_compare(const int fn, uint8_t *dst, const float *a, int a_step, const float *b, int b_step,
                          int64_t n) {
    for (int64_t i = 0; i < n; i++) dst[i] = (uint8_t)compare(fn, a[i * a_step], b[i * b_step]);
}

#define UNARY(name, fn)                                                                       \
    static void name(float *dst, const float *src, int64_t n, float alpha, float beta) {      \
        map_unary(fn, dst, src, n, alpha, beta);                                              \
    }
#define ARITHMETIC(name, fn)                                                                            \
    static void name(float *dst, const float *a, int a_step, const float *b, int b_step, int64_t n) {   \
        map_arithmetic(fn, dst, a, a_step, b, b_step, n);                                               \
    }
#define COMPARE(name, fn)                                                                                 \
    static void name(uint8_t *dst, const float *a, int a_step, const float *b, int b_step, int64_t n) {   \
        map_compare(fn, dst, a, a_step, b, b_step, n);                                                    \
    }

UNARY(map_sigmoid, GI_SIGMOID)
UNARY(map_tanh, GI_TANH)
UNARY(map_relu, GI_RELU)
UNARY(map_affine, GI_AFFINE)
UNARY(map_leaky_relu, GI_LEAKY_RELU)
UNARY(map_thresholded_relu, GI_THRESHOLDED_RELU)
UNARY(map_scaled_tanh, GI_SCALED_TANH)
UNARY(map_hard_sigmoid, GI_HARD_SIGMOID)
UNARY(map_elu, GI_ELU)
UNARY(map_softsign, GI_SOFTSIGN)
UNARY(map_softplus, GI_SOFTPLUS)
UNARY(map_exp, GI_EXP)
UNARY(map_log, GI_LOG)
UNARY(map_sqrt, GI_SQRT)
UNARY(map_neg, GI_NEG)
UNARY(map_abs, GI_ABS)
UNARY(map_erf, GI_ERF)
UNARY(map_reciprocal, GI_RECIPROCAL)
UNARY(map_clip, GI_CLIP)
UNARY(map_floor, GI_FLOOR)
UNARY(map_ceil, GI_CEIL)
UNARY(map_round, GI_ROUND)
UNARY(map_sign, GI_SIGN)
UNARY(map_sin, GI_SIN)
UNARY(map_cos, GI_COS)
UNARY(map_power_of, GI_POWER)

ARITHMETIC(map_add, GI_ADD)
ARITHMETIC(map_sub, GI_SUB)
ARITHMETIC(map_mul, GI_MUL)
ARITHMETIC(map_div, GI_DIV)
ARITHMETIC(map_power, GI_POW)
ARITHMETIC(map_min, GI_MIN)
ARITHMETIC(map_max, GI_MAX)
ARITHMETIC(map_prelu, GI_PRELU)
ARITHMETIC(map_mod, GI_MOD)

/* Squares, the usual power, need no libm; x * x is the correctly rounded answer. */
static void map_pow(float *dst, const float *a, int a_step, const float *b, int b_step, int64_t n) {
    if (n > 0 && b_step == 0 && *b == 2.0f) map_mul(dst, a, a_step, a, a_step, n);
    else map_power(dst, a, a_step, b, b_step, n);
}

COMPARE(map_equal, GI_EQUAL)
COMPARE(map_less, GI_LESS)
COMPARE(map_less_equal, GI_LESS_EQUAL)
COMPARE(map_greater, GI_GREATER)
COMPARE(map_greater_equal, GI_GREATER_EQUAL)

#undef UNARY
#undef ARITHMETIC
#undef COMPARE
