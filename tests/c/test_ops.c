/* Element-wise ops, moves, gather, reductions and line maps against naive loops over random strided views. */
#include "ops_harness.h"

static const int ROWS[] = {1, 3};
#define VIEW(i) (&c->at[i].v)

/* ---- copy, fill, where, cast ---- */
static int build_copy(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_copy(b, VIEW(0), VIEW(1), err);
}
static int build_cast(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_cast(b, VIEW(0), VIEW(1), err);
}
static int build_fill(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_fill(b, VIEW(0), *(const double *)c->settings, err);
}
static int build_where(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_where(b, VIEW(0), VIEW(1), VIEW(2), VIEW(3), err);
}

static int is_float(int dtype) { return dtype == GI_F32 || dtype == GI_F16 || dtype == GI_F64; }

static number wrap(int dtype, unsigned __int128 x) {
    switch (dtype) {
    case GI_I64: return (int64_t)(uint64_t)x;
    case GI_I32: return (int32_t)(uint32_t)x;
    case GI_U32: return (uint32_t)x;
    case GI_I16: return (int16_t)(uint16_t)x;
    case GI_U16: return (uint16_t)x;
    case GI_I8: return (int8_t)(uint8_t)x;
    case GI_U8: return (uint8_t)x;
    default: return (number)x;
    }
}

static number expect_same(const test_case *c, int64_t row, const int64_t *i) { return get(&c->at[1], row, i); }
static number expect_fill(const test_case *c, int64_t row, const int64_t *i) {
    (void)row, (void)i;
    double value = *(const double *)c->settings;
    if (is_float(c->at[0].dtype)) return value;
    return c->at[0].dtype == GI_BOOL ? value != 0 : wrap(c->at[0].dtype, (unsigned __int128)(__int128)truncl(value));
}
static number expect_where(const test_case *c, int64_t row, const int64_t *i) {
    return get(&c->at[get(&c->at[1], row, i) != 0 ? 2 : 3], row, i);
}

/* Toward zero; what does not fit is held in the range of 32 bits, of 64 bits for the wider types. */
static number to_integer(number x, int dtype) {
    number high = dtype == GI_I64 || dtype == GI_U32 ? (number)INT64_MAX : INT32_MAX, low = -high - 1;
    if (isnan(x)) return 0;
    return x > high ? high : x < low ? low : truncl(x);
}
static number expect_cast(const test_case *c, int64_t row, const int64_t *i) {
    number x = get(&c->at[1], row, i);
    switch (c->at[0].dtype) {
    case GI_F32: return (float)x;
    case GI_F64: return (double)x;
    case GI_F16: return from_half(to_half(x));
    case GI_BOOL: return x != 0;
    default: x = is_float(c->at[1].dtype) ? to_integer(x, c->at[0].dtype) : x;
    }
    return wrap(c->at[0].dtype, (unsigned __int128)(__int128)x);
}

static void scatter_specials(operand *o) {
    static const double specials[] = {NAN, INFINITY, -INFINITY, 3e9, -3e9, 1e19, -1e19, 0.0, -0.0, 0.75, -2147483648.0,
                                      300, -1, 65519, 65520, 2049, 2051, 0x1.8p-24, 0x1p-25, -0x1.004p-14, 5e9};
    const int64_t count = sizeof specials / sizeof *specials;
    int64_t size = (int64_t)gi_dtype_size(o->dtype);
    for (int64_t i = 0; i < o->elements * o->rows; i++) {
        double x = specials[pick(0, count - 1)];
        if (pick(0, 2)) continue;
        if (is_float(o->dtype)) set(o->data + i * size, o->dtype, (number)x);
        if (o->dtype == GI_I64) set(o->data + i * size, GI_I64, (number)(pick(0, 1) ? INT64_MIN : INT64_MAX));
        if (o->dtype == GI_U8 || o->dtype == GI_U16 || o->dtype == GI_U32) set(o->data + i * size, o->dtype, -1);
        if (o->dtype == GI_I8) set(o->data + i * size, GI_I8, pick(0, 1) ? INT8_MIN : INT8_MAX);
        if (o->dtype == GI_I16) set(o->data + i * size, GI_I16, pick(0, 1) ? INT16_MIN : INT16_MAX);
        if (o->dtype == GI_I32) set(o->data + i * size, GI_I32, (number)(pick(0, 1) ? INT32_MIN : INT32_MAX));
    }
}

