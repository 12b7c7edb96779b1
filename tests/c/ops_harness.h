/* Random strided views, small programs that run one op on every kernel table, and element access for naive checks. */
#ifndef OPS_HARNESS_H
#define OPS_HARNESS_H
#include "check.h"
#include "gateinfer.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_OPERANDS = 5, SENTINEL = 0xA5 };
typedef long double number;                  /* holds every int64 and every float32 */

/* A view of an external (or constant) tensor of its own. data [rows][elements] */
typedef struct operand {
    gi_view v;
    int dtype, is_constant;
    int64_t elements, rows;
    char *data;
} operand;

typedef struct test_case { operand at[MOST_OPERANDS]; int n; const void *settings; } test_case;
typedef int build_fn(gi_builder *b, const test_case *c, gi_error *err);


/* ---- random numbers: xorshift64 ---- */
static uint64_t seed = 88172645463325252u;
static int64_t pick(int64_t low, int64_t high) {       /* both ends included */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return low + (int64_t)(seed % (uint64_t)(high - low + 1));
}

/* ---- elements ---- */
static number from_half(uint16_t bits) {
    int exponent = bits >> 10 & 31;
    number fraction = (bits & 1023) / 1024.0L;
    number size = exponent == 31 ? (fraction != 0 ? (number)NAN : (number)INFINITY)
                                 : ldexpl(exponent ? 1 + fraction : 2 * fraction, exponent - 15);
    return bits >> 15 ? -size : size;
}

/* The nearest half by bisection: the bits of positive halves are in the order of their values, even bits win a tie. */
static uint16_t to_half(number x) {
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    if (isnan(x)) return sign | 0x7e00;
    if (isinf(x)) return sign | 0x7c00;
    int low = 0, high = 0x7c00;                          /* infinity stands where 2^16 would be */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (from_half((uint16_t)middle) <= fabsl(x)) low = middle;
        else high = middle;
    }
    number below = fabsl(x) - from_half((uint16_t)low);
    number above = (high == 0x7c00 ? 65536 : from_half((uint16_t)high)) - fabsl(x);
    int is_low = below < above || (below == above && low % 2 == 0);
    return sign | (uint16_t)(is_low ? low : high);
}

static char *element(const operand *o, int64_t row, const int64_t *index) {
    int64_t at = o->v.offset + (o->is_constant ? 0 : row) * o->elements;
    for (int i = 0; i < o->v.rank; i++) at += index[i] * o->v.stride[i];
    return o->data + at * (int64_t)gi_dtype_size(o->dtype);
}

static number get(const operand *o, int64_t row, const int64_t *index) {
    const char *p = element(o, row, index);
    switch (o->dtype) {
    case GI_F32: return *(const float *)p;
    case GI_I64: return *(const int64_t *)p;
    case GI_I32: return *(const int32_t *)p;
    case GI_U32: return *(const uint32_t *)p;
    case GI_I16: return *(const int16_t *)p;
    case GI_U16: return *(const uint16_t *)p;
    case GI_I8: return *(const int8_t *)p;
    case GI_F64: return *(const double *)p;
    case GI_F16: return from_half(*(const uint16_t *)p);
    default: return *(const uint8_t *)p;
    }
}

static void set(char *p, int dtype, number value) {
    switch (dtype) {
    case GI_F32: *(float *)p = (float)value; break;
    case GI_I64: *(int64_t *)p = (int64_t)value; break;
    case GI_I32: *(int32_t *)p = (int32_t)value; break;
    case GI_U32: *(uint32_t *)p = (uint32_t)(int64_t)value; break;
    case GI_I16: case GI_U16: *(uint16_t *)p = (uint16_t)(int64_t)value; break;
    case GI_I8: case GI_U8: *(uint8_t *)p = (uint8_t)(int64_t)value; break;
    case GI_F64: *(double *)p = (double)value; break;
    case GI_F16: *(uint16_t *)p = to_half(value); break;
    default: *(uint8_t *)p = value != 0;
    }
}

