/* Scalar integer and bool arithmetic. Signed overflow is done in unsigned words, where it wraps around. */
#include "integer.h"
#include <math.h>

int64_t gi_to_integer(double x, int dtype) {
    if (dtype == GI_BOOL) return x != 0;
    int is_wide = dtype == GI_I64 || dtype == GI_U32;
    double limit = is_wide ? 0x1p63 : 0x1p31;
    if (x != x) return 0;
    if (x >= limit) return is_wide ? INT64_MAX : INT32_MAX;
    if (x <= -limit) return is_wide ? INT64_MIN : INT32_MIN;
    return (int64_t)x;
}

/* ---- elements that are no integers ------------------------------------------------------------------------------- */

/* IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. */
static double from_half(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double size = exponent == 31 ? (fraction ? NAN : INFINITY)
                                 : ldexp(exponent ? 1024 + fraction : fraction, exponent ? exponent - 25 : -24);
    return bits >> 15 ? -size : size;
}

static uint16_t to_half(double x) {
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    double size = fabs(x);
    int exponent;
    if (x != x) return sign | 0x7e00;
    if (size >= 65520) return sign | 0x7c00;                       /* halfway from the largest number to 2^16 */
    if (size < 0x1p-14) return sign | (uint16_t)nearbyint(size * 0x1p24);
    double fraction = frexp(size, &exponent);                      /* in [1/2, 1) */
    return sign | (uint16_t)(((exponent + 14) << 10) + (int)nearbyint(fraction * 2048) - 1024);
}

double gi_load_float(const char *src, int dtype) {
    if (dtype == GI_F64) return *(const double *)src;
    return dtype == GI_F32 ? *(const float *)src : from_half(*(const uint16_t *)src);
}

void gi_store_float(char *dst, int dtype, double value) {
    if (dtype == GI_F64) *(double *)dst = value;
    else if (dtype == GI_F32) *(float *)dst = (float)value;
    else *(uint16_t *)dst = to_half(value);
}

int gi_check_computes(gi_builder *b, const gi_view *v, const char *what, gi_error *err) {
    int dtype = gi_view_dtype(b, v);
    if (dtype != GI_F16 && dtype != GI_F64) return GI_OK;
    return gi_fail(err, GI_ERR_ARGUMENT, "%s: float16 and float64 can only be moved and cast", what);
}

/* ---- unary ------------------------------------------------------------------------------------------------------- */

int gi_has_integer_unary(int fn, int dtype) {
    return gi_is_integer(dtype) && (fn == GI_NEG || fn == GI_ABS || fn == GI_SIGN || fn == GI_RELU || fn == GI_CLIP);
}

static int64_t negate(int64_t x) { return (int64_t)(0 - (uint64_t)x); }

/* min(max(x, low), high) */
static int64_t clip(int64_t x, int64_t low, int64_t high) {
    if (x < low) x = low;
    return x > high ? high : x;
}

int64_t gi_integer_unary(int fn, int64_t x, float alpha, float beta) {
    switch (fn) {
    case GI_NEG: return negate(x);
    case GI_ABS: return x < 0 ? negate(x) : x;
    case GI_SIGN: return (x > 0) - (x < 0);
    case GI_RELU: return x > 0 ? x : 0;
    default: return clip(x, gi_to_integer(alpha, GI_I64), gi_to_integer(beta, GI_I64));
    }
}

/* ---- binary ------------------------------------------------------------------------------------------------------ */

int gi_has_integer_binary(int fn, int dtype) {
    int is_logic = fn == GI_AND || fn == GI_OR || fn == GI_XOR;
    if (dtype == GI_BOOL) return is_logic || fn == GI_EQUAL;
    return gi_is_integer(dtype) && !is_logic && fn != GI_POW && fn != GI_PRELU;
}

/* Toward zero. */
static int64_t divide(int64_t a, int64_t b) {
    if (b == 0) return 0;
    return b == -1 ? negate(a) : a / b;
}

/* The sign of b, as Python's %. */
static int64_t modulo(int64_t a, int64_t b) {
    if (b == 0 || b == -1) return 0;
    int64_t rest = a % b;
    return rest && (rest < 0) != (b < 0) ? rest + b : rest;
}

int64_t gi_integer_binary(int fn, int64_t a, int64_t b) {
    switch (fn) {
    case GI_ADD: return (int64_t)((uint64_t)a + (uint64_t)b);
    case GI_SUB: return (int64_t)((uint64_t)a - (uint64_t)b);
    case GI_MUL: return (int64_t)((uint64_t)a * (uint64_t)b);
    case GI_DIV: return divide(a, b);
    case GI_MOD: return modulo(a, b);
    case GI_MIN: return a < b ? a : b;
    case GI_MAX: return a > b ? a : b;
    case GI_EQUAL: return a == b;
    case GI_LESS: return a < b;
    case GI_LESS_EQUAL: return a <= b;
    case GI_GREATER: return a > b;
    case GI_GREATER_EQUAL: return a >= b;
    case GI_AND: return a & b;
    case GI_OR: return a | b;
    default: return a ^ b;
    }
}
