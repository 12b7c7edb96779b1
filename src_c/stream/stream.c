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
    gi_team *team;
    int backward;            /* this step reads weights from their end */
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
    return GI_OK;
}

static gi_stream *stream_alloc(const gi_program *p) {
    gi_arena *arena = gi_arena_create();
    if (!arena) return NULL;
    gi_stream *s = gi_arena_take(arena, sizeof *s);
    void **ptr = gi_arena_take(arena, (size_t)p->n_tensors * sizeof *ptr);
    if (!s || !ptr) {
        gi_arena_free(arena);
        return NULL;
    }
    *s = (gi_stream){.arena = arena, .program = p, .ptr = ptr};
    return s;
}

gi_stream *gi_stream_create(const gi_program *p, int64_t rows, gi_error *err) {
    if (rows < 1) {
        gi_fail(err, GI_ERR_ARGUMENT, "a stream needs at least one row, got %lld", (long long)rows);
        return NULL;
    }
    gi_stream *s = stream_alloc(p);
    if (!s) {
        gi_fail(err, GI_ERR_MEMORY, "out of memory for a stream");
        return NULL;
    }
    s->rows = rows;
    if (place_work(s, err) < 0) {
        gi_stream_free(s);
        return NULL;
    }
    return s;
}

void gi_stream_free(gi_stream *s) {
    if (s) gi_arena_free(s->arena);   /* the stream itself lives in its arena */
}

void gi_stream_use_team(gi_stream *s, gi_team *team) { s->team = team; }

int gi_stream_bind(gi_stream *s, int tensor, void *data, gi_error *err) {
    const gi_program *p = s->program;
    if (tensor < 0 || tensor >= p->n_tensors || p->tensors[tensor].kind != GI_EXTERNAL)
        return gi_fail(err, GI_ERR_ARGUMENT, "tensor %d is not external", tensor);
    if (!data) return gi_fail(err, GI_ERR_ARGUMENT, "tensor %d cannot be bound to NULL", tensor);
    s->unbound -= !s->ptr[tensor] && p->tensors[tensor].elements > 0;
    s->ptr[tensor] = data;
    return GI_OK;
}

static gi_frame next_frame(gi_stream *s) {
    s->backward = !s->backward;
    return (gi_frame){.ptr = s->ptr, .rows = s->rows, .kernels = s->program->kernels, .team = s->team, .backward = s->backward};
}

static int run_ops(gi_stream *s, gi_error *err) {
    const gi_program *p = s->program;
    const gi_frame frame = next_frame(s);
    for (int32_t i = 0; i < p->n_ops; i++) {
        int status = p->ops[i]->run(p->ops[i], &frame, err);
        if (status < 0) return status;
    }
    return GI_OK;
}

static void carry_state(const gi_stream *s) {
    const gi_program *p = s->program;
    for (int32_t i = 0; i < p->n_carries; i++) {
        const gi_tensor *t = &p->tensors[p->carries[i][0]];
        size_t bytes = (size_t)t->elements * gi_dtype_size(t->dtype) * (size_t)s->rows;
        if (bytes) memcpy(s->ptr[p->carries[i][1]], s->ptr[p->carries[i][0]], bytes);
    }
}

static int run_ops_timed(gi_stream *s, int64_t *ns, gi_error *err) {
    const gi_program *p = s->program;
    const gi_frame frame = next_frame(s);
    int status = GI_OK;
    for (int32_t i = 0; i < p->n_ops && status >= 0; i++) {
        int64_t start = gi_nanoseconds();
        status = p->ops[i]->run(p->ops[i], &frame, err);
        ns[i] = gi_nanoseconds() - start;
    }
    return status;
}

/* One pass in the engine's floating-point mode. ns [ops], or NULL where nobody asks for times. */
static int run_once(gi_stream *s, int64_t *ns, gi_error *err) {
    gi_error unseen;
    if (!err) err = &unseen;
    if (s->unbound) return gi_fail(err, GI_ERR_STATE, "%d external tensors are not bound", s->unbound);
    const gi_fpmode caller = gi_fpmode_enter();
    const int status = ns ? run_ops_timed(s, ns, err) : run_ops(s, err);
    gi_fpmode_leave(caller);
    return status;
}

int gi_stream_step(gi_stream *s, gi_error *err) {
    const int status = run_once(s, NULL, err);
    if (status == GI_OK) carry_state(s);
    return status;
}

int gi_stream_profile(gi_stream *s, int64_t *ns, gi_error *err) { return run_once(s, ns, err); }
