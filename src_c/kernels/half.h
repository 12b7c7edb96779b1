/* 16-bit floats as bit patterns: IEEE 754 binary16 (f16) and the upper half of a float32 (bf16). Rounding is to nearest,
 * ties to even. NaN stays NaN; a value past the range becomes infinite. */
#ifndef GI_HALF_H
#define GI_HALF_H
#include <stdint.h>
#include <string.h>

static inline uint32_t gi_float_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float gi_float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline uint16_t gi_bf16_bits(float x) {
    const uint32_t u = gi_float_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

static inline float gi_bf16_value(uint16_t h) { return gi_float_of((uint32_t)h << 16); }

static inline uint16_t gi_f16_bits(float x) {
    const uint32_t u = gi_float_bits(x), sign = u >> 16 & 0x8000u, magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);            /* rounds to 2^16 or more */
    if (magnitude < 0x38800000u) {                                              /* below 2^-14: units of 2^-24 */
        const float shifted = gi_float_of(magnitude) + 0.5f;                    /* the sum's last bit is 2^-24 */
        return (uint16_t)(sign | (gi_float_bits(shifted) - 0x3f000000u));
    }
    const uint32_t rebiased = magnitude - (112u << 23);
    return (uint16_t)(sign | (rebiased + 0xfffu + (rebiased >> 13 & 1u)) >> 13);
}

static inline float gi_f16_value(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 0x3ffu;
    if (exponent == 31) return gi_float_of(sign | 0x7f800000u | fraction << 13);
    if (exponent) return gi_float_of(sign | (exponent + 112u) << 23 | fraction << 13);
    return gi_float_of(sign | gi_float_bits((float)fraction * 0x1p-24f));
}

#endif
