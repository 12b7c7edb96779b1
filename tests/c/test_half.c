/* 16-bit floats: every bf16 and f16 pattern there and back, and float32 values rounded to nearest, ties to even, against a
 * search over the neighbours. Exit status 1 on any failure. */
#include "check.h"

#define CHECK_OF(x, good, what) CHECK(good, "%s: %a", what, (double)(x))

/* f16 by its definition (IEEE 754-2008, 3.4), in double. */
static double f16_by_definition(uint16_t h) {
    const int exponent = h >> 10 & 31, fraction = h & 1023;
    const double size = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return h & 0x8000 ? -size : size;
}

static void check_pattern(uint16_t h) {
    const float f = gi_f16_value(h), b = gi_bf16_value(h);
    if (isnan(f)) CHECK_OF(f, isnan(gi_f16_value(gi_f16_bits(f))), "f16 NaN");
    else CHECK_OF(f, gi_f16_bits(f) == h, "f16 there and back");
    if (isfinite(f)) CHECK_OF(f, (double)f == f16_by_definition(h), "f16 value");
    if (isnan(b)) CHECK_OF(b, isnan(gi_bf16_value(gi_bf16_bits(b))), "bf16 NaN");
    else CHECK_OF(b, gi_bf16_bits(b) == h, "bf16 there and back");
}

/* Between two neighbours: the nearer, the even one at the middle. lower < upper are positive patterns. */
static void check_between(uint16_t lower, float (*value)(uint16_t), uint16_t (*bits)(float), const char *what) {
    const double a = value(lower), b = value((uint16_t)(lower + 1));
    const float middle = (float)((a + b) / 2);
    CHECK_OF(middle, bits(middle) == (lower & 1 ? lower + 1 : lower), what);
    CHECK_OF(middle, bits(nextafterf(middle, 0.0f)) == lower, what);
    CHECK_OF(middle, bits(nextafterf(middle, INFINITY)) == lower + 1, what);
    CHECK_OF(-middle, bits(-middle) == ((lower & 1 ? lower + 1 : lower) | 0x8000), what);
}

int main(void) {
    for (int h = 0; h < 0x10000; h++) check_pattern((uint16_t)h);
    for (int h = 0; h < 0x7bff; h++) check_between((uint16_t)h, gi_f16_value, gi_f16_bits, "f16 rounding");
    for (int h = 0; h < 0x7f7f; h++) check_between((uint16_t)h, gi_bf16_value, gi_bf16_bits, "bf16 rounding");
    CHECK_OF(65520.0f, gi_f16_bits(65519.996f) == 0x7bff && gi_f16_bits(65520.0f) == 0x7c00, "f16 overflow");
    CHECK_OF(1e30f, gi_f16_bits(INFINITY) == 0x7c00 && gi_f16_bits(-INFINITY) == 0xfc00 && gi_f16_bits(1e30f) == 0x7c00, "f16 infinity");
    if (check_failures) printf("16-bit floats: %d checks failed\n", check_failures);
    else puts("16-bit floats: ok");
    return check_failures != 0;
}
