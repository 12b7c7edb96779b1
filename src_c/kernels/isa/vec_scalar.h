/* The vector words, scalar: one lane. This file is also the words' contract; vec_avx2.h and vec_avx512.h say the same
 * with 8 and 16 lanes. Every word is one IEEE operation per lane, so bodies written in them give the same bits.
 *
 *   v_f, v_m           a vector of V_LANES floats; a mask with one truth value per lane
 *   V_PARTS            vectors per block of 16 lanes
 *   v_load v_store     unaligned; v_load_n v_store_n touch only the first n lanes, others read as 0;
 *                      n <= 0 means no lane, n >= V_LANES all
 *   v_load_bf16 v_load_f16    of a line of 16 words that holds two lines of 16-bit weights: part `part` of line `half`,
 *                      as float32. bf16: word j is lane j of line 0 in its low half, of line 1 in its high half.
 *                      f16: 16 lanes of line 0, then 16 of line 1
 *   v_accumulate(s, a, b)     v_fma(a, b, s) in the register of s: where every register holds a sum, GCC moves them about
 *   v_settle(a)        a, in a register of its own from here on: for values that go from one loop to the next
 *   v_load_or          as v_load_n, but the other lanes are those of `fill`
 *   v_down(a, n)       lane i + n of a in lane i, for i < n; the other lanes hold some lane of a. n: a power of 2
 *                      below V_LANES
 *   v_first_lane       lane 0
 *   v_set1             the same value in all lanes
 *   v_add v_sub v_mul v_div v_sqrt v_abs v_neg, v_fma(a, b, c) = a * b + c rounded once
 *   v_min(a, b) = a < b ? a : b and v_max(a, b) = a > b ? a : b: a NaN in b comes through, one in a does not
 *   v_round v_floor v_ceil    to an integral value; round is half to even
 *   v_lt v_le v_eq     ordered compares to a mask (false when a NaN takes part); v_or v_and v_not on masks;
 *                      v_any: some lane
 *   v_select(m, a, b)  m ? a : b
 *   v_pow2(m)          2^n for m = V_POW2_BIAS + n with integral n in [-127, 128], where the ends give 0 and inf; any
 *                      other m gives some float and no fault. V_POW2_BIAS, V_INTEGRAL: math.inc.h
 *   v_times_pow2(k, m) k 2^n for m = V_INTEGRAL + n, where k and the result are normal numbers
 *   v_pow2_8ths(m, powers) for m = V_INTEGRAL + n the float with the bits powers[n % 8] + (n << 20), n % 8 in 0 .. 7: of powers
 *                      that are the bits of k 2^(j / 8), less j << 20, it is k 2^(n / 8). powers [16]: the eight, twice
 *   v_exponent(x)      the unbiased exponent of a positive normal x, as a float
 *   v_mantissa(x)      that x scaled into [1, 2)
 *   v_copysign(a, s)   |a| with the sign bit of s */
#ifndef GI_VEC_SCALAR_H
#define GI_VEC_SCALAR_H
#include "../half.h"
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#define V_INLINE static inline __attribute__((always_inline))
#define V_LANES 1
#define V_PARTS 16
#define V_REGISTERS 16
#define V_TILE_SUMS 4
#define V_PAIR_SUMS 4
#define V_WIDE_PARTS 1
#define V_ROW_BLOCKS 1

typedef float v_f;
typedef int v_m;

