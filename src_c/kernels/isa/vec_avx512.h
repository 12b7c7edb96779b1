/* The vector words of vec_scalar.h with 16 lanes: AVX-512 F, DQ, BW, VL. Needs immintrin.h and a target pragma
 * before it. */
#ifndef GI_VEC_AVX512_H
#define GI_VEC_AVX512_H
#include <immintrin.h>
#include <stdint.h>

#define V_INLINE static inline __attribute__((always_inline))
#define V_LANES 16
#define V_PARTS 1
#define V_REGISTERS 32
#define V_TILE_SUMS 24
#define V_PAIR_SUMS 24
#define V_WIDE_PARTS 1
#define V_ROW_BLOCKS 2

typedef __m512 v_f;
typedef __mmask16 v_m;

V_INLINE v_m v_first(int64_t n) {
    int64_t lanes = n < 0 ? 0 : n > V_LANES ? V_LANES : n;
    return (v_m)((1u << lanes) - 1u);
}

V_INLINE v_f v_load(const float *p) { return _mm512_loadu_ps(p); }
V_INLINE void v_store(float *p, v_f a) { _mm512_storeu_ps(p, a); }
V_INLINE v_f v_load_n(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(v_first(n), p); }
V_INLINE v_f v_load_or(const float *p, int64_t n, v_f fill) { return _mm512_mask_loadu_ps(fill, v_first(n), p); }
V_INLINE void v_store_n(float *p, v_f a, int64_t n) { _mm512_mask_storeu_ps(p, v_first(n), a); }
V_INLINE v_f v_load_bf16(const float *words, int part, int half) {
    __m512i w = _mm512_loadu_si512(words + part * V_LANES);
    return _mm512_castsi512_ps(half ? _mm512_and_si512(w, _mm512_set1_epi32((int)0xffff0000)) : _mm512_slli_epi32(w, 16));
}
V_INLINE v_f v_load_f16(const float *words, int part, int half) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(words + half * 8 + part * (V_LANES / 2))));
}
V_INLINE v_f v_settle(v_f a) {
    __asm__("" : "+v"(a));
    return a;
}
V_INLINE v_f v_set1(float a) { return _mm512_set1_ps(a); }

V_INLINE v_f v_add(v_f a, v_f b) { return _mm512_add_ps(a, b); }
V_INLINE v_f v_sub(v_f a, v_f b) { return _mm512_sub_ps(a, b); }
V_INLINE v_f v_mul(v_f a, v_f b) { return _mm512_mul_ps(a, b); }
V_INLINE v_f v_div(v_f a, v_f b) { return _mm512_div_ps(a, b); }
V_INLINE v_f v_fma(v_f a, v_f b, v_f c) { return _mm512_fmadd_ps(a, b, c); }
V_INLINE v_f v_accumulate(v_f sum, v_f a, v_f b) { return _mm512_fmadd_ps(a, b, sum); }
V_INLINE v_f v_sqrt(v_f a) { return _mm512_sqrt_ps(a); }
V_INLINE v_f v_abs(v_f a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
V_INLINE v_f v_neg(v_f a) { return _mm512_xor_ps(_mm512_set1_ps(-0.0f), a); }
V_INLINE v_f v_min(v_f a, v_f b) { return _mm512_min_ps(a, b); }
V_INLINE v_f v_max(v_f a, v_f b) { return _mm512_max_ps(a, b); }
V_INLINE v_f v_round(v_f a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
V_INLINE v_f v_floor(v_f a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
V_INLINE v_f v_ceil(v_f a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
V_INLINE v_f v_copysign(v_f a, v_f s) { /* 0xd8: sign ? s : a, bit by bit */
    __m512i sign = _mm512_set1_epi32(INT32_MIN);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(a), _mm512_castps_si512(s), sign, 0xd8));
}

V_INLINE v_f v_down(v_f a, const int lanes) {
    switch (lanes) {
    case 8: return _mm512_shuffle_f32x4(a, a, 0x4e);
    case 4: return _mm512_shuffle_f32x4(a, a, 0xb1);
    case 2: return _mm512_permute_ps(a, 0x4e);
    default: return _mm512_permute_ps(a, 0xb1);
    }
}
V_INLINE float v_first_lane(v_f a) { return _mm512_cvtss_f32(a); }

V_INLINE v_m v_lt(v_f a, v_f b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
V_INLINE v_m v_le(v_f a, v_f b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
V_INLINE v_m v_eq(v_f a, v_f b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
V_INLINE v_m v_or(v_m a, v_m b) { return (v_m)(a | b); }
V_INLINE v_m v_and(v_m a, v_m b) { return (v_m)(a & b); }
V_INLINE v_m v_not(v_m a) { return (v_m)~a; }
V_INLINE int v_any(v_m a) { return a != 0; }
V_INLINE v_f v_select(v_m m, v_f a, v_f b) { return _mm512_mask_blend_ps(m, b, a); }

V_INLINE v_f v_pow2(v_f m) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(m), 23)); }
V_INLINE v_f v_times_pow2(v_f k, v_f m) {
    __m512i n = _mm512_slli_epi32(_mm512_castps_si512(m), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(k), n));
}
V_INLINE v_f v_pow2_8ths(v_f m, const uint32_t *powers) {
    __m512i n = _mm512_castps_si512(m), power = _mm512_permutexvar_epi32(n, _mm512_loadu_si512(powers));
    return _mm512_castsi512_ps(_mm512_add_epi32(power, _mm512_slli_epi32(n, 20)));
}
V_INLINE v_f v_exponent(v_f x) {
    __m512i biased = _mm512_srli_epi32(_mm512_castps_si512(x), 23);
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(biased, _mm512_set1_epi32(127)));
}
V_INLINE v_f v_mantissa(v_f x) {
    __m512i fraction = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x007fffff));
    return _mm512_castsi512_ps(_mm512_or_si512(fraction, _mm512_set1_epi32(0x3f800000)));
}

#endif
