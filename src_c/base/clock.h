/* Time that only goes forward, whatever is done to the date. */
#ifndef GI_CLOCK_H
#define GI_CLOCK_H
#include <stdint.h>
#include <time.h>

static inline int64_t gi_nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#endif
