/* Elementary functions over vectors, written once against the vector words. Every function is a fixed sequence of IEEE
 * operations, so each instruction set gives the same bits. NaN in gives NaN out; limits at +-inf are exact.
 *
 * Polynomials: own minimax fits (iteratively reweighted least squares, coefficients rounded to float32 one at a time).
 * Max errors: against double libm over every float32 whose result is a normal number (tests/c/test_math.c --full). */

/* 1.5 * 2^23: adding it rounds to integral, half to even, and an integral n lands in the low mantissa bits; with the bias of an
 * exponent for v_pow2. */
#define V_INTEGRAL 12582912.0f
#define V_POW2_BIAS (V_INTEGRAL + 127.0f)

/* Range reduction x = n ln2 + r, |r| <= ln2 / 2, with ln2 in two parts (Cody & Waite 1980); the first FMA is exact. */
#define V_LOG2E 1.44269504f
#define V_LN2_HI 0.693147182f
#define V_LN2_LO -1.90465421e-9f

/* expm1(r) = r + r^2 q(r) for |r| <= ln2 / 2; q of degree 4 in Estrin's order. Relative error of the fit 1.4e-8. */
V_INLINE v_f v_expm1_reduced(v_f r) {
    v_f r2 = v_mul(r, r);
    v_f low = v_fma(v_set1(0.166665211f), r, v_set1(0.49999994f));
    v_f high = v_fma(v_set1(0.00836870354f), r, v_set1(0.0416682884f));
    high = v_fma(v_set1(0.00138189446f), r2, high);
    return v_fma(v_fma(high, r2, low), r2, r);
}

V_INLINE v_f v_reduce_ln2(v_f x, v_f n) {
    v_f r = v_fma(n, v_set1(-V_LN2_HI), x);
    return v_fma(n, v_set1(-V_LN2_LO), r);
}

V_INLINE v_f v_exp_held(v_f x) { return v_min(v_set1(89.0f), v_max(v_set1(-104.0f), x)); }

V_INLINE v_f v_exp_times(v_f held) {
    const v_f bias = v_set1(V_POW2_BIAS);
    return v_sub(v_fma(held, v_set1(V_LOG2E), bias), bias);
}

/* 2^n (1 + expm1(r)); 2^n is applied in two halves so that the ends underflow and overflow as they should. */
V_INLINE v_f v_exp_reduced(v_f r, v_f n) {
    const v_f bias = v_set1(V_POW2_BIAS);
    v_f p = v_expm1_reduced(r);
    v_f half = v_fma(n, v_set1(0.5f), bias);
    v_f s = v_pow2(half);
    v_f rest = v_add(v_sub(n, v_sub(half, bias)), bias);
    return v_mul(v_fma(s, p, s), v_pow2(rest));
}

/* e^x with x = n ln2 + r. Max error 1.04 ULP. */
V_INLINE v_f v_exp(v_f x) {
    const v_f held = v_exp_held(x), n = v_exp_times(held);
    return v_exp_reduced(v_reduce_ln2(held, n), n);
}

/* b^x = e^(x (high + low)) with ln b in two parts, not 0: what rounding x high loses is added to r. Max error 1.20 ULP
 * for b = 10. */
V_INLINE v_f v_power(v_f x, v_f high, v_f low) {
    const v_f product = v_mul(x, high), lost = v_fma(x, low, v_fma(x, high, v_neg(product)));
    const v_f held = v_exp_held(product), n = v_exp_times(held), r = v_reduce_ln2(held, n);
    return v_exp_reduced(v_select(v_eq(held, product), v_add(r, lost), r), n);
}

/* e^x - 1 for x <= 0: 2^n expm1(r) + (2^n - 1). Max error 0.99 ULP. */
V_INLINE v_f v_expm1_negative(v_f x) {
    const v_f bias = v_set1(V_POW2_BIAS);
    v_f held = v_max(v_set1(-30.0f), x);
    v_f m = v_fma(held, v_set1(V_LOG2E), bias);
    v_f p = v_expm1_reduced(v_reduce_ln2(held, v_sub(m, bias)));
    v_f s = v_pow2(m);
    return v_fma(s, p, v_sub(s, v_set1(1.0f)));
}