/* Steps `index` through `shape` in row-major order; 0 after the last one. */
static int next_index(int64_t *index, const int64_t *shape, int rank) {
    for (int i = rank - 1; i >= 0; i--) {
        if (++index[i] < shape[i]) return 1;
        index[i] = 0;
    }
    return 0;
}

static int is_empty(const gi_view *v) {
    for (int i = 0; i < v->rank; i++)
        if (v->shape[i] == 0) return 1;
    return 0;
}

/* ---- operands ---- */
/* A random memory order, gaps between lines, negative strides and, for inputs, broadcast axes. */
static gi_view random_view(int rank, const int64_t *shape, int may_broadcast, int64_t *elements) {
    gi_view v = {.rank = rank};
    int order[GI_MAX_RANK], shuffle = pick(0, 2) == 0, fancy = pick(0, 1);
    int64_t stride = fancy && pick(0, 3) == 0 ? pick(2, 3) : 1;
    v.offset = fancy ? pick(0, 5) : 0;
    for (int i = 0; i < rank; i++) order[i] = rank - 1 - i;
    for (int i = rank - 1; shuffle && i > 0; i--) {
        int j = (int)pick(0, i), swap = order[i];
        order[i] = order[j], order[j] = swap;
    }
    for (int i = 0; i < rank; i++) {
        int axis = order[i];
        v.shape[axis] = shape[axis];
        if (may_broadcast && fancy && pick(0, 5) == 0) continue;
        v.stride[axis] = stride;
        if (fancy && pick(0, 5) == 0 && shape[axis] > 0) {
            v.stride[axis] = -stride;
            v.offset += stride * (shape[axis] - 1);
        }
        stride *= shape[axis] > 1 ? shape[axis] : 1;
        if (fancy && pick(0, 3) == 0) stride += pick(1, 3);
    }
    *elements = fancy ? stride + v.offset + 7 : stride;   /* exactly filled tensors take a path of their own */
    return v;
}

static number random_element(int dtype) {
    switch (dtype) {
    case GI_F32: case GI_F16: case GI_F64: return (number)pick(-128, 128) / 64;
    case GI_BOOL: return pick(0, 1);
    case GI_U8: case GI_U16: case GI_U32: return pick(0, 40);
    default: return pick(-20, 20);
    }
}

/* Operand `index` of the case: random values, or the sentinel for operand 0, the output. */
static operand *add_operand(test_case *c, int dtype, int rank, const int64_t *shape, int64_t rows) {
    operand *o = &c->at[c->n];
    *o = (operand){.dtype = dtype, .rows = rows};
    o->v = random_view(rank, shape, c->n > 0, &o->elements);
    int64_t count = rows * o->elements, size = (int64_t)gi_dtype_size(dtype);
    o->data = malloc((size_t)(count * size));
    for (int64_t i = 0; i < count; i++) set(o->data + i * size, dtype, random_element(dtype));
    c->n++;
    return o;
}

static void free_case(test_case *c) {
    for (int i = 0; i < c->n; i++) free(c->at[i].data);
}

static inline int random_shape(int64_t *shape, int64_t most) {
    int rank = (int)pick(0, 4);
    for (int i = 0; i < rank; i++) shape[i] = pick(0, 40) == 0 ? 0 : pick(0, 4) == 0 ? 1 : pick(1, most);
    if (rank == 1 && pick(0, 2) == 0) shape[0] = pick(200, 700);
    return rank;
}

