#include "builder.h"
#include <string.h>

size_t gi_dtype_size(int dtype) {
    switch (dtype) {
    case GI_F32: case GI_I32: case GI_U32: return 4;
    case GI_I64: case GI_F64: return 8;
    case GI_U16: case GI_I16: case GI_F16: return 2;
    case GI_BOOL: case GI_U8: case GI_I8: return 1;
    default: return 0;
    }
}

gi_builder *gi_builder_create(const gi_kernels *kernels, gi_error *err) {
    gi_arena *own = gi_arena_create(), *arena = gi_arena_create();
    gi_builder *b = own ? gi_arena_take(own, sizeof *b) : NULL;
    gi_program *p = arena ? gi_arena_take(arena, sizeof *p) : NULL;
    if (!b || !p) {
        gi_arena_free(own);
        gi_arena_free(arena);
        gi_fail(err, GI_ERR_MEMORY, "out of memory for a builder");
        return NULL;
    }
    p->arena = arena;
    p->kernels = kernels;
    b->arena = own;
    b->program = p;
    return b;
}

void gi_builder_free(gi_builder *b) {
    if (!b) return;
    gi_program_free(b->program);
    gi_arena_free(b->arena);
}

/* Room for one more item in an array that lives in the builder's arena; the old array stays there until the end. */
static void *grow(gi_arena *arena, void *items, int32_t count, int32_t *capacity, size_t item_size) {
    if (count < *capacity) return items;
    int32_t wanted = *capacity ? *capacity * 2 : 32;
    void *larger = gi_arena_take(arena, (size_t)wanted * item_size);
    if (!larger) return NULL;
    if (count) memcpy(larger, items, (size_t)count * item_size);
    *capacity = wanted;
    return larger;
}

static int add_tensor(gi_builder *b, gi_tensor tensor, gi_error *err) {
    gi_program *p = b->program;
    if (!p) return gi_fail(err, GI_ERR_STATE, "the builder is finished");
    if (!gi_dtype_size(tensor.dtype)) return gi_fail(err, GI_ERR_ARGUMENT, "unknown dtype %d", tensor.dtype);
    if (gi_size_mul(tensor.elements, (int64_t)gi_dtype_size(tensor.dtype)) < 0)
        return gi_fail(err, GI_ERR_LIMIT, "a tensor of %lld elements does not fit in memory", (long long)tensor.elements);
    gi_tensor *tensors = grow(b->arena, b->tensors, p->n_tensors, &b->tensor_capacity, sizeof *tensors);
    if (!tensors) return gi_fail(err, GI_ERR_MEMORY, "out of memory for tensors");
    b->tensors = p->tensors = tensors;
    tensor.first = tensor.last = -1;
    tensors[p->n_tensors] = tensor;
    return p->n_tensors++;
}

int gi_builder_work(gi_builder *b, int dtype, int64_t elements, gi_error *err) {
    return add_tensor(b, (gi_tensor){.kind = GI_WORK, .dtype = dtype, .elements = elements}, err);
}

int gi_builder_external(gi_builder *b, int dtype, int64_t elements, gi_error *err) {
    return add_tensor(b, (gi_tensor){.kind = GI_EXTERNAL, .dtype = dtype, .elements = elements}, err);
}

int gi_builder_constant(gi_builder *b, int dtype, int64_t elements, const void *data, gi_error *err) {
    if (!data && elements > 0) return gi_fail(err, GI_ERR_ARGUMENT, "a constant needs data");
    return add_tensor(b, (gi_tensor){.kind = GI_CONSTANT, .dtype = dtype, .elements = elements, .data = data}, err);
}

static int is_external(const gi_program *p, int tensor) {
    return tensor >= 0 && tensor < p->n_tensors && p->tensors[tensor].kind == GI_EXTERNAL;
}

int gi_builder_carry(gi_builder *b, int from, int to, gi_error *err) {
    gi_program *p = b->program;
    if (!p) return gi_fail(err, GI_ERR_STATE, "the builder is finished");
    if (!is_external(p, from) || !is_external(p, to) || from == to)
        return gi_fail(err, GI_ERR_ARGUMENT, "carry needs two different external tensors, got %d and %d", from, to);
    const gi_tensor *source = &p->tensors[from], *target = &p->tensors[to];
    if (source->dtype != target->dtype || source->elements != target->elements)
        return gi_fail(err, GI_ERR_SHAPE, "carry: %lld elements cannot become the next state of %lld",
                       (long long)source->elements, (long long)target->elements);
    int32_t (*carries)[2] = grow(b->arena, b->carries, p->n_carries, &b->carry_capacity, sizeof *carries);
    if (!carries) return gi_fail(err, GI_ERR_MEMORY, "out of memory for carries");
    b->carries = p->carries = carries;
    carries[p->n_carries][0] = from;
    carries[p->n_carries++][1] = to;
    return GI_OK;
}

