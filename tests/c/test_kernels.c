/* Every entry of every kernel table: against the scalar table bit by bit, and the scalar table against double.
 * Lengths 0..70, every alignment within a block, awkward inputs (NaN, infinities, denormals); once in the default
 * floating-point mode and once with denormals flushed, as inside a run. Each case guards what lies past its output. */
#include "../../src_c/base/fpmode.h"
#include "../../src_c/kernels/cell_layout.h"
#include "check.h"
#include <stdlib.h>

enum { SPAN = 128, LONGEST = 70, CASES = 400 };

/* Arguments of one case, and the outputs of the two tables; everything starts at the same offset in its array. */
typedef struct arena {
    float a[SPAN], b[SPAN], c[SPAN], expected[SPAN], got[SPAN];
} arena;
static arena mem;
static int64_t n, at; /* length and offset of the case */

static void next_case(void) {
    n = random_below(LONGEST + 1);
    at = random_below(GI_BLOCK);
    fill_random(mem.a, SPAN, 1);
    fill_random(mem.b, SPAN, 1);
    fill_random(mem.c, SPAN, 1);
    fill_random(mem.expected, SPAN, 1);
    memcpy(mem.got, mem.expected, sizeof mem.got);
}

static int outputs_differ(void) {
    for (int i = 0; i < SPAN; i++)
        if (!same_float(mem.expected[i], mem.got[i])) return 1;
    return 0;
}

static long unary_differs(const gi_kernels *s, const gi_kernels *k, int fn) {
    const float alpha = random_value(2.0f), beta = random_value(2.0f);
    s->unary[fn](mem.expected + at, mem.a + at, n, alpha, beta);
    k->unary[fn](mem.got + at, mem.a + at, n, alpha, beta);
    long failed = outputs_differ();
    k->unary[fn](mem.a + at, mem.a + at, n, alpha, beta); /* in place */
    for (int64_t i = at; i < at + n; i++) failed |= !same_float(mem.a[i], mem.got[i]);
    return failed;
}

static long arithmetic_differs(const gi_kernels *s, const gi_kernels *k, int fn) {
    const int a_step = random_below(2) != 0, b_step = random_below(2) != 0;
    if (fn == GI_POW && random_below(4) == 0) mem.b[at] = 2.0f;
    s->arithmetic[fn](mem.expected + at, mem.a + at, a_step, mem.b + at, b_step, n);
    k->arithmetic[fn](mem.got + at, mem.a + at, a_step, mem.b + at, b_step, n);
    long failed = outputs_differ();
    float *in_place = random_below(2) ? mem.a : mem.b;
    k->arithmetic[fn](in_place + at, mem.a + at, a_step, mem.b + at, b_step, n);
    for (int64_t i = at; i < at + n; i++) failed |= !same_float(in_place[i], mem.got[i]);
    return failed;
}

static long compare_differs(const gi_kernels *s, const gi_kernels *k, int fn) {
    static uint8_t expected[SPAN], got[SPAN];
    const int a_step = random_below(2) != 0, b_step = random_below(2) != 0;
    for (int i = 0; i < SPAN; i++) expected[i] = got[i] = (uint8_t)(2 + random_below(200));
    for (int64_t i = at; i < at + n; i++)
        if (random_below(2)) mem.b[i] = mem.a[i];
    s->compare[fn](expected + at, mem.a + at, a_step, mem.b + at, b_step, n);
    k->compare[fn](got + at, mem.a + at, a_step, mem.b + at, b_step, n);
    return memcmp(expected, got, sizeof got) != 0;
}

static long reduce_differs(const gi_kernels *s, const gi_kernels *k, int fn) {
    const int only_denormals = random_below(4) == 0;
    for (int i = 0; i < SPAN && only_denormals; i++) mem.a[i] = gi_float_of(random_bits() & 0x807fffffu);
    return !same_float(s->reduce[fn](mem.a + at, n), k->reduce[fn](mem.a + at, n));
}

