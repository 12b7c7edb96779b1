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

/* Two different float32 views [N, .., .., ..], `out` writable, and a window whose sizes cannot overflow. */
int gi_check_window(gi_builder *b, const gi_view *out, const gi_view *in, const gi_window *window,
                    const char *const names[2], gi_error *err);

#endif
