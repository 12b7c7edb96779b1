/* Integers and bools: one 64-bit path for all their widths. Nothing here traps or overflows undefined. */
#ifndef GI_INTEGER_H
#define GI_INTEGER_H
#include "../builder.h"
#include "strided.h"

static inline int64_t gi_load_integer(const char *src, int dtype) {
    switch (dtype) {
    case GI_I64: return *(const int64_t *)src;
    case GI_I32: return *(const int32_t *)src;
    case GI_U32: return *(const uint32_t *)src;
    case GI_I16: return *(const int16_t *)src;
    case GI_U16: return *(const uint16_t *)src;
    case GI_I8: return *(const int8_t *)src;
    case GI_U8: return *(const uint8_t *)src;
    default: return *(const uint8_t *)src != 0;
    }
}

/* GI_I32 or GI_I64 that was checked to be in low .. high before, and is whatever another thread has written there meanwhile:
 * read once, and held in range. */
static inline int64_t gi_load_checked(const char *src, int dtype, int64_t low, int64_t high) {
    const int64_t x = dtype == GI_I64 ? *(const volatile int64_t *)src : *(const volatile int32_t *)src;
    return x < low ? low : x > high ? high : x;
}

/* Wraps around in the narrow types; any value but 0 is true for GI_BOOL. */
static inline void gi_store_integer(char *dst, int dtype, int64_t value) {
    uint64_t bits = (uint64_t)value;
    switch (dtype) {
    case GI_I64: *(int64_t *)dst = value; break;
    case GI_I32: case GI_U32: *(uint32_t *)dst = (uint32_t)bits; break;
    case GI_I16: case GI_U16: *(uint16_t *)dst = (uint16_t)bits; break;
    case GI_I8: case GI_U8: *(uint8_t *)dst = (uint8_t)bits; break;
    default: *(uint8_t *)dst = value != 0;
    }
}

/* Integers, not bools. */
static inline int gi_is_integer(int dtype) {
    return dtype == GI_I64 || dtype == GI_I32 || (dtype >= GI_U8 && dtype <= GI_U32);
}

/* x toward zero, held in the range of GI_I32 and GI_I64; the narrower types wrap what fits GI_I32 around, GI_U32 what fits
 * GI_I64, as the CPU's own conversions do. NaN gives 0 (true for GI_BOOL). */
int64_t gi_to_integer(double x, int dtype);

/* One element that is no integer: GI_F32, GI_F16 or GI_F64. A store rounds to nearest, ties to even. */
double gi_load_float(const char *src, int dtype);
void gi_store_float(char *dst, int dtype, double value);

/* Refuses what can only be moved and cast. */
int gi_check_computes(gi_builder *b, const gi_view *v, const char *what, gi_error *err);

/* NEG ABS SIGN RELU CLIP of integers; nothing of bools. */
int gi_has_integer_unary(int fn, int dtype);
int64_t gi_integer_unary(int fn, int64_t x, float alpha, float beta);

/* Arithmetic and compares of integers; AND OR XOR EQUAL of bools. Results wrap around; x / 0 and x mod 0 are 0. */
int gi_has_integer_binary(int fn, int dtype);
int64_t gi_integer_binary(int fn, int64_t a, int64_t b);

#endif