/* ---- running ---- */
/* Builds and runs the case on one table. The tensors' ids are stored in the case. */
static int run_on(const gi_kernels *kernels, test_case *c, build_fn *build, gi_error *err) {
    gi_builder *b = gi_builder_create(kernels, err);
    int64_t rows = c->at[0].rows;
    for (int i = 0; i < c->n; i++) {
        operand *o = &c->at[i];
        if (o->v.tensor < 0) continue;
        o->v.tensor = o->is_constant ? gi_builder_constant(b, o->dtype, o->elements, o->data, err)
                                     : gi_builder_external(b, o->dtype, o->elements, err);
    }
    int status = build(b, c, err);
    gi_program *p = status == GI_OK ? gi_builder_finish(b, err) : NULL;
    gi_stream *s = p ? gi_stream_create(p, rows, err) : NULL;
    for (int i = 0; s && i < c->n; i++)
        if (c->at[i].v.tensor >= 0 && !c->at[i].is_constant) gi_stream_bind(s, c->at[i].v.tensor, c->at[i].data, err);
    if (status == GI_OK) status = s ? gi_stream_step(s, err) : err->status;
    gi_stream_free(s);
    gi_program_free(p);
    gi_builder_free(b);
    return status;
}

/* Elements outside the output's view still hold the sentinel. */
static void check_untouched(const operand *out) {
    int64_t size = (int64_t)gi_dtype_size(out->dtype), bytes = out->rows * out->elements * size;
    int64_t index[GI_MAX_RANK] = {0};
    char *mask = calloc(1, (size_t)bytes);
    for (int64_t row = 0; !is_empty(&out->v) && row < out->rows; row++)
        do memset(mask + (element(out, row, index) - out->data), 1, (size_t)size);
        while (next_index(index, out->v.shape, out->v.rank));
    for (int64_t i = 0; i < bytes; i++)
        if (!mask[i] && (uint8_t)out->data[i] != SENTINEL) {
            CHECK(0, "byte %lld outside the view was written", (long long)i);
            break;
        }
    free(mask);
}

/* Runs the case on every table of this build that this CPU has; the bits of the output must agree. */
static int run_case(test_case *c, build_fn *build, gi_error *err) {
    size_t bytes = (size_t)(c->at[0].rows * c->at[0].elements) * gi_dtype_size(c->at[0].dtype);
    char *first = NULL;
    int status = GI_OK;
    for (int i = 0; gi_kernels_list(i) && status == GI_OK; i++) {
        const gi_kernels *kernels = gi_kernels_get(gi_kernels_list(i), err);
        if (!kernels) continue;
        memset(c->at[0].data, SENTINEL, bytes);
        status = run_on(kernels, c, build, err);
        if (!first) memcpy(first = malloc(bytes), c->at[0].data, bytes);
        CHECK(!memcmp(first, c->at[0].data, bytes), "%s differs from %s", gi_kernels_list(i), gi_kernels_list(0));
    }
    free(first);
    check_untouched(&c->at[0]);
    return status;
}

/* The value a naive loop gives for one element of the output. */
typedef number expect_fn(const test_case *c, int64_t row, const int64_t *index);

static int is_close(number got, number wanted, number tolerance) {
    if (isnan(wanted) || isnan(got)) return isnan(wanted) && isnan(got);
    if (got == wanted) return 1;
    number size = fabsl(wanted) > 1 ? fabsl(wanted) : 1;
    return fabsl(got - wanted) <= tolerance * size;
}

/* Runs the case and compares each element with `expect`. */
static void check_case(test_case *c, build_fn *build, expect_fn *expect, number tolerance) {
    gi_error err = {0};
    const operand *out = &c->at[0];
    int64_t index[GI_MAX_RANK] = {0};
    int status = run_case(c, build, &err);
    CHECK(status == GI_OK, "status %d: %s", status, err.text);
    for (int64_t row = 0; status == GI_OK && !is_empty(&out->v) && row < out->rows; row++)
        do {
            number got = get(out, row, index), wanted = expect(c, row, index);
            CHECK(is_close(got, wanted, tolerance), "row %lld: got %.9Lg, expected %.9Lg", (long long)row, got, wanted);
        } while (next_index(index, out->v.shape, out->v.rank));
}

static int report(const char *what) {
    if (check_failures) printf("%s: %d checks failed\n", what, check_failures);
    else printf("%s: ok\n", what);
    return check_failures != 0;
}

#endif
