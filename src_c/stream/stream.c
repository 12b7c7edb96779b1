#include "../base/clock.h"
#include "../base/fpmode.h"
#include "../program/program.h"
#include <string.h>

struct gi_stream {
    gi_arena *arena;
    const gi_program *program;
    int64_t rows;
    int32_t unbound;         /* external tensors without memory yet */
    void **ptr;              /* [tensors] */
    size_t *carried;         /* [copies] bytes */
    gi_frame frame;          /* of the newest step */
};

/* Work memory of row r follows that of row r - 1 within each tensor, so offsets scale with the number of rows. */
static int place_work(gi_stream *s, gi_error *err) {
    const gi_program *p = s->program;
    int64_t bytes = gi_size_mul(p->work_bytes, s->rows);
    char *work = bytes < 0 ? NULL : gi_arena_take(s->arena, (size_t)bytes);
    if (!work) return gi_fail(err, GI_ERR_MEMORY, "out of memory for a stream of %lld bytes", (long long)bytes);
    for (int32_t i = 0; i < p->n_tensors; i++) {
        const gi_tensor *t = &p->tensors[i];
        if (t->kind == GI_WORK) s->ptr[i] = work + t->offset * s->rows;
        if (t->kind == GI_CONSTANT) s->ptr[i] = (void *)t->data;
        s->unbound += t->kind == GI_EXTERNAL && t->elements > 0;
    }
    for (int32_t i = 0; i < p->n_copies; i++) {
        const gi_tensor *t = &p->tensors[p->carries[i][0]];
        s->carried[i] = (size_t)t->elements * gi_dtype_size(t->dtype) * (size_t)s->rows;
    }
    return GI_OK;
}

static gi_stream *stream_alloc(const gi_program *p, int64_t rows) {
    gi_arena *arena = gi_arena_create();
    if (!arena) return NULL;
    gi_stream *s = gi_arena_take(arena, sizeof *s);
    void **ptr = gi_arena_take(arena, (size_t)p->n_tensors * sizeof *ptr);
    size_t *carried = gi_arena_take(arena, (size_t)p->n_copies * sizeof *carried);
    if (!s || !ptr || !carried) {
        gi_arena_free(arena);
        return NULL;
    }
    *s = (gi_stream){.arena = arena, .program = p, .rows = rows, .ptr = ptr, .carried = carried,
                     .frame = {.ptr = ptr, .rows = rows, .kernels = p->kernels}};
    return s;
}

gi_stream *gi_stream_create(const gi_program *p, int64_t rows, gi_error *err) {
    if (rows < 1) {
        gi_fail(err, GI_ERR_ARGUMENT, "a stream needs at least one row, got %lld", (long long)rows);
        return NULL;
    }
    gi_stream *s = stream_alloc(p, rows);
    if (!s) {
        gi_fail(err, GI_ERR_MEMORY, "out of memory for a stream");
        return NULL;
    }
    if (place_work(s, err) < 0) {
        gi_stream_free(s);
        return NULL;
    }
    return s;
}

void gi_stream_free(gi_stream *s) {
    if (s) gi_arena_free(s->arena);   /* the stream itself lives in its arena */
}

void gi_stream_use_team(gi_stream *s, gi_team *team) { s->frame.team = team; }

int gi_stream_bind(gi_stream *s, int tensor, void *data, gi_error *err) {
    const gi_program *p = s->program;
    if (tensor < 0 || tensor >= p->n_tensors || p->tensors[tensor].kind != GI_EXTERNAL)
        return gi_fail(err, GI_ERR_ARGUMENT, "tensor %d is not external", tensor);
    if (!data) return gi_fail(err, GI_ERR_ARGUMENT, "tensor %d cannot be bound to NULL", tensor);
    s->unbound -= !s->ptr[tensor] && p->tensors[tensor].elements > 0;
    s->ptr[tensor] = data;
    return GI_OK;
}

/* ns [ops]: how long each takes. NULL from a step, and a constant there: its loop has no clock in it. */
static inline __attribute__((always_inline)) int run_ops(const gi_stream *s, int64_t *ns, gi_error *err) {
    const gi_program *p = s->program;
    for (int32_t i = 0; i < p->n_ops; i++) {
        const int64_t start = ns ? gi_nanoseconds() : 0;
        const int status = p->ops[i]->run(p->ops[i], &s->frame, err);
        if (ns) ns[i] = gi_nanoseconds() - start;
        if (status < 0) return status;
    }
    return GI_OK;
}

static void carry_state(const gi_stream *s) {
    const gi_program *p = s->program;
    for (int32_t i = 0; i < p->n_copies; i++)
        if (s->carried[i]) memcpy(s->ptr[p->carries[i][1]], s->ptr[p->carries[i][0]], s->carried[i]);
}

/* One pass in the engine's floating-point mode. Inlined, so that a step keeps only what it needs of it. */
static inline __attribute__((always_inline)) int run_once(gi_stream *s, int64_t *ns, gi_error *err) {
    gi_error unseen;
    if (!err) err = &unseen;
    if (s->unbound) return gi_fail(err, GI_ERR_STATE, "%d external tensors are not bound", s->unbound);
    s->frame.backward = !s->frame.backward, s->frame.carries = !ns;
    gi_fpmode caller;
    gi_fpmode_enter(&caller);
    const int status = run_ops(s, ns, err);
    gi_fpmode_leave(&caller);
    return status;
}

int gi_stream_step(gi_stream *s, gi_error *err) {
    const int status = run_once(s, NULL, err);
    if (status == GI_OK) carry_state(s);
    return status;
}

int gi_stream_profile(gi_stream *s, int64_t *ns, gi_error *err) { return run_once(s, ns, err); }
