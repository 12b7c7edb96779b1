/* Largest error of the elementary functions in units in the last place (ULP) of the exact result, against double libm:
 * every 251st float32, or with --full all 2^32 of them (--full NAME: of one function). Results below the smallest
 * normal number need only stay there. */
#include "../../src_c/kernels/kernels.h"
#include "check.h"
#include <stdlib.h>

static double ref_sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double ref_softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }
static double ref_elu(double x) { return x >= 0 ? x : expm1(x); }
static double ref_softsign(double x) { return x / (1 + fabs(x)); }
static double ref_reciprocal(double x) { return 1 / x; }
static double ref_power(double x) { return pow(10, x); }

typedef struct function {
    const char *name;
    int fn;
    double (*reference)(double);
    double bound; /* ULP */
    float alpha, beta;
} function;

static const function functions[] = {
    {"sigmoid", GI_SIGMOID, ref_sigmoid, 2.0, 1, 0},    {"tanh", GI_TANH, tanh, 2.0, 1, 0},
    {"exp", GI_EXP, exp, 2.0, 1, 0},                    {"log", GI_LOG, log, 2.0, 1, 0},
    {"softplus", GI_SOFTPLUS, ref_softplus, 2.0, 1, 0}, {"elu", GI_ELU, ref_elu, 2.0, 1, 0},
    {"erf", GI_ERF, erf, 2.0, 1, 0},                    {"sin", GI_SIN, sin, 2.0, 1, 0},
    {"cos", GI_COS, cos, 2.0, 1, 0},                    {"softsign", GI_SOFTSIGN, ref_softsign, 1.5, 1, 0},
    {"power", GI_POWER, ref_power, 2.0, 0x1.26bb1cp1f, -0x1.12aabap-25f},
    {"sqrt", GI_SQRT, sqrt, 0.5, 1, 0},                 {"reciprocal", GI_RECIPROCAL, ref_reciprocal, 0.5, 1, 0},
};

/* |got - exact| in ULP of exact's binade; 0 or 1e9 where only the class counts (NaN, infinity, underflow). */
static double error_ulp(float got, double exact) {
    const double smallest = 0x1p-126;
    if (isnan(exact)) return isnan(got) ? 0 : 1e9;
    if (isinf((float)exact)) return got == (float)exact ? 0 : 1e9;
    if (fabs(exact) < smallest) return fabs(got) <= smallest ? 0 : 1e9;
    uint64_t u;
    memcpy(&u, &exact, sizeof u);
    u = (uint64_t)(2046 + 23 - (u >> 52 & 0x7ff)) << 52; /* 2^(23 - exponent) */
    double per_ulp;
    memcpy(&per_ulp, &u, sizeof per_ulp);
    const double error = fabs((double)got - exact) * per_ulp;
    return isnan(error) ? 1e9 : error;
}

enum { RUN = 4096 };

static void measure(const gi_kernels *k, const function *f, uint64_t stride) {
    static float x[RUN], y[RUN];
    double worst = 0;
    float at = 0;
    for (uint64_t first = 0; first < (uint64_t)1 << 32; first += RUN * stride) {
        for (uint64_t i = 0; i < RUN; i++) x[i] = gi_float_of((uint32_t)(first + i * stride));
        k->unary[f->fn](y, x, RUN, f->alpha, f->beta);
        for (int i = 0; i < RUN; i++) {
            const double error = error_ulp(y[i], f->reference(x[i]));
            if (error > worst) worst = error, at = x[i];
        }
    }
    const int ok = worst <= f->bound;
    printf("%-8s %-12s max %.4f ULP at %a, bound %.1f  %s\n", k->name, f->name, worst, at, f->bound,
           ok ? "ok" : "FAILED");
    fflush(stdout);
    check_failures += !ok;
}