static int random_dtype(void) { return (int)pick(0, GI_DTYPE_COUNT - 1); }

static void test_moves(int64_t rows) {
    int64_t shape[GI_MAX_RANK];
    int rank = random_shape(shape, 9), dtype = random_dtype(), other = random_dtype();
    double value = (double)pick(-9, 9) * 0.5;
    test_case copy = {0}, fill = {.settings = &value}, where = {0}, cast = {0};
    add_operand(&copy, dtype, rank, shape, rows);
    add_operand(&copy, dtype, rank, shape, rows);
    check_case(&copy, build_copy, expect_same, 0);
    add_operand(&fill, dtype, rank, shape, rows);
    check_case(&fill, build_fill, expect_fill, 0);
    for (int i = 0; i < 4; i++) add_operand(&where, i == 1 ? GI_BOOL : dtype, rank, shape, rows);
    check_case(&where, build_where, expect_where, 0);
    add_operand(&cast, other, rank, shape, rows);
    scatter_specials(add_operand(&cast, dtype, rank, shape, rows));
    check_case(&cast, build_cast, expect_cast, 0);
    free_case(&copy), free_case(&fill), free_case(&where), free_case(&cast);
}

/* ---- unary, binary ---- */
typedef struct map_settings { int fn; float alpha, beta; } map_settings;
static const map_settings *settings_of(const test_case *c) { return c->settings; }

static int build_unary(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_unary(b, settings_of(c)->fn, VIEW(0), VIEW(1), settings_of(c)->alpha, settings_of(c)->beta, err);
}
static int build_binary(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_binary(b, settings_of(c)->fn, VIEW(0), VIEW(1), VIEW(2), err);
}

static number bound(number x, number low, number high) { return x < low ? low : x > high ? high : x; }
static number expect_unary(const test_case *c, int64_t row, const int64_t *i) {
    const map_settings *s = c->settings;
    number x = get(&c->at[1], row, i);
    int dtype = c->at[1].dtype;
    switch (s->fn) {
    case GI_SIGMOID: return 1 / (1 + expl(-x));
    case GI_TANH: return tanhl(x);
    case GI_RELU: return x > 0 ? x : 0;
    case GI_AFFINE: return s->alpha * x + s->beta;
    case GI_LEAKY_RELU: return x >= 0 ? x : s->alpha * x;
    case GI_THRESHOLDED_RELU: return x > s->alpha ? x : 0;
    case GI_SCALED_TANH: return s->alpha * tanhl(s->beta * x);
    case GI_HARD_SIGMOID: return bound(s->alpha * x + s->beta, 0, 1);
    case GI_ELU: return x >= 0 ? x : s->alpha * expm1l(x);
    case GI_SOFTSIGN: return x / (1 + fabsl(x));
    case GI_SOFTPLUS: return log1pl(expl(x));
    case GI_EXP: return expl(x);
    case GI_LOG: return logl(x);
    case GI_SQRT: return sqrtl(x);
    case GI_NEG: return is_float(dtype) ? -x : wrap(dtype, (unsigned __int128)(__int128)-x);
    case GI_ABS: return is_float(dtype) ? fabsl(x) : wrap(dtype, (unsigned __int128)(__int128)fabsl(x));
    case GI_ERF: return erfl(x);
    case GI_RECIPROCAL: return 1 / x;
    case GI_CLIP: return bound(x, s->alpha, s->beta);
    case GI_FLOOR: return floorl(x);
    case GI_CEIL: return ceill(x);
    case GI_ROUND: return rintl(x);
    case GI_SIGN: return (x > 0) - (x < 0);
    case GI_SIN: return sinl(x);
    case GI_COS: return cosl(x);
    default: return expl(x * ((number)s->alpha + s->beta));
    }
}