V_INLINE uint32_t v_bits(v_f a) {
    uint32_t u;
    memcpy(&u, &a, sizeof u);
    return u;
}
V_INLINE v_f v_from_bits(uint32_t u) {
    v_f a;
    memcpy(&a, &u, sizeof a);
    return a;
}
V_INLINE v_f v_load(const float *p) { return *p; }
V_INLINE void v_store(float *p, v_f a) { *p = a; }
V_INLINE v_f v_load_n(const float *p, int64_t n) { return n > 0 ? *p : 0.0f; }
V_INLINE v_f v_load_or(const float *p, int64_t n, v_f fill) { return n > 0 ? *p : fill; }
V_INLINE void v_store_n(float *p, v_f a, int64_t n) {
    if (n > 0) *p = a;
}
V_INLINE v_f v_load_bf16(const float *words, int part, int half) {
    uint32_t u;
    memcpy(&u, words + part, sizeof u);
    return v_from_bits(half ? u & 0xffff0000u : u << 16);
}
V_INLINE v_f v_load_f16(const float *words, int part, int half) {
    uint16_t u;
    memcpy(&u, (const char *)words + (half * 16 + part) * sizeof u, sizeof u);
    return gi_f16_value(u);
}
V_INLINE v_f v_settle(v_f a) { return a; }
V_INLINE v_f v_set1(float a) { return a; }

V_INLINE v_f v_add(v_f a, v_f b) { return a + b; }
V_INLINE v_f v_sub(v_f a, v_f b) { return a - b; }
V_INLINE v_f v_mul(v_f a, v_f b) { return a * b; }
V_INLINE v_f v_div(v_f a, v_f b) { return a / b; }
V_INLINE v_f v_fma(v_f a, v_f b, v_f c) { return fmaf(a, b, c); }
V_INLINE v_f v_accumulate(v_f sum, v_f a, v_f b) { return fmaf(a, b, sum); }
V_INLINE v_f v_sqrt(v_f a) { return sqrtf(a); }
V_INLINE v_f v_abs(v_f a) { return fabsf(a); }
V_INLINE v_f v_neg(v_f a) { return -a; }
#if defined(__SSE__)
/* The instruction, because it flushes denormals when told to; what a compiler makes of the ternary may not. */
V_INLINE v_f v_min(v_f a, v_f b) { return _mm_cvtss_f32(_mm_min_ss(_mm_set_ss(a), _mm_set_ss(b))); }
V_INLINE v_f v_max(v_f a, v_f b) { return _mm_cvtss_f32(_mm_max_ss(_mm_set_ss(a), _mm_set_ss(b))); }
#else
V_INLINE v_f v_min(v_f a, v_f b) { return a < b ? a : b; }
V_INLINE v_f v_max(v_f a, v_f b) { return a > b ? a : b; }
#endif
V_INLINE v_f v_round(v_f a) { return rintf(a); }
V_INLINE v_f v_floor(v_f a) { return floorf(a); }
V_INLINE v_f v_ceil(v_f a) { return ceilf(a); }
V_INLINE v_f v_copysign(v_f a, v_f s) { return copysignf(a, s); }

V_INLINE v_f v_down(v_f a, const int lanes) {
    (void)lanes;
    return a;
}
V_INLINE float v_first_lane(v_f a) { return a; }

V_INLINE v_m v_lt(v_f a, v_f b) { return a < b; }
V_INLINE v_m v_le(v_f a, v_f b) { return a <= b; }
V_INLINE v_m v_eq(v_f a, v_f b) { return a == b; }
V_INLINE v_m v_or(v_m a, v_m b) { return a | b; }
V_INLINE v_m v_and(v_m a, v_m b) { return a & b; }
V_INLINE v_m v_not(v_m a) { return !a; }
V_INLINE int v_any(v_m a) { return a; }
V_INLINE v_f v_select(v_m m, v_f a, v_f b) { return m ? a : b; }

V_INLINE v_f v_pow2(v_f m) { return v_from_bits(v_bits(m) << 23); }
V_INLINE v_f v_times_pow2(v_f k, v_f m) { return v_from_bits(v_bits(k) + (v_bits(m) << 23)); }
V_INLINE v_f v_pow2_8ths(v_f m, const uint32_t *powers) { return v_from_bits(powers[v_bits(m) & 7] + (v_bits(m) << 20)); }
V_INLINE v_f v_exponent(v_f x) { return (float)((int32_t)(v_bits(x) >> 23) - 127); }
V_INLINE v_f v_mantissa(v_f x) { return v_from_bits((v_bits(x) & 0x007fffffu) | 0x3f800000u); }

#endif