typedef struct limit { int fn; float x, y; } limit;
static const limit limits[] = {
    {GI_SIGMOID, INFINITY, 1.0f}, {GI_SIGMOID, -INFINITY, 0.0f}, {GI_SIGMOID, 0.0f, 0.5f}, {GI_TANH, INFINITY, 1.0f},
    {GI_TANH, -INFINITY, -1.0f}, {GI_TANH, -0.0f, -0.0f}, {GI_TANH, 1e-40f, 1e-40f}, {GI_EXP, INFINITY, INFINITY},
    {GI_EXP, -INFINITY, 0.0f}, {GI_EXP, 0.0f, 1.0f}, {GI_EXP, 89.0f, INFINITY}, {GI_EXP, -104.0f, 0.0f},
    {GI_LOG, 0.0f, -INFINITY}, {GI_LOG, -0.0f, -INFINITY}, {GI_LOG, INFINITY, INFINITY}, {GI_LOG, -1.0f, NAN},
    {GI_LOG, 1.0f, 0.0f}, {GI_SOFTPLUS, INFINITY, INFINITY}, {GI_SOFTPLUS, -INFINITY, 0.0f}, {GI_ELU, -INFINITY, -1.0f},
    {GI_ELU, INFINITY, INFINITY}, {GI_ERF, INFINITY, 1.0f}, {GI_ERF, -INFINITY, -1.0f}, {GI_ERF, -0.0f, -0.0f},
    {GI_SIN, -0.0f, -0.0f}, {GI_SIN, INFINITY, NAN}, {GI_COS, 0.0f, 1.0f}, {GI_COS, -INFINITY, NAN},
    {GI_RELU, -3.0f, 0.0f}, {GI_RELU, INFINITY, INFINITY}, {GI_SIGN, -0.0f, 0.0f}, {GI_SIGN, -2.0f, -1.0f},
    {GI_ROUND, 2.5f, 2.0f}, {GI_ROUND, -1.5f, -2.0f}, {GI_FLOOR, -0.5f, -1.0f}, {GI_CEIL, 0.5f, 1.0f},
    {GI_HARD_SIGMOID, INFINITY, 1.0f}, {GI_HARD_SIGMOID, -INFINITY, 0.0f}, {GI_POWER, INFINITY, INFINITY},
    {GI_POWER, -INFINITY, 0.0f}, {GI_POWER, 3e38f, INFINITY}, {GI_POWER, -0.0f, 1.0f},
};

static void check_limits(const gi_kernels *k) {
    const int n = (int)(sizeof limits / sizeof limits[0]);
    long failed = 0;
    for (int i = 0; i < n; i++) {
        float y;
        k->unary[limits[i].fn](&y, &limits[i].x, 1, 1.0f, 0.0f);
        if (same_float(y, limits[i].y)) continue;
        printf("function %d at %g: %g, expected %g\n", limits[i].fn, limits[i].x, y, limits[i].y);
        failed++;
    }
    check_group(k->name, "limits", n, failed);
}

/* A NaN of either sign, quiet or signalling, must come out as one, whatever alpha and beta. */
static void check_nan(const gi_kernels *k) {
    static const uint32_t nans[] = {0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xffffffffu};
    static const float parameters[] = {0.0f, 1.0f, -1.0f, INFINITY};
    long failed = 0, cases = 0;
    for (int fn = 0; fn < GI_UNARY_COUNT; fn++)
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++, cases++) {
                float y;
                const float x = gi_float_of(nans[i]);
                k->unary[fn](&y, &x, 1, parameters[j], parameters[j]);
                failed += y == y;
            }
    check_group(k->name, "NaN stays visible", cases, failed);
}

int main(int argc, char **argv) {
    const uint64_t stride = argc > 1 && strcmp(argv[1], "--full") == 0 ? 1 : 251;
    gi_error err = {0};
    const gi_kernels *widest = gi_kernels_get("auto", &err);
    if (!widest) return fprintf(stderr, "%s\n", err.text), 1;
    for (int i = 0; gi_kernels_list(i); i++) {
        const gi_kernels *k = gi_kernels_get(gi_kernels_list(i), NULL);
        if (!k) continue;
        check_limits(k);
        check_nan(k);
    }
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (argc < 3 || strcmp(argv[2], functions[i].name) == 0) measure(widest, &functions[i], stride);
    return check_failures != 0;
}
