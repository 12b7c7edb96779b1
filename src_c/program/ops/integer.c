/* Scalar integer and bool arithmetic. Signed overflow is done in unsigned words, where it wraps around. */
#include "integer.h"

int64_t gi_to_integer(double x, int dtype) {
    if (dtype == GI_BOOL) return x != 0;
    double limit = dtype == GI_I64 ? 0x1p63 : 0x1p31;
    if (x != x) return 0;
    if (x >= limit) return dtype == GI_I64 ? INT64_MAX : INT32_MAX;
    if (x <= -limit) return dtype == GI_I64 ? INT64_MIN : INT32_MIN;
    return (int64_t)x;
}

/* ---- unary ------------------------------------------------------------------------------------------------------- */

int gi_has_integer_unary(int fn, int dtype) {
    return dtype != GI_BOOL && (fn == GI_NEG || fn == GI_ABS || fn == GI_SIGN || fn == GI_RELU || fn == GI_CLIP);
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
    return !is_logic && fn != GI_POW && fn != GI_PRELU;
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
