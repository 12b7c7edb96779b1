/* Where things lie in the packed weights of one direction of one cell. All offsets in floats, all multiples of 16.
 * G gates, nb = ceil(H / 16) blocks; every bias and panel line is padded with zeros to whole blocks.
 *
 *          header[16], bias            extra                   W panels            R panels
 *   LSTM               [nb][4][16]     P [nb][3][16] i o f     nb of 4 lines       nb of 4 lines
 *   GRU 1              [nb][3][16]     Rb_h [nb][16]           nb of 3 lines       nb of 3 lines
 *   GRU 0              [nb][3][16]     -                       nb of 3 lines       nb of 2 lines z r, then grouped h
 *   RNN                [nb][16]        -                       grouped             grouped
 *
 * GRU 1 / 0 is linear_before_reset. bias = Wb + Rb, except GRU 1's candidate, where it is Wb alone and Rb_h goes with R h.
 * Panels: see kernels.h; the lines of a cell's block are its gates. "grouped": several blocks side by side, as in a dense
 * weight.
 *
 * A half block: the last one of LSTM and GRU, if it has 8 units or fewer. In bias and panels its lines hold two gates each, 8
 * lanes of one and 8 of the next, so that there are half as many: [2][16] instead of [4][16] or [3][16], and one of z r. */
#ifndef GI_CELL_LAYOUT_H
#define GI_CELL_LAYOUT_H
#include "kernels.h"

enum { GI_HALF_BLOCK = GI_BLOCK / 2 };       /* its units at most */
enum { GI_HAS_PEEPHOLE, GI_W_IS_FINITE };    /* places in the header, of 1 or 0; the second is 0 for 16-bit weights */

typedef struct gi_cell_layout {
    int64_t bias, extra, w, r, r_candidate, size;
    int64_t half_block;                      /* the block that is one, or -1 */
    int plain;                               /* the default activations, no clip, no input_forget */
} gi_cell_layout;

static inline int gi_cell_gates(const gi_cell *cell) {
    return cell->kind == GI_LSTM ? 4 : cell->kind == GI_GRU ? 3 : 1;
}

static inline int gi_cell_is_plain(const gi_cell *cell) {
    int plain = !cell->input_forget && !(cell->clip > 0);
    for (int i = 0; i < (cell->kind == GI_LSTM ? 3 : 2); i++) plain &= cell->act[i].kind == (i ? GI_TANH : GI_SIGMOID);
    return plain;
}

static inline int gi_cell_has_half_block(const gi_cell *cell) {
    return cell->kind != GI_RNN && (cell->hidden_size - 1) % GI_BLOCK < GI_HALF_BLOCK;
}

/* Lines of a half block with so many gates, a literal for literals. */
#define GI_HALF_LINES(gates) (((gates) + 1) / 2)

/* Lines of block `block`; lanes from one of its gates to the next. */
static inline int64_t gi_block_lines(const gi_cell_layout *at, int64_t block, int64_t gates) {
    return block == at->half_block ? GI_HALF_LINES(gates) : gates;
}
static inline int64_t gi_gate_lanes(const gi_cell_layout *at, int64_t block) {
    return block == at->half_block ? GI_HALF_BLOCK : GI_BLOCK;
}

/* Lines of all blocks with so many gates. */
static inline int64_t gi_cell_lines(const gi_cell *cell, int64_t gates) {
    const int64_t lines = gi_blocks(cell->hidden_size) * gates;
    return gi_cell_has_half_block(cell) ? lines - gates + GI_HALF_LINES(gates) : lines;
}

static inline gi_cell_layout gi_cell_place(const gi_cell *cell) {
    const int64_t nb = gi_blocks(cell->hidden_size), G = gi_cell_gates(cell), lines = gi_cell_lines(cell, G);
    const int split = cell->kind == GI_GRU && !cell->linear_before_reset;
    const int64_t extra = cell->kind == GI_LSTM ? 3 : cell->kind == GI_GRU && !split ? 1 : 0;
    const int64_t per_input = gi_line_floats(cell->weights, cell->input_size);
    const int64_t per_unit = gi_line_floats(cell->weights, cell->hidden_size);
    gi_cell_layout at = {.bias = GI_BLOCK, .plain = gi_cell_is_plain(cell)};
    at.half_block = gi_cell_has_half_block(cell) ? nb - 1 : -1;
    at.extra = at.bias + lines * GI_BLOCK;
    at.w = at.extra + nb * GI_BLOCK * extra;
    at.r = at.w + lines * per_input;
    at.r_candidate = at.r + (split ? gi_cell_lines(cell, 2) : lines) * per_unit;
    at.size = at.r_candidate + (split ? nb * per_unit : 0);
    return at;
}

#endif
