/* gi_build_loop: a program as the body of a loop. Its work memory, its table of pointers and two buffers per carried
 * state are scratch of the parent, so running allocates nothing, and state moves from turn to turn by pointer. */
#include "loop.h"
#include <string.h>

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* What does not change between turns. Rows run one after another, so they share the scratch of row 0. */
static void set_table(const gi_loop_op *op, const gi_frame *f, void **ptr) {
    char *work = gi_at(f, &op->work, 0);
    gi_loop_flags *flags = gi_at(f, &op->flags, 0);
    for (int32_t i = 0; i < op->body->n_tensors; i++) {
        const gi_tensor *t = &op->body->tensors[i];
        ptr[i] = t->kind == GI_WORK ? work + t->offset : t->kind == GI_CONSTANT ? (void *)t->data : NULL;
    }
    if (op->iteration >= 0) ptr[op->iteration] = &flags->iteration;
    if (op->condition_in >= 0) ptr[op->condition_in] = &flags->condition_in;
    if (op->condition_out >= 0) ptr[op->condition_out] = &flags->condition_out;
    flags->condition_in = flags->condition_out = 1;
}

static void start_row(const gi_loop_op *op, const gi_frame *f, void **ptr, int64_t row) {
    for (int32_t i = 0; i < op->n_links; i++) ptr[op->links[i].tensor] = gi_at(f, &op->links[i].parent, row);
    for (int32_t i = 0; i < op->n_carries; i++) ptr[op->carries[i].in] = gi_at(f, &op->carries[i].initial, row);
}

/* A state is written to the one of its two buffers that it is not read from. */
static void start_turn(const gi_loop_op *op, const gi_frame *f, void **ptr, int64_t turn) {
    ((gi_loop_flags *)gi_at(f, &op->flags, 0))->iteration = turn;
    for (int32_t i = 0; i < op->n_carries; i++) {
        const gi_loop_state *c = &op->carries[i];
        if (c->buffer.tensor < 0) continue;
        char *first = gi_at(f, &c->buffer, 0);
        ptr[c->out] = ptr[c->in] == first ? first + c->pitch : first;
    }
}

static void end_turn(const gi_loop_op *op, void **ptr) {
    for (int32_t i = 0; i < op->n_carries; i++) ptr[op->carries[i].in] = ptr[op->carries[i].out];
    for (int32_t i = 0; i < op->n_links; i++)
        ptr[op->links[i].tensor] = (char *)ptr[op->links[i].tensor] + op->links[i].stride;
}

static void end_row(const gi_loop_op *op, const gi_frame *f, void *const *ptr, int64_t row) {
    for (int32_t i = 0; i < op->n_carries; i++) {
        const gi_loop_state *c = &op->carries[i];
        if (c->result.tensor >= 0 && c->bytes) memcpy(gi_at(f, &c->result, row), ptr[c->in], (size_t)c->bytes);
    }
}

static int run_body(const gi_program *body, const gi_frame *frame, gi_error *err) {
    for (int32_t i = 0; i < body->n_ops; i++) {
        int status = body->ops[i]->run(body->ops[i], frame, err);
        if (status < 0) return status;
    }
    return GI_OK;
}

static int run_row(const gi_loop_op *op, const gi_frame *f, void **ptr, int64_t row, int64_t *turns, gi_error *err) {
    gi_frame inner = {.ptr = ptr, .rows = 1, .kernels = f->kernels, .turns = turns};
    const gi_loop_flags *flags = gi_at(f, &op->flags, 0);
    int64_t turn = 0;
    int goes_on = op->condition.tensor < 0 || *(const uint8_t *)gi_at(f, &op->condition, row);
    const int64_t asked = op->trip_count.tensor >= 0 ? *(const volatile int64_t *)gi_at(f, &op->trip_count, row) : op->trips;
    const int64_t most = asked < op->trips ? asked : op->trips;
    start_row(op, f, ptr, row);
    for (; turn < most && goes_on; turn++) {
        if ((*turns -= op->turn_cost) < 0)
            return gi_fail(err, GI_ERR_LIMIT, "a loop does not end: it is stopped in turn %lld", (long long)turn);
        start_turn(op, f, ptr, turn);
        int status = run_body(op->body, &inner, err);
        if (status < 0) return status;
        end_turn(op, ptr);
        inner.backward = !inner.backward;
        goes_on = op->condition_out < 0 || flags->condition_out;
    }
    if (op->has_scan_outputs && turn < op->trips)
        return gi_fail(err, GI_ERR_DATA, "a loop planned for %lld turns ended after %lld", (long long)op->trips,
                       (long long)turn);
    end_row(op, f, ptr, row);
    return GI_OK;
}

int gi_loop_run(const gi_op *self, const gi_frame *f, gi_error *err) {
    const gi_loop_op *op = (const gi_loop_op *)self;
    void **ptr = gi_at(f, &op->table, 0);
    set_table(op, f, ptr);
    for (int64_t row = 0; row < f->rows; row++) {
        int64_t turns = GI_LOOP_LIMIT;
        int status = run_row(op, f, ptr, row, f->turns ? f->turns : &turns, err);
        if (status < 0) return status;
    }
    return GI_OK;
}