/* -K 2^(j / 8) less j << 20, as v_pow2_8ths wants them. */
#define V_SIGMOID_K 1.50123823f
static const _Alignas(64) uint32_t v_sigmoid_powers[16] = {
    0xbfc02893u, 0xbfc18ce2u, 0xbfc48429u, 0xbfc932e0u, 0xbfc7e067u, 0xbfc42ca9u, 0xbfc195dcu, 0xbfc035cau,
    0xbfc02893u, 0xbfc18ce2u, 0xbfc48429u, 0xbfc932e0u, 0xbfc7e067u, 0xbfc42ca9u, 0xbfc195dcu, 0xbfc035cau};

/* K / (K + K 2^(n / 8) e^-r) = 1 / (1 + e^-x) with n = round(-8 x / ln2), r = x + n ln2 / 8 and the powers from a table (Tang
 * 1989); e^-r = 1 - (r - r^2 (1/2 - r (1/6 - r/24))), fit error 1e-9. K also steers rounding: the denominator stays clear of the
 * low end of a binade, where rounding costs most, whenever the quotient lies near the high end of its own. At the least x that
 * is held the denominator is inf and the result 0. Max error 1.88 ULP. */
V_INLINE v_f v_sigmoid(v_f x) {
    const v_f bias = v_set1(V_INTEGRAL), K = v_set1(V_SIGMOID_K);
    v_f held = v_min(v_set1(40.0f), v_max(v_set1(-88.32f), x));
    v_f m = v_fma(held, v_set1(-8.0f * V_LOG2E), bias);
    v_f n = v_sub(m, bias);
    v_f r = v_fma(n, v_set1(V_LN2_LO / 8.0f), v_fma(n, v_set1(V_LN2_HI / 8.0f), held));
    v_f q = v_fma(v_fma(v_set1(-0.0416666679f), r, v_set1(0.166666672f)), r, v_set1(-0.5f));
    v_f p = v_fma(q, v_mul(r, r), r);
    v_f s = v_pow2_8ths(m, v_sigmoid_powers);
    return v_div(K, v_fma(s, p, v_sub(K, s)));
}

/* tanh by its addition theorem: |x| = n ln2 / 2 + r, w = tanh r, s = K 2^n:
 *     tanh |x| = a / (a + b), a = (s + K) w + (s - K), b = K (2 - 2 w), which is w itself for n = 0.
 * w = r + r^3 W(r^2), fit error 4e-9. n is rounded with a shift so that n >= 1 starts at tanh |x| = 1/4 and r lies in
 * [-0.092, 0.256]. K steers rounding as in v_sigmoid. One part of ln2 is enough: where n is large the quotient no
 * longer feels its error. Max error 1.88 ULP. */
#define V_TANH_K 1.125f
V_INLINE v_f v_tanh(v_f x) {
    const v_f bias = v_set1(V_INTEGRAL), K = v_set1(V_TANH_K);
    v_f held = v_min(v_set1(10.0f), v_abs(x));
    v_f m = v_fma(v_sub(held, v_set1(0.0822f)), v_set1(2.0f * V_LOG2E), bias);
    v_f r = v_fma(v_sub(m, bias), v_set1(-0.5f * V_LN2_HI), held);
    v_f r2 = v_mul(r, r);
    v_f W = v_fma(v_fma(v_set1(-0.0512233414f), r2, v_set1(0.133226797f)), r2, v_set1(-0.333332151f));
    v_f w = v_fma(v_mul(r, r2), W, r);
    v_f s = v_times_pow2(K, m);
    v_f a = v_fma(v_add(s, K), w, v_sub(s, K));
    v_f b = v_fma(v_set1(-2.0f * V_TANH_K), w, v_set1(2.0f * V_TANH_K));
    return v_copysign(v_div(a, v_add(a, b)), x);
}

