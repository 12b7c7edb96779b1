/* Where things lie in the packed weights of one direction of one cell. All offsets in floats, all multiples of 16.
 * G gates, nb = ceil(H / 16) blocks; every bias and panel line is padded with zeros to whole blocks.
 *
 *          header[16]  bias            extra                   W panels             R panels
 *   LSTM   peephole?   [nb][4][16]     P [nb][3][16] i o f     [nb][I][4][16]       [nb][H][4][16]
 *   GRU 1  -           [nb][3][16]     Rb_h [nb][16]           [nb][I][3][16]       [nb][H][3][16]
 *   GRU 0  -           [nb][3][16]     -                       [nb][I][3][16]       [nb][H][2][16] z r, then grouped [H][lines][16] h
 *   RNN    -           [nb][16]        -                       grouped [I][lines][16]   grouped [H][lines][16]
 *
 * GRU 1 / 0 is linear_before_reset. bias = Wb + Rb, except GRU 1's candidate, where it is Wb alone and Rb_h goes with R h.
 * "grouped": GI_DENSE_GROUP blocks side by side, as in a dense weight. */
#ifndef GI_CELL_LAYOUT_H
#define GI_CELL_LAYOUT_H
#include "kernels.h"

typedef struct gi_cell_layout { int64_t bias, extra, w, r, r_candidate, size; } gi_cell_layout;

static inline int gi_cell_gates(const gi_cell *cell) {
    return cell->kind == GI_LSTM ? 4 : cell->kind == GI_GRU ? 3 : 1;
}

static inline gi_cell_layout gi_cell_place(const gi_cell *cell) {
    const int64_t lane_count = gi_blocks(cell->hidden_size) * GI_BLOCK, G = gi_cell_gates(cell);
    const int split = cell->kind == GI_GRU && !cell->linear_before_reset;
    const int64_t extra = cell->kind == GI_LSTM ? 3 : cell->kind == GI_GRU && !split ? 1 : 0;
    gi_cell_layout at = {.bias = GI_BLOCK};
    at.extra = at.bias + lane_count * G;
    at.w = at.extra + lane_count * extra;
    at.r = at.w + lane_count * G * cell->input_size;
    at.r_candidate = at.r + lane_count * cell->hidden_size * (split ? 2 : G);
    at.size = at.r_candidate + (split ? lane_count * cell->hidden_size : 0);
    return at;
}

#endif
