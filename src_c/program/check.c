/* What every op builder checks about the views it is given. */
#include "builder.h"

int64_t gi_view_count(const gi_view *v) {
    int64_t count = 1;
    for (int i = 0; i < v->rank; i++) count = gi_size_mul(count, v->shape[i]);
    return count;
}

/* The lowest and highest element a non-empty view touches; -1 on overflow. */
static int view_span(const gi_view *v, int64_t *low, int64_t *high) {
    *low = *high = v->offset;
    for (int i = 0; i < v->rank; i++) {
        int64_t reach;
        if (__builtin_mul_overflow(v->shape[i] - 1, v->stride[i], &reach)) return -1;
        if (__builtin_add_overflow(reach < 0 ? *low : *high, reach, reach < 0 ? low : high)) return -1;
    }
    return 0;
}

int gi_check_view(gi_builder *b, const gi_view *v, const char *what, gi_error *err) {
    const gi_program *p = b->program;
    if (!p) return gi_fail(err, GI_ERR_STATE, "the builder is finished");
    if (!v || v->tensor < 0 || v->tensor >= p->n_tensors)
        return gi_fail(err, GI_ERR_ARGUMENT, "%s: no such tensor", what);
    if (v->rank < 0 || v->rank > GI_MAX_RANK)
        return gi_fail(err, GI_ERR_ARGUMENT, "%s: rank %d is not in 0..%d", what, v->rank, GI_MAX_RANK);
    for (int i = 0; i < v->rank; i++)
        if (v->shape[i] < 0) return gi_fail(err, GI_ERR_SHAPE, "%s: axis %d has a negative extent", what, i);
    int64_t count = gi_view_count(v), low, high;
    if (count < 0) return gi_fail(err, GI_ERR_LIMIT, "%s: the view has too many elements", what);
    if (count == 0) return GI_OK;
    if (view_span(v, &low, &high) < 0 || low < 0 || high >= p->tensors[v->tensor].elements)
        return gi_fail(err, GI_ERR_SHAPE, "%s: the view leaves its tensor of %lld elements", what,
                       (long long)p->tensors[v->tensor].elements);
    return GI_OK;
}

int gi_view_dtype(const gi_builder *b, const gi_view *v) { return b->program->tensors[v->tensor].dtype; }

int gi_check_dtype(const gi_builder *b, const gi_view *v, int dtype, const char *what, gi_error *err) {
    static const char *const names[GI_DTYPE_COUNT] = {"float32", "int64", "int32", "bool", "uint8", "int8", "uint16",
                                                      "int16", "uint32", "float16", "float64"};
    int got = gi_view_dtype(b, v);
    if (got == dtype) return GI_OK;
    return gi_fail(err, GI_ERR_SHAPE, "%s: expected %s, got %s", what, names[dtype], names[got]);
}

int gi_check_same_shape(const gi_view *a, const gi_view *b, const char *what, gi_error *err) {
    if (a->rank != b->rank) return gi_fail(err, GI_ERR_SHAPE, "%s: ranks %d and %d differ", what, a->rank, b->rank);
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i])
            return gi_fail(err, GI_ERR_SHAPE, "%s: axis %d has %lld and %lld elements", what, i, (long long)a->shape[i],
                           (long long)b->shape[i]);
    return GI_OK;
}

int gi_check_writable(const gi_builder *b, const gi_view *v, const char *what, gi_error *err) {
    if (b->program->tensors[v->tensor].kind == GI_CONSTANT)
        return gi_fail(err, GI_ERR_ARGUMENT, "%s: a constant cannot be written", what);
    for (int i = 0; i < v->rank; i++)
        if (v->stride[i] == 0 && v->shape[i] > 1)
            return gi_fail(err, GI_ERR_ARGUMENT, "%s: axis %d writes one element many times", what, i);
    return GI_OK;
}
