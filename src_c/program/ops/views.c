/* Views: parts of them, and whether two of them share an element. */
#include "strided.h"

int gi_check_views(gi_builder *b, int operands, const gi_view *const *views, const char *const *names, gi_error *err) {
    for (int i = 0; i < operands; i++) {
        int status = gi_check_view(b, views[i], names[i], err);
        if (status < 0) return status;
    }
    return gi_check_writable(b, views[0], names[0], err);
}

gi_view gi_view_axes(const gi_view *v, int first, int rank) {
    gi_view part = {.tensor = v->tensor, .rank = rank, .offset = v->offset};
    for (int i = 0; i < rank; i++) {
        part.shape[i] = v->shape[first + i];
        part.stride[i] = v->stride[first + i];
    }
    return part;
}

gi_view gi_view_packed(int rank, const int64_t *shape) {
    gi_view v = {.rank = rank};
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        v.shape[i] = shape[i];
        v.stride[i] = stride;
        stride *= shape[i];
    }
    return v;
}

static int is_same_view(const gi_view *a, const gi_view *b) {
    if (a->offset != b->offset || a->rank != b->rank) return 0;
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i] || (a->shape[i] > 1 && a->stride[i] != b->stride[i])) return 0;
    return 1;
}

/* Modulo `pitch`, the view lies in `length` elements from `low` on: axes whose stride is a multiple of it fall away. */
static void fold_view(const gi_view *v, int64_t pitch, int64_t *low, int64_t *length) {
    *low = v->offset;
    *length = 1;
    for (int i = 0; i < v->rank; i++) {
        if (v->shape[i] == 1 || v->stride[i] % pitch == 0) continue;
        int64_t reach = v->stride[i] * (v->shape[i] - 1);
        if (reach < 0) *low += reach;
        *length += reach < 0 ? -reach : reach;
    }
}

static int are_apart_modulo(const gi_view *a, const gi_view *b, int64_t pitch) {
    int64_t a_low, a_length, b_low, b_length;
    fold_view(a, pitch, &a_low, &a_length);
    fold_view(b, pitch, &b_low, &b_length);
    int64_t ahead = (b_low - a_low) % pitch;
    if (ahead < 0) ahead += pitch;
    return ahead >= a_length && pitch - ahead >= b_length;
}

/* Tries each view's strides as the pitch. Two columns of one matrix are told apart; tangled views may not be. */
static int are_apart(const gi_view *a, const gi_view *b) {
    if (are_apart_modulo(a, b, INT64_MAX / 2)) return 1;
    for (int i = 0; i < a->rank + b->rank; i++) {
        const gi_view *v = i < a->rank ? a : b;
        int axis = i < a->rank ? i : i - a->rank;
        int64_t pitch = v->stride[axis] < 0 ? -v->stride[axis] : v->stride[axis];
        if (v->shape[axis] > 1 && pitch > 0 && are_apart_modulo(a, b, pitch)) return 1;
    }
    return 0;
}

int gi_check_apart(const gi_view *out, const gi_view *in, int allow_same, const char *what, gi_error *err) {
    if (in->tensor < 0 || out->tensor != in->tensor || !gi_view_count(out) || !gi_view_count(in)) return GI_OK;
    if ((allow_same && is_same_view(out, in)) || are_apart(out, in)) return GI_OK;
    return gi_fail(err, GI_ERR_ARGUMENT, "%s: overlaps the output in one tensor; write to another tensor", what);
}