/* Against `reduce` of each column. */
static long columns_differ(const gi_kernels *s, const gi_kernels *k, int fn) {
    float line[SPAN];
    if (!s->reduce[fn]) return 0;
    const int cancels = random_below(4) == 0;   /* in every lane a sum that is flushed to -0 */
    const int64_t columns = 1 + random_below(cancels ? 2 : 40), stride = columns + random_below(2), most = (SPAN - at) / stride;
    const int64_t least = cancels ? 2 * GI_BLOCK : 0, elements = least + random_below(most - least + 1);
    for (int64_t i = 0; i < elements * stride && cancels; i++) {
        const int64_t element = i / stride;
        mem.a[at + i] = element < GI_BLOCK ? 1.2e-38f : element < elements - GI_BLOCK ? 0.0f : -1.3e-38f;
    }
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = 0; i < elements; i++) line[i] = mem.a[at + i * stride + j];
        mem.expected[at + j] = s->reduce[fn](line, elements);
    }
    k->reduce_columns[fn](mem.got + at, mem.a + at, stride, elements, columns);
    return outputs_differ();
}

static long dot_differs(const gi_kernels *s, const gi_kernels *k, int unused) {
    (void)unused;
    return !same_float(s->dot(mem.a + at, mem.b + at, n), k->dot(mem.a + at, mem.b + at, n));
}

static long softmax_differs(const gi_kernels *s, const gi_kernels *k, int logarithm) {
    if (random_below(2)) fill_random(mem.a, SPAN, 0);
    s->softmax(mem.expected + at, mem.a + at, n, logarithm);
    k->softmax(mem.got + at, mem.a + at, n, logarithm);
    return outputs_differ();
}

static long layer_norm_differs(const gi_kernels *s, const gi_kernels *k, int which) {
    const float *scale = which & 1 ? mem.b + at : NULL, *bias = which & 2 ? mem.c + at : NULL;
    if (random_below(2)) fill_random(mem.a, SPAN, 0);
    s->layer_norm(mem.expected + at, mem.a + at, scale, bias, n, 1e-5f);
    k->layer_norm(mem.got + at, mem.a + at, scale, bias, n, 1e-5f);
    return outputs_differ();
}

/* Striped: against the scalar `dot` of what lies under each position. */
static long slide_differs(const gi_kernels *s, const gi_kernels *k, int striped) {
    enum { MOST_K = 40, MOST_M = 21 };
    int64_t offset[MOST_K], K = random_below(MOST_K + 1), width = 1 + random_below(n + 1), M = n / width;
    float w[MOST_M * MOST_K], bias[MOST_M], x[MOST_K];
    if (M > MOST_M) M = MOST_M;
    fill_random(w, MOST_M * MOST_K, 1);
    fill_random(bias, MOST_M, 1);
    for (int64_t i = 0; i < K; i++) offset[i] = random_below(SPAN - GI_BLOCK - width);
    gi_slide p = {.K = K, .M = M, .n = width, .x = mem.a + at, .offset = offset, .w = w, .w_k = 1, .w_m = K,
                  .bias = bias, .striped = striped, .out = mem.expected + at, .out_stride = width};
    if (!striped) s->slide(&p);
    for (int64_t i = 0; striped && i < M * width; i++) {
        for (int64_t j = 0; j < K; j++) x[j] = mem.a[at + offset[j] + i % width];
        mem.expected[at + i] = bias[i / width] + s->dot(x, w + i / width * K, K);
    }
    p.out = mem.got + at;
    k->slide(&p);
    return outputs_differ();
}

static long pad_lines_differ(const gi_kernels *s, const gi_kernels *k, int unused) {
    (void)unused;
    const int64_t lines = 1 + random_below(3), width = n / lines, low = random_below(width + 1);
    const int64_t high = low + random_below(width - low + 1);
    s->pad_lines(mem.expected + at, width, mem.a + at, 7, lines, width, low, high);
    k->pad_lines(mem.got + at, width, mem.a + at, 7, lines, width, low, high);
    long failed = outputs_differ();
    for (int64_t i = 0; i < lines * width; i++) {
        const int64_t column = i % width, inside = column >= low && column < high;
        failed |= !same_float(mem.got[at + i], inside ? mem.a[at + i / width * 7 + column - low] : 0.0f);
    }
    return failed;
}

