/* The vector words of vec_scalar.h with 8 lanes: AVX2 and FMA. Needs immintrin.h and a target pragma before it. */
#ifndef GI_VEC_AVX2_H
#define GI_VEC_AVX2_H
#include <immintrin.h>
#include <stdint.h>

#define V_INLINE static inline __attribute__((always_inline))
#define V_LANES 8
#define V_PARTS 2
#define V_REGISTERS 16
#define V_TILE_SUMS 12
#define V_PAIR_SUMS 9
#define V_WIDE_PARTS 2
#define V_ROW_BLOCKS 1

typedef __m256 v_f;
typedef __m256 v_m; /* all bits of a lane set or clear */

/* The mask of the first n lanes: a window on 8 set lanes followed by 8 clear ones. */
static const int32_t v_first_lanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
V_INLINE __m256i v_first(int64_t n) {
    int64_t lanes = n < 0 ? 0 : n > V_LANES ? V_LANES : n;
    return _mm256_loadu_si256((const __m256i *)(v_first_lanes + V_LANES - lanes));
}

V_INLINE v_f v_load(const float *p) { return _mm256_loadu_ps(p); }
V_INLINE void v_store(float *p, v_f a) { _mm256_storeu_ps(p, a); }
V_INLINE v_f v_load_n(const float *p, int64_t n) { return _mm256_maskload_ps(p, v_first(n)); }
V_INLINE v_f v_load_or(const float *p, int64_t n, v_f fill) {
    const __m256i first = v_first(n);
    return _mm256_blendv_ps(fill, _mm256_maskload_ps(p, first), _mm256_castsi256_ps(first));
}
V_INLINE void v_store_n(float *p, v_f a, int64_t n) { _mm256_maskstore_ps(p, v_first(n), a); }
V_INLINE v_f v_load_bf16(const float *words, int part, int half) {
    __m256i w = _mm256_loadu_si256((const __m256i *)(words + part * V_LANES));
    return _mm256_castsi256_ps(half ? _mm256_and_si256(w, _mm256_set1_epi32((int)0xffff0000)) : _mm256_slli_epi32(w, 16));
}
V_INLINE v_f v_load_f16(const float *words, int part, int half) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(words + half * 8 + part * (V_LANES / 2))));
}
V_INLINE v_f v_settle(v_f a) {
    __asm__("" : "+x"(a));
    return a;
}
V_INLINE v_f v_set1(float a) { return _mm256_set1_ps(a); }

V_INLINE v_f v_add(v_f a, v_f b) { return _mm256_add_ps(a, b); }
V_INLINE v_f v_sub(v_f a, v_f b) { return _mm256_sub_ps(a, b); }
V_INLINE v_f v_mul(v_f a, v_f b) { return _mm256_mul_ps(a, b); }
V_INLINE v_f v_div(v_f a, v_f b) { return _mm256_div_ps(a, b); }
V_INLINE v_f v_fma(v_f a, v_f b, v_f c) { return _mm256_fmadd_ps(a, b, c); }
V_INLINE v_f v_accumulate(v_f sum, v_f a, v_f b) {
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
}
V_INLINE v_f v_sqrt(v_f a) { return _mm256_sqrt_ps(a); }
V_INLINE v_f v_abs(v_f a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
V_INLINE v_f v_neg(v_f a) { return _mm256_xor_ps(_mm256_set1_ps(-0.0f), a); }
V_INLINE v_f v_min(v_f a, v_f b) { return _mm256_min_ps(a, b); }
V_INLINE v_f v_max(v_f a, v_f b) { return _mm256_max_ps(a, b); }
V_INLINE v_f v_round(v_f a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
V_INLINE v_f v_floor(v_f a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
V_INLINE v_f v_ceil(v_f a) { return _mm256_round_ps(a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
V_INLINE v_f v_copysign(v_f a, v_f s) {
    return _mm256_or_ps(v_abs(a), _mm256_and_ps(_mm256_set1_ps(-0.0f), s));
}

V_INLINE v_f v_down(v_f a, const int lanes) {
    switch (lanes) {
    case 4: return _mm256_permute2f128_ps(a, a, 1);
    case 2: return _mm256_permute_ps(a, 0x4e);
    default: return _mm256_permute_ps(a, 0xb1);
    }
}
V_INLINE float v_first_lane(v_f a) { return _mm256_cvtss_f32(a); }

V_INLINE v_m v_lt(v_f a, v_f b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
V_INLINE v_m v_le(v_f a, v_f b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
V_INLINE v_m v_eq(v_f a, v_f b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
V_INLINE v_m v_or(v_m a, v_m b) { return _mm256_or_ps(a, b); }
V_INLINE v_m v_and(v_m a, v_m b) { return _mm256_and_ps(a, b); }
V_INLINE v_m v_not(v_m a) { return _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1))); }
V_INLINE int v_any(v_m a) { return _mm256_movemask_ps(a) != 0; }
V_INLINE v_f v_select(v_m m, v_f a, v_f b) { return _mm256_blendv_ps(b, a, m); }

V_INLINE v_f v_pow2(v_f m) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(m), 23)); }
V_INLINE v_f v_times_pow2(v_f k, v_f m) {
    __m256i n = _mm256_slli_epi32(_mm256_castps_si256(m), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(k), n));
}
V_INLINE v_f v_pow2_8ths(v_f m, const uint32_t *powers) {
    __m256i n = _mm256_castps_si256(m), power = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i *)powers), n);
    return _mm256_castsi256_ps(_mm256_add_epi32(power, _mm256_slli_epi32(n, 20)));
}
V_INLINE v_f v_exponent(v_f x) {
    __m256i biased = _mm256_srli_epi32(_mm256_castps_si256(x), 23);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127)));
}
V_INLINE v_f v_mantissa(v_f x) {
    __m256i fraction = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x007fffff));
    return _mm256_castsi256_ps(_mm256_or_si256(fraction, _mm256_set1_epi32(0x3f800000)));
}

#endif
