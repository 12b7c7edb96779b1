/* The memory plan: work tensors share one block, and two of them overlap only if no op needs both. */
#include "builder.h"
#include <string.h>

enum { ALIGNMENT = 64 };

static int64_t tensor_bytes(const gi_tensor *t) {
    int64_t bytes = gi_size_mul(t->elements, (int64_t)gi_dtype_size(t->dtype));
    return bytes < 0 ? -1 : (bytes + ALIGNMENT - 1) & ~(int64_t)(ALIGNMENT - 1);
}

static int alive_together(const gi_tensor *a, const gi_tensor *b) { return a->first <= b->last && b->first <= a->last; }

/* Largest first is the usual good order for offset assignment (a heap of sizes would be faster; plans are small). */
static void sort_by_size(const gi_program *p, int32_t *order, int32_t n) {
    for (int32_t gap = n / 2; gap > 0; gap /= 2)
        for (int32_t i = gap; i < n; i++)
            for (int32_t j = i; j >= gap; j -= gap) {
                const gi_tensor *a = &p->tensors[order[j - gap]], *b = &p->tensors[order[j]];
                int64_t size_a = tensor_bytes(a), size_b = tensor_bytes(b);
                if (size_a > size_b || (size_a == size_b && order[j - gap] < order[j])) break;
                int32_t swap = order[j - gap];
                order[j - gap] = order[j];
                order[j] = swap;
            }
}

/* The lowest offset for `t` that avoids every placed tensor alive with it. placed: sorted by offset, n of them. */
static int64_t find_gap(const gi_program *p, const int32_t *placed, int32_t n, const gi_tensor *t, int64_t bytes) {
    int64_t offset = 0;
    for (int32_t i = 0; i < n; i++) {
        const gi_tensor *other = &p->tensors[placed[i]];
        if (!alive_together(t, other)) continue;
        if (other->offset - offset >= bytes) break;
        int64_t end = other->offset + tensor_bytes(other);
        if (end > offset) offset = end;
    }
    return offset;
}

static void insert_placed(const gi_program *p, int32_t *placed, int32_t n, int32_t id) {
    int32_t i = n;
    for (; i > 0 && p->tensors[placed[i - 1]].offset > p->tensors[id].offset; i--) placed[i] = placed[i - 1];
    placed[i] = id;
}

int gi_plan_memory(gi_program *p, gi_error *err) {
    int32_t *order = gi_arena_take(p->arena, (size_t)p->n_tensors * 2 * sizeof *order);
    if (!order) return gi_fail(err, GI_ERR_MEMORY, "out of memory for the memory plan");
    int32_t *placed = order + p->n_tensors, n = 0;
    for (int32_t i = 0; i < p->n_tensors; i++)
        if (p->tensors[i].kind == GI_WORK && p->tensors[i].first >= 0) order[n++] = i;
    sort_by_size(p, order, n);
    for (int32_t i = 0; i < n; i++) {
        gi_tensor *t = &p->tensors[order[i]];
        int64_t bytes = tensor_bytes(t);
        if (bytes < 0) return gi_fail(err, GI_ERR_LIMIT, "the memory plan does not fit in memory");
        t->offset = find_gap(p, placed, i, t, bytes);
        int64_t end = gi_size_add(t->offset, bytes);
        if (end < 0) return gi_fail(err, GI_ERR_LIMIT, "the memory plan does not fit in memory");
        if (end > p->work_bytes) p->work_bytes = end;
        insert_placed(p, placed, i, order[i]);
    }
    return GI_OK;
}