/* log1p(f) + e ln2 for f in [sqrt(1/2) - 1, sqrt(2) - 1]: f - f^2 / 2 + f^3 P(f), P of degree 7, fit error 6e-9. */
V_INLINE v_f v_log1p_reduced(v_f f, v_f e) {
    v_f P = v_fma(v_set1(-0.076381892f), f, v_set1(0.127647638f));
    P = v_fma(P, f, v_set1(-0.1316019f));
    P = v_fma(P, f, v_set1(0.14201273f));
    P = v_fma(P, f, v_set1(-0.166233152f));
    P = v_fma(P, f, v_set1(0.200012505f));
    P = v_fma(P, f, v_set1(-0.250008225f));
    P = v_fma(P, f, v_set1(0.333333313f));
    v_f f2 = v_mul(f, f);
    v_f tail = v_fma(v_fma(P, f, v_set1(-0.5f)), f2, v_mul(e, v_set1(V_LN2_LO)));
    return v_fma(e, v_set1(V_LN2_HI), v_add(f, tail));
}

/* log x = log m + e ln2 with m in [sqrt(1/2), sqrt(2)). Denormals are scaled up first. Max error 0.88 ULP. */
V_INLINE v_f v_log(v_f x) {
    const v_f one = v_set1(1.0f), zero = v_set1(0.0f), infinity = v_set1(INFINITY);
    v_m tiny = v_lt(x, v_set1(1.17549435e-38f));
    v_f scaled = v_select(tiny, v_mul(x, v_set1(16777216.0f)), x);
    v_f e = v_sub(v_exponent(scaled), v_select(tiny, v_set1(24.0f), zero));
    v_f m = v_mantissa(scaled);
    v_m upper = v_lt(v_set1(1.41421356f), m);
    e = v_add(e, v_select(upper, one, zero));
    m = v_select(upper, v_mul(m, v_set1(0.5f)), m);
    v_f y = v_log1p_reduced(v_sub(m, one), e);
    y = v_select(v_lt(zero, x), y, v_set1(NAN));
    y = v_select(v_eq(x, zero), v_neg(infinity), y);
    return v_select(v_lt(x, infinity), y, v_add(x, infinity)); /* +inf and NaN stay what they are */
}

/* log(1 + e^x) = max(x, 0) + log1p(u), u = e^-|x|; where u > sqrt(2) - 1 as ln2 + log1p((u - 1) / 2).
 * Max error 1.75 ULP. */
V_INLINE v_f v_softplus(v_f x) {
    const v_f half = v_set1(0.5f), zero = v_set1(0.0f);
    v_f u = v_exp(v_neg(v_abs(x)));
    v_m upper = v_lt(v_set1(0.414213562f), u);
    v_f f = v_select(upper, v_fma(u, half, v_neg(half)), u);
    v_f e = v_select(upper, v_set1(1.0f), zero);
    return v_add(v_max(zero, x), v_log1p_reduced(f, e));
}

/* erf by two fits: |x| < 1: x + x P(x^2); above: 1 - e^(Q(|x|)) with Q = log erfc on [1, 4], where erf rounds to 1.
 * Max error 1.07 ULP. */
V_INLINE v_f v_erf_small(v_f x) {
    v_f x2 = v_mul(x, x);
    v_f P = v_fma(v_set1(7.80690316e-05f), x2, v_set1(-0.00079978531f));
    P = v_fma(P, x2, v_set1(0.0051871622f));
    P = v_fma(P, x2, v_set1(-0.0268533472f));
    P = v_fma(P, x2, v_set1(0.112835787f));
    P = v_fma(P, x2, v_set1(-0.37612626f));
    P = v_fma(P, x2, v_set1(0.128379166f));
    return v_fma(x, P, x);
}

V_INLINE v_f v_erf(v_f x) {
    v_f held = v_min(v_set1(4.0f), v_abs(x));
    v_f Q = v_fma(v_set1(0.000186504418f), held, v_set1(-0.00294893468f));
    Q = v_fma(Q, held, v_set1(0.0218433551f));
    Q = v_fma(Q, held, v_set1(-0.103118181f));
    Q = v_fma(Q, held, v_set1(-0.638131261f));
    Q = v_fma(Q, held, v_set1(-1.12709761f));
    Q = v_fma(Q, held, v_set1(-0.000339391147f));
    v_f large = v_copysign(v_sub(v_set1(1.0f), v_exp(Q)), x);
    return v_select(v_lt(held, v_set1(1.0f)), v_erf_small(x), large);
}