typedef long differs(const gi_kernels *s, const gi_kernels *k, int fn);

static void check_family(const gi_kernels *s, const gi_kernels *k, const char *name, differs *test, int first,
                         int count) {
    long failed = 0;
    for (int fn = first; fn < first + count; fn++) {
        long before = failed;
        for (int i = 0; i < CASES; i++) {
            next_case();
            failed += test(s, k, fn);
        }
        if (failed > before) printf("%s: %s %d: %ld of %d differ\n", k->name, name, fn, failed - before, CASES);
    }
    check_group(k->name, name, (long)count * CASES, failed);
}

static long reduce_any(const gi_kernels *s, const gi_kernels *k, int fn) {
    return fn == GI_REDUCE_MEAN ? 0 : reduce_differs(s, k, fn);
}

static void check_against_scalar(const gi_kernels *k) {
    const gi_kernels *s = &gi_kernels_scalar;
    check_family(s, k, "unary", unary_differs, 0, GI_UNARY_COUNT);
    check_family(s, k, "arithmetic", arithmetic_differs, 0, GI_ARITHMETIC_COUNT);
    check_family(s, k, "compare", compare_differs, GI_EQUAL, GI_GREATER_EQUAL - GI_EQUAL + 1);
    check_family(s, k, "reduce", reduce_any, 0, GI_REDUCTION_COUNT);
    check_family(s, k, "dot", dot_differs, 0, 1);
    check_family(s, k, "softmax", softmax_differs, 0, 2);
    check_family(s, k, "layer_norm", layer_norm_differs, 0, 4);
    check_family(s, k, "slide", slide_differs, 0, 2);
    check_family(s, k, "pad_lines", pad_lines_differ, 0, 1);
}

/* ---- scalar against double -------------------------------------------------------------------------------------- */

/* |got - exact| within `ulps` units in the last place of `scale`. */
static int near(float got, double exact, double scale, double ulps) {
    return fabs((double)got - exact) <= ulps * 0x1p-23 * scale + 1e-44;
}

static double exact_arithmetic(int fn, double a, double b) {
    switch (fn) {
    case GI_ADD: return a + b;
    case GI_SUB: return a - b;
    case GI_MUL: return a * b;
    case GI_DIV: return a / b;
    case GI_POW: return pow(a, b);
    case GI_MIN: return a < b ? a : b;
    case GI_MAX: return a > b ? a : b;
    case GI_PRELU: return a >= 0 ? a : a * b;
    default: return a - floor(a / b) * b;
    }
}

static long arithmetic_is_wrong(int fn) {
    float y;
    const float a = fn == GI_POW ? fabsf(mem.a[0]) : mem.a[0], b = mem.b[0] == 0 ? 1.0f : mem.b[0];
    gi_kernels_scalar.arithmetic[fn](&y, &a, 1, &b, 1, 1);
    const double exact = exact_arithmetic(fn, a, b);
    if (isinf((float)exact)) return y != (float)exact;
    return !near(y, exact, fn == GI_MOD ? fabs(b) : fabs(exact), 1.0);
}

/* Sums of n terms may be off by n / 16 + 5 roundings (striped lanes, then the tree) of the sum of magnitudes. */
static long sums_are_wrong(int unused) {
    (void)unused;
    double sum = 0, squares = 0, product = 0, size = 0, product_size = 0;
    const float *a = mem.a + at, *b = mem.b + at;
    for (int64_t i = 0; i < n; i++) {
        sum += a[i], squares += (double)a[i] * a[i], product += (double)a[i] * b[i];
        size += fabs(a[i]), product_size += fabs((double)a[i] * b[i]);
    }
    const double ulps = (double)n / 16 + 5;
    const gi_kernels *s = &gi_kernels_scalar;
    return !near(s->reduce[GI_REDUCE_SUM](a, n), sum, size, ulps) +
           !near(s->reduce[GI_REDUCE_L2](a, n), squares, squares, ulps) +
           !near(s->dot(a, b, n), product, product_size, ulps);
}

