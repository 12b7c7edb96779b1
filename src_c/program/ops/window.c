#include "window.h"

/* Every index the window reaches, and pad_begin, must be far from overflow: sums of a few of them are taken. */
static int check_axis(const gi_view *out, const gi_window *window, int axis, gi_error *err) {
    int64_t kernel = window->kernel[axis], stride = window->stride[axis], dilation = window->dilation[axis];
    if (kernel < 1 || stride < 1 || dilation < 1 || window->pad_begin[axis] < 0)
        return gi_fail(err, GI_ERR_ARGUMENT, "window: axis %d needs kernel, stride, dilation >= 1, padding >= 0",
                       axis);
    int64_t reach = gi_size_add(gi_size_mul(out->shape[2 + axis], stride), gi_size_mul(kernel, dilation));
    if (gi_size_mul(gi_size_add(gi_size_add(reach, window->pad_begin[axis]), gi_size_add(stride, dilation)), 8) < 0)
        return gi_fail(err, GI_ERR_LIMIT, "window: axis %d reaches too far", axis);
    return GI_OK;
}

int gi_check_window(gi_builder *b, const gi_view *out, const gi_view *in, const gi_window *window,
                    const char *const names[2], gi_error *err) {
    const gi_view *views[] = {out, in};
    int status = gi_check_views(b, 2, views, names, err);
    for (int i = 0; i < 2 && status == GI_OK; i++) {
        if (views[i]->rank != 4)
            return gi_fail(err, GI_ERR_SHAPE, "%s: expected [N, C, h, w], got rank %d", names[i], views[i]->rank);
        status = gi_check_dtype(b, views[i], GI_F32, names[i], err);
    }
    if (status < 0) return status;
    if (out->shape[0] != in->shape[0])
        return gi_fail(err, GI_ERR_SHAPE, "%s: batch of %lld, but %s has %lld", names[1], (long long)in->shape[0],
                       names[0], (long long)out->shape[0]);
    if (gi_view_count(out) && !gi_view_count(in))
        return gi_fail(err, GI_ERR_SHAPE, "%s: has no elements to slide over", names[1]);
    for (int axis = 0; axis < 2; axis++)
        if ((status = check_axis(out, window, axis, err)) < 0) return status;
    return gi_check_apart(out, in, 0, names[1], err);
}
