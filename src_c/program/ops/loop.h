/* The record of a loop, shared by loop.c, which runs it, and loop_build.c, which checks and makes it. Not public. */
#ifndef GI_LOOP_H
#define GI_LOOP_H
#include "../builder.h"

typedef struct gi_loop_place { gi_operand parent; int32_t tensor; int64_t stride /* bytes per turn */; } gi_loop_place;

typedef struct gi_loop_state {
    gi_operand initial, result, buffer;      /* buffer: two states, `pitch` bytes apart; absent if `out` has an owner */
    int32_t in, out;
    int64_t bytes, pitch;
} gi_loop_state;

typedef struct gi_loop_flags { int64_t iteration; uint8_t condition_in, condition_out; } gi_loop_flags;

typedef struct gi_loop_op {
    gi_op op;
    const gi_program *body;
    int64_t trips, turn_cost;
    gi_operand trip_count, condition;
    int32_t iteration, condition_in, condition_out, has_scan_outputs;
    int32_t n_links, n_carries;
    gi_loop_place *links;                    /* captures, scan inputs, scan outputs */
    gi_loop_state *carries;
    gi_operand table, work, flags;           /* scratch: the body's pointers, its work memory, gi_loop_flags */
} gi_loop_op;

int gi_loop_run(const gi_op *self, const gi_frame *f, gi_error *err);

#endif
