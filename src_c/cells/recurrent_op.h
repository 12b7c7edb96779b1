/* The op that gi_build_recurrent makes. Not public. */
#ifndef GI_RECURRENT_OP_H
#define GI_RECURRENT_OP_H
#include "cells.h"

/* A series of the layer: its memory, and how far its steps and its rows are apart. */
typedef struct gi_series_place { gi_operand at; int64_t t_stride, m_stride; } gi_series_place;

enum { GI_LAYER_VIEWS = 6, GI_LAYER_PRE = 10, GI_LAYER_SERIES };

typedef struct gi_recurrent_op {
    gi_op op;
    gi_cell cell;
    gi_cell_layout at;
    int32_t reverse, projected;
    int by_program_row;      /* the layer's rows are the program's, else the N sequences of one program row */
    int64_t T, N, pre_steps, lens_stride;
    gi_operand packed, lens;
    gi_series_place places[GI_LAYER_SERIES];   /* x y h0 c0 hn cn, then scratch: h h c gate pre */
    struct gi_side_group *group;               /* layers that run as this op, or NULL: nothing may join it */
} gi_recurrent_op;

/* The layer of row `row`, or of all rows. */
void gi_recurrent_find(gi_layer *l, const gi_recurrent_op *op, const gi_frame *f, int64_t row);
gi_op_run gi_recurrent_run;

#endif
