/* What the C tests share: a small random generator, awkward floats, comparison by bits, single checks, and one
 * line per group. */
#ifndef GI_CHECK_H
#define GI_CHECK_H
#include "kernels/half.h"
#include <gateinfer.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Marsaglia's xorshift64: tests must fail the same way everywhere. */
static uint64_t check_state = 0x9e3779b97f4a7c15u;
static inline uint32_t random_bits(void) {
    check_state ^= check_state << 13;
    check_state ^= check_state >> 7;
    check_state ^= check_state << 17;
    return (uint32_t)(check_state >> 32);
}
static inline int64_t random_below(int64_t n) { return (int64_t)(random_bits() % (uint64_t)n); }
static inline float random_value(float span) { return ((float)random_bits() / 2147483648.0f - 1.0f) * span; }

/* Every NaN equals every NaN; all else by bits, so that -0 is not 0. */
static inline int same_float(float a, float b) { return gi_float_bits(a) == gi_float_bits(b) || (a != a && b != b); }

/* Mostly ordinary values; with `awkward` one in eight is special and one in eight an arbitrary bit pattern. */
static inline float random_input(int awkward) {
    static const float special[] = {0.0f, -0.0f, 1e-40f, -1e-45f, 1.17549435e-38f, INFINITY, -INFINITY, NAN,
                                    1.0f, -1.0f, 88.5f, -88.5f, 3.4e38f, 8193.0f, 0.5f, -2.5f};
    const uint32_t pick = awkward ? random_bits() % 8 : 7;
    if (pick == 0) return special[random_below(16)];
    if (pick == 1) return gi_float_of(random_bits());
    return random_value(pick < 4 ? 100.0f : 3.0f);
}
static inline void fill_random(float *x, int64_t n, int awkward) {
    for (int64_t i = 0; i < n; i++) x[i] = random_input(awkward);
}

/* Cache-line aligned; free gives them back. */
static inline float *aligned_floats(int64_t n) { return aligned_alloc(64, (size_t)(n * 4 + 63) / 64 * 64); }

static int check_failures;
/* Prints the first failures, with what to say of them. */
#define CHECK(condition, ...)                           \
    do {                                                \
        if (!(condition) && ++check_failures < 20) {    \
            printf("%s:%d: ", __func__, __LINE__);      \
            printf(__VA_ARGS__);                        \
            puts("");                                   \
        }                                               \
    } while (0)
static inline int check_group(const char *isa, const char *group, long cases, long failed) {
    printf("%-8s %-34s %8ld cases  %s", isa, group, cases, failed ? "FAILED" : "ok");
    if (failed) printf(" %ld", failed);
    printf("\n");
    check_failures += failed != 0;
    return failed == 0;
}

#endif
