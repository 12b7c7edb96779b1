#include "program.h"

void gi_program_free(gi_program *p) {
    if (p) gi_arena_free(p->arena);   /* the program itself lives in its arena */
}

int gi_program_op_count(const gi_program *p) { return p->n_ops; }

const char *gi_program_op_name(const gi_program *p, int index) {
    return index >= 0 && index < p->n_ops ? p->ops[index]->name : NULL;
}

int64_t gi_program_op_macs(const gi_program *p, int index) {
    return index >= 0 && index < p->n_ops ? p->ops[index]->macs : 0;
}

int64_t gi_program_work_bytes(const gi_program *p) { return p->work_bytes; }

int64_t gi_program_macs(const gi_program *p) { return p->macs; }
