/* Checks a loop against its body, and gives it scratch. */
#include "loop.h"
#include <string.h>

enum { WORK_PER_TURN = 4096 /* multiply-adds or bytes that weigh as much as the turn itself */, MOST_PORTS = 4096 };
static const int64_t MOST_MACS = (int64_t)1 << 44;       /* of one loop: the counts of all ops are added up */

/* ---- checks ------------------------------------------------------------------------------------------------------ */

/* Which externals of the body have a role so far. */
typedef struct roles { gi_builder *b; const gi_program *body; uint8_t *taken; gi_error *err; } roles;

static int check_external(const roles *r, int32_t tensor, const char *what) {
    if (tensor < 0 || tensor >= r->body->n_tensors || r->body->tensors[tensor].kind != GI_EXTERNAL)
        return gi_fail(r->err, GI_ERR_ARGUMENT, "%s: tensor %d is not an external one of the body", what, tensor);
    return GI_OK;
}

static int take_role(const roles *r, int32_t tensor, const char *what) {
    int status = check_external(r, tensor, what);
    if (status < 0) return status;
    if (r->taken[tensor]++) return gi_fail(r->err, GI_ERR_ARGUMENT, "%s: tensor %d has a role already", what, tensor);
    return GI_OK;
}

static int take_scalar(const roles *r, int32_t tensor, int dtype, const char *what) {
    if (tensor < 0) return GI_OK;
    int status = take_role(r, tensor, what);
    if (status < 0) return status;
    const gi_tensor *t = &r->body->tensors[tensor];
    if (t->dtype != dtype || t->elements != 1)
        return gi_fail(r->err, GI_ERR_SHAPE, "%s: of another dtype or size", what);
    return GI_OK;
}

/* `v` is contiguous in the axes from `first` on. */
static int is_dense(const gi_view *v, int first) {
    int64_t stride = 1;
    for (int i = v->rank - 1; i >= first; i--) {
        if (v->shape[i] != 1 && v->stride[i] != stride) return 0;
        stride *= v->shape[i];
    }
    return 1;
}

/* `v` behind axis `first` is dense and holds what `tensor` of the body does. */
static int check_block(const roles *r, const gi_view *v, int first, int32_t tensor, const char *what) {
    int status = gi_check_view(r->b, v, what, r->err);
    if (status < 0) return status;
    const gi_tensor *t = &r->body->tensors[tensor];
    gi_view block = {.rank = v->rank - first};
    for (int i = 0; i < block.rank; i++) block.shape[i] = v->shape[i + first];
    if (!is_dense(v, first)) return gi_fail(r->err, GI_ERR_ARGUMENT, "%s: the view is not dense", what);
    if (gi_view_count(&block) != t->elements || gi_view_dtype(r->b, v) != t->dtype)
        return gi_fail(r->err, GI_ERR_SHAPE, "%s: %lld elements, the body has %lld, or another dtype", what,
                       (long long)gi_view_count(&block), (long long)t->elements);
    return GI_OK;
}

static int check_links(const roles *r, int32_t n, const gi_loop_link *links, int64_t trips, int writes,
                       const char *what) {
    for (int32_t i = 0; i < n; i++) {
        const gi_view *v = &links[i].parent;
        if (trips >= 0 && (v->rank < 1 || v->shape[0] != trips))
            return gi_fail(r->err, GI_ERR_SHAPE, "%s: the first axis must have one element per turn", what);
        int status = take_role(r, links[i].tensor, what);
        if (status == GI_OK) status = check_block(r, v, trips >= 0, links[i].tensor, what);
        if (status == GI_OK && writes) status = gi_check_writable(r->b, v, what, r->err);
        if (status < 0) return status;
    }
    return GI_OK;
}

static int is_written(const gi_loop *l, int32_t carry) {
    for (int32_t i = 0; i < l->n_scan_outputs; i++)
        if (l->scan_outputs[i].tensor == l->carries[carry].out) return 1;
    for (int32_t i = 0; i < carry; i++)
        if (l->carries[i].out == l->carries[carry].out) return 1;
    return 0;
}

static int check_carries(const roles *r, const gi_loop *l) {
    for (int32_t i = 0; i < l->n_carries; i++) {
        const gi_loop_carry *c = &l->carries[i];
        int status = take_role(r, c->in, "loop state in");
        if (status == GI_OK)
            status = (is_written(l, i) ? check_external : take_role)(r, c->out, "loop state out");
        if (status == GI_OK) status = check_block(r, &c->initial, 0, c->in, "initial loop state");
        if (status == GI_OK) status = check_block(r, &c->initial, 0, c->out, "loop state out");
        if (status == GI_OK && c->result.tensor >= 0) {
            status = check_block(r, &c->result, 0, c->out, "final loop state");
            if (status == GI_OK) status = gi_check_writable(r->b, &c->result, "final loop state", r->err);
        }
        if (status < 0) return status;
    }
    return GI_OK;
}

