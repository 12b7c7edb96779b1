/* Windows that slide over the last two axes of [N, C, h, w]: what pool and conv share. */
#ifndef GI_WINDOW_H
#define GI_WINDOW_H
#include "strided.h"

/* Of the indices i in [0, n), those with 0 <= start + i * step < extent are [*low, *high). step > 0. */
static inline void gi_inside(int64_t start, int64_t step, int64_t n, int64_t extent, int64_t *low, int64_t *high) {
    *low = start < 0 ? (-start + step - 1) / step : 0;
    *high = start < extent ? (extent - start + step - 1) / step : 0;
    if (*high > n) *high = n;
    if (*low > *high) *low = *high;
}

/* A line of n elements from `start` on in steps of `step`, of which [low, high) are inside [0, extent). */
typedef struct gi_padded { int64_t start, step, n, low, high; } gi_padded;
gi_padded gi_padded_line(int64_t start, int64_t step, int64_t n, int64_t extent);
/* dst[i] = line[(start + i * step) * stride] inside, 0 elsewhere. */
void gi_take_padded(float *dst, const float *line, int64_t stride, const gi_padded *p);

/* Two different float32 views [N, .., .., ..], `out` writable, and a window whose sizes cannot overflow. */
int gi_check_window(gi_builder *b, const gi_view *out, const gi_view *in, const gi_window *window,
                    const char *const names[2], gi_error *err);

#endif
