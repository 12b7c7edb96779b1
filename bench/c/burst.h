/* What the C benchmarks share: a clock and memory. */
#ifndef BURST_H
#define BURST_H
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Cache-line aligned, each at another place within a page: equal low address bits would make loads wait for stores. Huge pages
 * where the system gives them; never freed, the programs are short. */
static inline float *floats(int64_t n) {
    static int64_t calls;
    const int64_t shift = 80 * (calls++ % 12);
    float *p = aligned_alloc(1 << 21, (((size_t)(n + shift) * sizeof *p >> 21) + 1) << 21);
    if (!p) exit(1);
    p += shift;
    for (int64_t i = 0; i < n; i++) p[i] = (float)((i * 2654435761u >> 8 & 0xffff) / 65536.0 - 0.5) * 0.2f;
    return p;
}

#endif
