/* Integers and bools: one 64-bit path for GI_I64, GI_I32 and GI_BOOL. Nothing here traps or overflows undefined. */
#ifndef GI_INTEGER_H
#define GI_INTEGER_H
#include "strided.h"

static inline int64_t gi_load_integer(const char *src, int dtype) {
    if (dtype == GI_I64) return *(const int64_t *)src;
    return dtype == GI_I32 ? *(const int32_t *)src : *(const uint8_t *)src != 0;
}

/* Wraps around for GI_I32; any value but 0 is true for GI_BOOL. */
static inline void gi_store_integer(char *dst, int dtype, int64_t value) {
    if (dtype == GI_I64) *(int64_t *)dst = value;
    else if (dtype == GI_I32) *(int32_t *)dst = (int32_t)(uint32_t)(uint64_t)value;
    else *(uint8_t *)dst = value != 0;
}

/* x toward zero, held in the range of `dtype`; NaN gives 0 (true for GI_BOOL). */
int64_t gi_to_integer(double x, int dtype);

/* NEG ABS SIGN RELU CLIP of integers; nothing of bools. */
int gi_has_integer_unary(int fn, int dtype);
int64_t gi_integer_unary(int fn, int64_t x, float alpha, float beta);

/* Arithmetic and compares of integers; AND OR XOR EQUAL of bools. Results wrap around; x / 0 and x mod 0 are 0. */
int gi_has_integer_binary(int fn, int dtype);
int64_t gi_integer_binary(int fn, int64_t a, int64_t b);

#endif