static int check_single(const roles *r, const gi_view *v, int dtype, const char *what) {
    if (v->tensor < 0) return GI_OK;
    int status = gi_check_view(r->b, v, what, r->err);
    if (status == GI_OK) status = gi_check_dtype(r->b, v, dtype, what, r->err);
    if (status == GI_OK && gi_view_count(v) != 1)
        status = gi_fail(r->err, GI_ERR_SHAPE, "%s: expected one element", what);
    return status;
}

static int reads(const gi_loop *l, int32_t tensor) {
    int found = l->condition.tensor == tensor || l->trip_count.tensor == tensor;
    for (int32_t i = 0; i < l->n_captures; i++) found |= l->captures[i].parent.tensor == tensor;
    for (int32_t i = 0; i < l->n_scan_inputs; i++) found |= l->scan_inputs[i].parent.tensor == tensor;
    for (int32_t i = 0; i < l->n_carries; i++) found |= l->carries[i].initial.tensor == tensor;
    return found;
}

static int check_apart(const gi_loop *l, gi_error *err) {
    int overlap = 0;
    for (int32_t i = 0; i < l->n_scan_outputs; i++) overlap |= reads(l, l->scan_outputs[i].parent.tensor);
    for (int32_t i = 0; i < l->n_carries; i++)
        overlap |= l->carries[i].result.tensor >= 0 && reads(l, l->carries[i].result.tensor);
    return overlap ? gi_fail(err, GI_ERR_ARGUMENT, "a loop cannot write to a tensor that it reads") : GI_OK;
}

static int check_all_taken(const roles *r) {
    for (int32_t i = 0; i < r->body->n_tensors; i++)
        if (r->body->tensors[i].kind == GI_EXTERNAL && r->body->tensors[i].elements > 0 && !r->taken[i])
            return gi_fail(r->err, GI_ERR_ARGUMENT, "external tensor %d of the body has no role in the loop", i);
    return GI_OK;
}

static int is_open_ended(const gi_loop *l) { return l->condition_out >= 0 || l->trip_count.tensor >= 0; }

static int check_header(const gi_program *body, const gi_loop *l, gi_error *err) {
    if (!body || body->n_carries)
        return gi_fail(err, GI_ERR_ARGUMENT, "a loop needs a body without carries of its own");
    if (l->trips < 0 || l->n_captures < 0 || l->n_carries < 0 || l->n_scan_inputs < 0 || l->n_scan_outputs < 0)
        return gi_fail(err, GI_ERR_ARGUMENT, "a loop has a negative count");
    if (l->n_captures > MOST_PORTS || l->n_carries > MOST_PORTS || l->n_scan_inputs > MOST_PORTS ||
        l->n_scan_outputs > MOST_PORTS)
        return gi_fail(err, GI_ERR_LIMIT, "a loop with more than %d values of one kind", MOST_PORTS);
    if (l->trips > GI_LOOP_LIMIT && !is_open_ended(l))
        return gi_fail(err, GI_ERR_LIMIT, "a loop of %lld turns; the engine makes at most %d", (long long)l->trips,
                       GI_LOOP_LIMIT);
    return GI_OK;
}

static int check_loop(const roles *r, const gi_loop *l) {
    int status = take_scalar(r, l->iteration, GI_I64, "loop iteration");
    if (status == GI_OK) status = take_scalar(r, l->condition_in, GI_BOOL, "loop condition in");
    if (status == GI_OK) status = take_scalar(r, l->condition_out, GI_BOOL, "loop condition out");
    if (status == GI_OK) status = check_single(r, &l->trip_count, GI_I64, "loop trip count");
    if (status == GI_OK) status = check_single(r, &l->condition, GI_BOOL, "loop condition");
    if (status == GI_OK) status = check_links(r, l->n_captures, l->captures, -1, 0, "loop capture");
    if (status == GI_OK) status = check_links(r, l->n_scan_inputs, l->scan_inputs, l->trips, 0, "loop scan input");
    if (status == GI_OK) status = check_links(r, l->n_scan_outputs, l->scan_outputs, l->trips, 1, "loop scan output");
    if (status == GI_OK) status = check_carries(r, l);
    if (status == GI_OK) status = check_apart(l, r->err);
    return status < 0 ? status : check_all_taken(r);
}

/* ---- building ---------------------------------------------------------------------------------------------------- */

