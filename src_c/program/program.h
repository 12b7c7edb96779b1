/* Inside a program: tensors, ops and the frame they run in. Not public. */
#ifndef GI_PROGRAM_H
#define GI_PROGRAM_H
#include "../base/arena.h"
#include "../base/status.h"
#include "../kernels/kernels.h"

typedef enum gi_tensor_kind { GI_WORK, GI_EXTERNAL, GI_CONSTANT } gi_tensor_kind;

typedef struct gi_tensor {
    int32_t kind, dtype;
    int64_t elements;        /* per row */
    const void *data;        /* constants */
    int64_t offset;          /* work: bytes from the start of the work memory of a one-row stream */
    int32_t first, last;     /* work: indices of the first and last op that touch it; first < 0: none */
} gi_tensor;

/* What an op sees while it runs: memory by tensor id. */
typedef struct gi_frame {
    void *const *ptr;        /* [tensors]; row r of a work or external tensor is elements * r further on */
    int64_t rows;
    const gi_kernels *kernels;
    int64_t *turns;          /* loop turns left, inside of a loop; else NULL */
    gi_team *team;           /* who may help, or NULL */
    int backward;            /* of every other step: read weights from their end, where the step before left off */
    int carries;             /* the pass ends in a new state: an op that carries some itself does so */
} gi_frame;

typedef struct gi_op gi_op;
/* Returns 0, or a negative status with err (never NULL here) filled. */
typedef int gi_op_run(const gi_op *op, const gi_frame *frame, gi_error *err);
/* Every op record starts with this and lives in the program's arena. */
struct gi_op {
    gi_op_run *run;
    const char *name;
    int64_t macs;
    /* NULL, or asked of a program's last op: does it carry all of tensor `from` to `to` itself, as soon as it has it? */
    int (*carry)(gi_op *op, int from, int to);
};

/* A view resolved for running. Element pointers: gi_at(frame, operand, row). */
typedef struct gi_operand {
    int32_t tensor, size;    /* size: bytes per element */
    int64_t offset;          /* bytes */
    int64_t row_bytes;       /* 0 for constants: the same for all rows */
} gi_operand;

static inline void *gi_at(const gi_frame *f, const gi_operand *o, int64_t row) {
    return (char *)f->ptr[o->tensor] + o->offset + row * o->row_bytes;
}

struct gi_program {
    gi_arena *arena;
    const gi_kernels *kernels;
    gi_tensor *tensors;  int32_t n_tensors;
    gi_op **ops;         int32_t n_ops;
    int32_t (*carries)[2]; int32_t n_carries;     /* {from, to} */
    int32_t n_copies;                             /* the first of them are the stream's; the last op does the others */
    int64_t work_bytes, macs;
};

/* ---- for op builders (program/ops/ *.c, cells/ *.c) ---- */
/* Checks that `v` names a tensor of this builder, has rank <= GI_MAX_RANK, no negative extent, and stays inside it. */
int gi_check_view(gi_builder *b, const gi_view *v, const char *what, gi_error *err);
int gi_view_dtype(const gi_builder *b, const gi_view *v);
int gi_check_dtype(const gi_builder *b, const gi_view *v, int dtype, const char *what, gi_error *err);
int gi_check_same_shape(const gi_view *a, const gi_view *b, const char *what, gi_error *err);
int gi_check_writable(const gi_builder *b, const gi_view *v, const char *what, gi_error *err);  /* not a constant, no stride 0 */
int64_t gi_view_count(const gi_view *v);             /* elements */

/* A new op record of `size` bytes, zeroed, appended to the program; NULL when out of memory. */
void *gi_builder_op(gi_builder *b, size_t size, gi_op_run *run, const char *name, gi_error *err);
/* Marks the view's tensor as used by the newest op and resolves it. Absent views give tensor -1. */
gi_operand gi_builder_use(gi_builder *b, const gi_view *v);
/* Work memory of `elements` float32 per row that only the newest op uses. tensor < 0 on failure. */
gi_operand gi_builder_scratch(gi_builder *b, int64_t elements, gi_error *err);
void gi_builder_macs(gi_builder *b, int64_t macs);   /* adds to the newest op's count, which saturates; < 0: overflowed */

#endif