static long softmax_is_wrong(int logarithm) {
    const float *x = mem.a + at;
    double top = -INFINITY, sum = 0;
    long failed = 0;
    for (int64_t i = 0; i < n; i++) top = fmax(top, x[i]);
    for (int64_t i = 0; i < n; i++) sum += exp(x[i] - top);
    gi_kernels_scalar.softmax(mem.got, x, n, logarithm);
    for (int64_t i = 0; i < n; i++) {
        const double z = x[i] - top, exact = logarithm ? z - log(sum) : exp(z) / sum;
        /* e^z carries the rounding of z */
        failed += !near(mem.got[i], exact, fabs(exact), 12 + (logarithm ? 0 : fabs(z)));
    }
    return failed != 0;
}

static long layer_norm_is_wrong(int unused) {
    (void)unused;
    const float *x = mem.a + at;
    double mean = 0, variance = 0, size = 0;
    long failed = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i] / (double)n, size = fmax(size, fabs(x[i]));
    for (int64_t i = 0; i < n; i++) variance += (x[i] - mean) * (x[i] - mean) / (double)n;
    gi_kernels_scalar.layer_norm(mem.got, x, mem.b, mem.c, n, 1e-5f);
    for (int64_t i = 0; i < n; i++) {
        const double deviation = sqrt(variance + 1e-5), y = (x[i] - mean) / deviation;
        const double scale = (fabs(y) + size / deviation) * fabs(mem.b[i]) + fabs(mem.c[i]);
        failed += !near(mem.got[i], y * mem.b[i] + mem.c[i], scale, 16);
    }
    return failed != 0;
}

static void check_exact(const char *name, long (*wrong)(int), int count) {
    long failed = 0;
    for (int fn = 0; fn < count; fn++)
        for (int i = 0; i < CASES; i++) {
            next_case();
            fill_random(mem.a, SPAN, 0);
            fill_random(mem.b, SPAN, 0);
            fill_random(mem.c, SPAN, 0);
            const long bad = wrong(fn);
            if (bad && !failed) printf("scalar: %s %d, case %d (n = %d) is off\n", name, fn, i, (int)n);
            failed += bad;
        }
    check_group("scalar", name, (long)count * CASES, failed);
}

/* A NaN anywhere in a run must reach the result, whatever lane it sits in. */
static void check_nan_stays(const gi_kernels *k) {
    long failed = 0;
    for (int i = 0; i < CASES; i++) {
        next_case();
        fill_random(mem.a, SPAN, 0);
        if (n == 0) continue;
        mem.a[at + random_below(n)] = NAN;
        for (int fn = 0; fn < GI_REDUCTION_COUNT; fn++)
            if (k->reduce[fn]) failed += !isnan(k->reduce[fn](mem.a + at, n));
        k->softmax(mem.got, mem.a + at, n, i & 1);
        for (int64_t j = 0; j < n; j++) failed += !isnan(mem.got[j]);
    }
    check_group(k->name, "NaN stays visible in reductions", CASES, failed);
}

static void check_tables(void) {
    for (int i = 0; gi_kernels_list(i); i++) {
        gi_error err = {0};
        const gi_kernels *k = gi_kernels_get(gi_kernels_list(i), &err);
        if (!k) {
            printf("%-8s skipped: %s\n", gi_kernels_list(i), err.text);
            continue;
        }
        check_nan_stays(k);
        check_family(&gi_kernels_scalar, k, "reduce_columns", columns_differ, 0, GI_REDUCTION_COUNT);
        if (k != &gi_kernels_scalar) check_against_scalar(k);
    }
}

int main(void) {
    check_exact("arithmetic against double", arithmetic_is_wrong, GI_ARITHMETIC_COUNT);
    check_exact("sums against double", sums_are_wrong, 1);
    check_exact("softmax against double", softmax_is_wrong, 2);
    check_exact("layer_norm against double", layer_norm_is_wrong, 1);
    check_tables();
    printf("-- denormals flushed\n");
    gi_fpmode mode;
    gi_fpmode_enter(&mode);
    check_tables();
    gi_fpmode_leave(&mode);
    return check_failures != 0;
}