/* sin(x + quarter pi / 2) for |x| <= V_CIRCLE_LIMIT: x = n pi / 2 + r with pi / 2 in three parts (Cody & Waite;
 * the first FMA is exact), then r + r^3 S(r^2) or 1 - r^2 / 2 + r^4 C(r^2) by the parity of n + quarter. */
#define V_CIRCLE_LIMIT 8192.0f
V_INLINE v_f v_circle(v_f x, float quarter) {
    v_f n = v_round(v_mul(x, v_set1(0.636619747f)));
    v_f r = v_fma(n, v_set1(-1.57079637f), x);
    r = v_fma(n, v_set1(4.37113883e-08f), r);
    r = v_fma(n, v_set1(1.71512451e-15f), r);
    v_f r2 = v_mul(r, r), k = v_add(n, v_set1(quarter));
    v_f S = v_fma(v_fma(v_set1(-0.000195178975f), r2, v_set1(0.00833218731f)), r2, v_set1(-0.166666552f));
    v_f C = v_fma(v_fma(v_set1(2.44323273e-05f), r2, v_set1(-0.00138873095f)), r2, v_set1(0.0416666456f));
    v_f sine = v_fma(v_mul(r, r2), S, r);
    v_f cosine = v_fma(v_fma(C, r2, v_set1(-0.5f)), r2, v_set1(1.0f));
    v_f half = v_mul(k, v_set1(0.5f)), fourth = v_mul(k, v_set1(0.25f));
    v_f y = v_select(v_eq(half, v_floor(half)), sine, cosine);
    return v_select(v_lt(v_sub(fourth, v_floor(fourth)), v_set1(0.5f)), y, v_neg(y));
}

/* The lanes beyond the limit (or inf) by libm in double. */
static __attribute__((noinline)) v_f v_circle_far(v_f x, v_f y, double (*fn)(double)) {
    float in[V_LANES], out[V_LANES];
    v_store(in, x);
    v_store(out, y);
    for (int i = 0; i < V_LANES; i++)
        if (fabsf(in[i]) > V_CIRCLE_LIMIT) out[i] = (float)fn(in[i]);
    return v_load(out);
}

/* Max error 1.53 ULP. */
V_INLINE v_f v_sin(v_f x) {
    v_f y = v_select(v_eq(x, v_set1(0.0f)), x, v_circle(x, 0.0f)); /* so that -0 stays */
    return v_any(v_lt(v_set1(V_CIRCLE_LIMIT), v_abs(x))) ? v_circle_far(x, y, sin) : y;
}

/* Max error 1.53 ULP. */
V_INLINE v_f v_cos(v_f x) {
    v_f y = v_circle(x, 1.0f);
    return v_any(v_lt(v_set1(V_CIRCLE_LIMIT), v_abs(x))) ? v_circle_far(x, y, cos) : y;
}

/* The activations of the ONNX recurrent operators (operator text of LSTM, "Activation functions"). */
V_INLINE v_f v_activation(int kind, v_f x, v_f alpha, v_f beta) {
    const v_f one = v_set1(1.0f), zero = v_set1(0.0f);
    switch (kind) {
    case GI_SIGMOID: return v_sigmoid(x);
    case GI_TANH: return v_tanh(x);
    case GI_RELU: return v_max(zero, x);
    case GI_AFFINE: return v_fma(alpha, x, beta);
    case GI_LEAKY_RELU: return v_select(v_le(zero, x), x, v_mul(alpha, x));
    case GI_THRESHOLDED_RELU: return v_select(v_le(x, alpha), zero, x); /* so that NaN stays */
    case GI_SCALED_TANH: return v_mul(alpha, v_tanh(v_mul(beta, x)));
    case GI_HARD_SIGMOID: return v_min(one, v_max(zero, v_fma(alpha, x, beta)));
    case GI_ELU: return v_select(v_le(zero, x), x, v_mul(alpha, v_expm1_negative(x)));
    case GI_SOFTSIGN: return v_div(x, v_add(one, v_abs(x)));
    default: return v_softplus(x);
    }
}
