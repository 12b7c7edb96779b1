/* The op that gi_build_recurrent makes. Not public. */
#ifndef GI_RECURRENT_OP_H
#define GI_RECURRENT_OP_H
#include "cells.h"

/* A series of the layer: its memory, and how far its steps and its rows are apart. */
typedef struct gi_series_place { gi_operand at; int64_t t_stride, m_stride; } gi_series_place;

enum { GI_LAYER_VIEWS = 6, GI_LAYER_PRE = 12, GI_LAYER_SERIES };

/* Where in the frame's memory a layer of one step reads or writes: rows m_stride floats apart. */
typedef struct gi_single_place { int64_t tensor, offset, m_stride; } gi_single_place;
/* Such a layer: where, and with what for a row alone and for several. */
typedef struct gi_single {
    gi_single_place x, h, c, h_next, c_next, gate, sparse;   /* what the cell has not is `x`, which nobody reads or writes then */
    gi_single_place hn;
    gi_cell_way ways[2];
    int64_t blocks;
    int pays_sparse;         /* has scratch for it */
    int copies_h;            /* from h_next to hn */
    int fits_tile;           /* one tile has all units of a row */
    int carries_h, carries_c;/* the new state goes to the place of the old one as well */
} gi_single;

typedef struct gi_recurrent_op {
    gi_op op;
    gi_cell cell;
    gi_cell_layout at;
    int32_t reverse, projected;
    int by_program_row;      /* the layer's rows are the program's, else the N sequences of one program row */
    int64_t T, N, pre_steps, lens_stride;
    gi_operand packed, lens;
    gi_series_place places[GI_LAYER_SERIES];   /* x y h0 c0 hn cn, then scratch: h h c gate ahead sparse pre */
    gi_single single;
    struct gi_side_group *group;               /* layers that run as this op, or NULL: nothing may join it */
} gi_recurrent_op;

/* The layer of row `row`, or of all rows. */
void gi_recurrent_find(gi_layer *l, const gi_recurrent_op *op, const gi_frame *f, int64_t row);
gi_op_run gi_recurrent_run;

/* single.c. `op` runs by it from here on, if it is a single step of the program's rows from a given state. */
void gi_single_use(gi_recurrent_op *op, const gi_kernels *kernels);

#endif