/* Scratch of at least `bytes`; a multiple of a cache line keeps what follows aligned. */
static gi_operand take_bytes(gi_builder *b, int64_t bytes, int *status, gi_error *err) {
    gi_operand scratch = {.tensor = -1};
    if (*status < 0) return scratch;
    if (bytes < 0) *status = gi_fail(err, GI_ERR_LIMIT, "the memory of a loop's body does not fit in memory");
    else if ((scratch = gi_builder_scratch(b, (bytes + 63) / 64 * 16, err)).tensor < 0) *status = GI_ERR_MEMORY;
    return scratch;
}

static void add_links(gi_builder *b, gi_loop_op *op, int32_t n, const gi_loop_link *links, int is_scan) {
    for (int32_t i = 0; i < n; i++) {
        gi_loop_place *place = &op->links[op->n_links++];
        place->parent = gi_builder_use(b, &links[i].parent);
        place->tensor = links[i].tensor;
        place->stride = is_scan ? links[i].parent.stride[0] * place->parent.size : 0;
    }
}

static int add_carries(gi_builder *b, gi_loop_op *op, const gi_loop *l, gi_error *err) {
    int status = GI_OK;
    for (int32_t i = 0; i < l->n_carries; i++) {
        const gi_loop_carry *c = &l->carries[i];
        gi_loop_state *state = &op->carries[op->n_carries++];
        *state = (gi_loop_state){.initial = gi_builder_use(b, &c->initial), .result = gi_builder_use(b, &c->result),
                                 .buffer.tensor = -1, .in = c->in, .out = c->out};
        state->bytes = gi_view_count(&c->initial) * state->initial.size;
        state->pitch = (state->bytes + 63) / 64 * 64 + 64;   /* never 0: two states of no bytes are two places */
        if (!is_written(l, i)) state->buffer = take_bytes(b, gi_size_mul(state->pitch, 2), &status, err);
    }
    return status;
}

static int64_t turn_cost(const gi_program *body, const gi_loop *l) {
    if (!is_open_ended(l)) return 1;
    int64_t cost = 1 + body->macs / WORK_PER_TURN + body->work_bytes / WORK_PER_TURN;
    return cost > GI_LOOP_LIMIT ? GI_LOOP_LIMIT : cost;
}

static int fill_op(gi_builder *b, gi_loop_op *op, const gi_program *body, const gi_loop *l, gi_error *err) {
    const size_t links = (size_t)l->n_captures + (size_t)l->n_scan_inputs + (size_t)l->n_scan_outputs;
    op->links = gi_arena_take(b->program->arena, links * sizeof *op->links);
    op->carries = gi_arena_take(b->program->arena, (size_t)l->n_carries * sizeof *op->carries);
    if (!op->links || !op->carries) return gi_fail(err, GI_ERR_MEMORY, "out of memory for a loop");
    op->body = body, op->trips = l->trips, op->turn_cost = turn_cost(body, l);
    op->iteration = l->iteration, op->condition_in = l->condition_in, op->condition_out = l->condition_out;
    op->has_scan_outputs = l->n_scan_outputs > 0;
    op->trip_count = gi_builder_use(b, &l->trip_count), op->condition = gi_builder_use(b, &l->condition);
    add_links(b, op, l->n_captures, l->captures, 0);
    add_links(b, op, l->n_scan_inputs, l->scan_inputs, 1);
    add_links(b, op, l->n_scan_outputs, l->scan_outputs, 1);
    int status = add_carries(b, op, l, err);
    op->table = take_bytes(b, (int64_t)body->n_tensors * (int64_t)sizeof(void *), &status, err);
    op->work = take_bytes(b, body->work_bytes, &status, err);
    op->flags = take_bytes(b, sizeof(gi_loop_flags), &status, err);
    return status;
}

int gi_build_loop(gi_builder *b, const gi_program *body, const gi_loop *l, gi_error *err) {
    int status = check_header(body, l, err);
    if (status < 0) return status;
    if (!b->program) return gi_fail(err, GI_ERR_STATE, "the builder is finished");
    roles r = {.b = b, .body = body, .taken = gi_arena_take(b->arena, (size_t)body->n_tensors), .err = err};
    if (!r.taken) return gi_fail(err, GI_ERR_MEMORY, "out of memory for a loop");
    if ((status = check_loop(&r, l)) < 0) return status;
    gi_loop_op *op = gi_builder_op(b, sizeof *op, gi_loop_run, "loop", err);
    if (!op) return GI_ERR_MEMORY;
    if ((status = fill_op(b, op, body, l, err)) < 0) {
        b->program->n_ops--;
        return status;
    }
    int64_t macs = gi_size_mul(body->macs, is_open_ended(l) ? 1 : l->trips);
    gi_builder_macs(b, macs < 0 || macs > MOST_MACS ? MOST_MACS : macs);
    return GI_OK;
}