static number expect_integer(int fn, int dtype, __int128 a, __int128 b) {
    switch (fn) {
    case GI_ADD: return wrap(dtype, (unsigned __int128)(a + b));
    case GI_SUB: return wrap(dtype, (unsigned __int128)(a - b));
    case GI_MUL: return wrap(dtype, (unsigned __int128)(a * b));
    case GI_DIV: return b ? wrap(dtype, (unsigned __int128)(a / b)) : 0;
    case GI_MOD: return b ? (number)(((a % b) + b) % b) : 0;
    case GI_AND: return a && b;
    case GI_OR: return a || b;
    default: return (a != 0) != (b != 0);
    }
}

static number expect_binary(const test_case *c, int64_t row, const int64_t *i) {
    int fn = settings_of(c)->fn, dtype = c->at[1].dtype;
    number a = get(&c->at[1], row, i), b = get(&c->at[2], row, i);
    switch (fn) {
    case GI_MIN: return a < b ? a : b;
    case GI_MAX: return a > b ? a : b;
    case GI_EQUAL: return a == b;
    case GI_LESS: return a < b;
    case GI_LESS_EQUAL: return a <= b;
    case GI_GREATER: return a > b;
    case GI_GREATER_EQUAL: return a >= b;
    default: if (dtype != GI_F32) return expect_integer(fn, dtype, (__int128)a, (__int128)b);
    }
    switch (fn) {
    case GI_ADD: return a + b;
    case GI_SUB: return a - b;
    case GI_MUL: return a * b;
    case GI_DIV: return a / b;
    case GI_POW: return powl(a, b);
    case GI_PRELU: return a >= 0 ? a : a * b;
    default: return isinf(1 / b) ? (number)NAN : a - floorl(a / b) * b;
    }
}

static void test_map(int64_t rows, int dtype, int operands, int fn) {
    int64_t shape[GI_MAX_RANK];
    int rank = random_shape(shape, 9), is_compare = operands == 3 && fn >= GI_ARITHMETIC_COUNT;
    map_settings settings = {fn, 0.75f, fn == GI_CLIP ? 1.5f : fn == GI_POWER ? 1e-8f : 0.25f};
    if (dtype != GI_F32) settings.alpha = -3, settings.beta = 4;
    test_case c = {.settings = &settings};
    add_operand(&c, is_compare ? GI_BOOL : dtype, rank, shape, rows);
    for (int i = 1; i < operands; i++) {
        operand *o = add_operand(&c, dtype, rank, shape, rows);
        if (dtype != GI_F32) scatter_specials(o);
    }
    check_case(&c, operands == 2 ? build_unary : build_binary, operands == 2 ? expect_unary : expect_binary, 1e-6L);
    free_case(&c);
}

static void test_maps(int64_t rows) {
    static const int integer_unary[] = {GI_NEG, GI_ABS, GI_SIGN, GI_RELU, GI_CLIP};
    static const int bool_binary[] = {GI_EQUAL, GI_AND, GI_OR, GI_XOR};
    for (int fn = 0; fn < GI_UNARY_COUNT; fn++) test_map(rows, GI_F32, 2, fn);
    for (int fn = 0; fn < GI_AND; fn++) test_map(rows, GI_F32, 3, fn);
    for (int dtype = GI_I64; dtype <= GI_U32; dtype++) {
        if (dtype == GI_BOOL) continue;
        for (int i = 0; i < 5; i++) test_map(rows, dtype, 2, integer_unary[i]);
        for (int fn = 0; fn < GI_AND; fn++)
            if (fn != GI_POW && fn != GI_PRELU) test_map(rows, dtype, 3, fn);
    }
    for (int i = 0; i < 4; i++) test_map(rows, GI_BOOL, 3, bool_binary[i]);
}

int main(void) {
    for (int round = 0; round < 60; round++)
        for (int i = 0; i < 2; i++) {
            test_moves(ROWS[i]);
            if (round % 4 == 0) test_maps(ROWS[i]);
        }
    return report("element-wise ops");
}