void *gi_builder_op(gi_builder *b, size_t size, gi_op_run *run, const char *name, gi_error *err) {
    gi_program *p = b->program;
    if (!p) {
        gi_fail(err, GI_ERR_STATE, "the builder is finished");
        return NULL;
    }
    gi_op **ops = grow(b->arena, b->ops, p->n_ops, &b->op_capacity, sizeof *ops);
    gi_op *op = ops ? gi_arena_take(p->arena, size) : NULL;
    if (!op) {
        gi_fail(err, GI_ERR_MEMORY, "out of memory for ops");
        return NULL;
    }
    op->run = run;
    op->name = name;
    b->ops = p->ops = ops;
    ops[p->n_ops++] = op;
    return op;
}

int gi_builder_op_count(const gi_builder *b) { return b->program ? b->program->n_ops : 0; }

int64_t gi_builder_op_macs(const gi_builder *b, int index) { return b->program ? gi_program_op_macs(b->program, index) : 0; }

gi_operand gi_builder_use(gi_builder *b, const gi_view *v) {
    gi_program *p = b->program;
    if (!v || v->tensor < 0) return (gi_operand){.tensor = -1};
    gi_tensor *t = &p->tensors[v->tensor];
    int32_t now = p->n_ops - 1, size = (int32_t)gi_dtype_size(t->dtype);
    if (t->first < 0) t->first = now;
    t->last = now;
    int64_t row_bytes = t->kind == GI_CONSTANT ? 0 : t->elements * size;
    return (gi_operand){.tensor = v->tensor, .size = size, .offset = v->offset * size, .row_bytes = row_bytes};
}

gi_operand gi_builder_scratch(gi_builder *b, int64_t elements, gi_error *err) {
    int id = gi_builder_work(b, GI_F32, elements, err);
    if (id < 0) return (gi_operand){.tensor = -1};
    return gi_builder_use(b, &(gi_view){.tensor = id, .rank = 1, .shape = {elements}, .stride = {1}});
}

void gi_builder_macs(gi_builder *b, int64_t macs) {
    gi_program *p = b->program;
    int64_t *counts[] = {&p->macs, &p->ops[p->n_ops - 1]->macs};
    for (int i = 0; i < 2; i++) {
        int64_t sum = gi_size_add(*counts[i], macs);
        *counts[i] = sum < 0 ? INT64_MAX / 4 : sum;
    }
}

/* Moves the growing arrays into the program's own arena, where they live as long as it. */
static int settle_arrays(gi_builder *b, gi_error *err) {
    gi_program *p = b->program;
    gi_tensor *tensors = gi_arena_take(p->arena, (size_t)p->n_tensors * sizeof *tensors);
    gi_op **ops = gi_arena_take(p->arena, (size_t)p->n_ops * sizeof *ops);
    int32_t (*carries)[2] = gi_arena_take(p->arena, (size_t)p->n_carries * sizeof *carries);
    if (!tensors || !ops || !carries) return gi_fail(err, GI_ERR_MEMORY, "out of memory for a program");
    if (p->n_tensors) memcpy(tensors, p->tensors, (size_t)p->n_tensors * sizeof *tensors);
    if (p->n_ops) memcpy(ops, p->ops, (size_t)p->n_ops * sizeof *ops);
    if (p->n_carries) memcpy(carries, p->carries, (size_t)p->n_carries * sizeof *carries);
    p->tensors = tensors;
    p->ops = ops;
    p->carries = carries;
    return GI_OK;
}

/* Neither of its tensors takes part in another carry. */
static int is_alone(const gi_program *p, const int32_t *carry) {
    int32_t found = 0;
    for (int32_t i = 0; i < p->n_carries; i++)
        for (int side = 0; side < 2; side++) found += p->carries[i][side] == carry[0] || p->carries[i][side] == carry[1];
    return found == 2;
}

/* Reading back a state that has just been written takes a tenth of the time of a small cell. When nothing follows the op that
 * writes it, nothing needs the old one any more and nothing can fail. */
static void hand_over_carries(gi_program *p) {
    gi_op *last = p->n_ops ? p->ops[p->n_ops - 1] : NULL;
    p->n_copies = p->n_carries;
    for (int32_t i = p->n_carries - 1; last && last->carry && i >= 0; i--) {
        const int32_t carry[2] = {p->carries[i][0], p->carries[i][1]};
        if (!is_alone(p, carry) || !last->carry(last, carry[0], carry[1])) continue;
        p->n_copies--;
        memmove(p->carries + i, p->carries + i + 1, (size_t)(p->n_copies - i) * sizeof carry);
        memcpy(p->carries + p->n_copies, carry, sizeof carry);
    }
}

gi_program *gi_builder_finish(gi_builder *b, gi_error *err) {
    gi_program *p = b->program;
    if (!p) {
        gi_fail(err, GI_ERR_STATE, "the builder is finished");
        return NULL;
    }
    if (settle_arrays(b, err) < 0 || gi_plan_memory(p, err) < 0) return NULL;
    hand_over_carries(p);
    b->program = NULL;
    return p;
}
