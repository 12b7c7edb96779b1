/* The builder's insides, shared by builder.c, plan.c and the checks. Not public. */
#ifndef GI_BUILDER_H
#define GI_BUILDER_H
#include "program.h"

struct gi_builder {
    gi_program *program;     /* grows here; handed over by finish */
    gi_arena *arena;         /* the builder's own growing arrays */
    int32_t tensor_capacity, op_capacity, carry_capacity;
    gi_tensor *tensors;
    gi_op **ops;
    int32_t (*carries)[2];
};

/* Gives every work tensor an offset so that tensors alive at the same time never overlap; sets program->work_bytes. */
int gi_plan_memory(gi_program *p, gi_error *err);

#endif
