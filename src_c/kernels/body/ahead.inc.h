/* Products of a single row with a piece of W x for later steps in between (gi_ahead): R's lines come from a cache that gives one
 * in two cycles, W's serve GI_AHEAD_ROWS rows each, and the multiply-adds of both take turns. Chains stay those of panel.inc.h;
 * sums that are not complete rest in `pre`. Wants registers for the sums of GI_AHEAD_ROWS + 1 rows. */
#if V_REGISTERS < 32
#define V_AHEAD 0
#define accumulate_ahead(...) ((void)0)
#else
#define V_AHEAD 1

/* Which inputs of which block of W go along with a block of R: in steps that cover the same blocks, the pieces of those in turn. */
typedef struct ahead_piece { int64_t block, first, end; } ahead_piece;

GI_INLINE ahead_piece piece_of(const gi_step *s, int64_t block) {
    const int64_t blocks = s->end_block - s->first_block, done = s->backward ? s->end_block - 1 - block : block - s->first_block;
    const int64_t I = s->cell->input_size, width = (I + GI_AHEAD_ROWS - 1) / GI_AHEAD_ROWS;
    const int64_t index = s->ahead->step * blocks + done, first = index % GI_AHEAD_ROWS * width;
    return (ahead_piece){s->first_block + index / GI_AHEAD_ROWS, first < I ? first : I, first + width < I ? first + width : I};
}

/* sums [lines][rows] += w [lines][16] * input j of every row. Line by line, each row's input as an operand in memory. */
GI_INLINE void ahead_inputs(v_f *sums, const int lines, tile_x *x, int64_t j, const float *w) {
    GI_UNROLL
    for (int i = 0; i < lines; i++) {
        const v_f line = v_load(w + i * GI_BLOCK);
        GI_UNROLL
        for (int m = 0; m < GI_AHEAD_ROWS; m++) {
            __asm__("" : "+r"(x->row[m]));   /* else the rows' inputs are held in registers over all lines */
            sums[i * GI_AHEAD_ROWS + m] = v_fma(line, v_set1(x->row[m][j]), sums[i * GI_AHEAD_ROWS + m]);
        }
    }
}

/* acc [lines] += R h of step k. */
GI_INLINE void ahead_state(v_f *acc, const int lines, float h, const float *r) {
    const v_f hk = v_set1(h);
    GI_UNROLL
    for (int i = 0; i < lines; i++) acc[i] = v_fma(hk, v_load(r + i * GI_BLOCK), acc[i]);
}

GI_INLINE void settle_all(v_f *acc, const int count) {
    GI_UNROLL
    for (int i = 0; i < count; i++) acc[i] = v_settle(acc[i]);
}

/* acc [lines] += R h of `block`; and its piece. */
GI_INLINE void accumulate_ahead(v_f *acc, const gi_step *s, const int lines, int64_t block) {
    const gi_ahead *a = s->ahead;
    const ahead_piece piece = piece_of(s, block);
    const int64_t line = lines * GI_BLOCK, H = s->cell->hidden_size, I = s->cell->input_size;
    const float *r = s->packed + s->at->r + block * H * line, *w = s->packed + s->at->w + (piece.block * I + piece.first) * line;
    const float *start = piece.first ? a->pre : s->packed + s->at->bias, *h = s->h, *r_end = r + H * line;
    const int64_t stride = piece.first ? a->pre_stride : 0;
    v_f sums[GI_DENSE_GROUP * GI_AHEAD_ROWS];
    tile_x x;
    GI_UNROLL
    for (int i = 0; i < lines * GI_AHEAD_ROWS; i++)
        sums[i] = v_load(start + i % GI_AHEAD_ROWS * stride + piece.block * line + i / GI_AHEAD_ROWS * GI_BLOCK);
    GI_UNROLL
    for (int m = 0; m < GI_AHEAD_ROWS; m++) x.row[m] = a->x[m];
    int64_t j = piece.first;
    for (; j < piece.end && r_end - r >= GI_AHEAD_ROWS * line; j++, w += line, h += GI_AHEAD_ROWS, r += GI_AHEAD_ROWS * line) {
        GI_UNROLL
        for (int k = 0; k < GI_AHEAD_ROWS; k++) ahead_state(acc, lines, h[k], r + k * line);
        ahead_inputs(sums, lines, &x, j, w);
        settle_all(acc, lines), settle_all(sums, lines * GI_AHEAD_ROWS);
    }
    for (; j < piece.end; j++, w += line) {
        ahead_inputs(sums, lines, &x, j, w);
        settle_all(sums, lines * GI_AHEAD_ROWS);
    }
    GI_UNROLL
    for (int i = 0; i < lines * GI_AHEAD_ROWS; i++)
        v_store(a->pre + i % GI_AHEAD_ROWS * a->pre_stride + piece.block * line + i / GI_AHEAD_ROWS * GI_BLOCK, sums[i]);
    for (; r < r_end; h++, r += line) ahead_state(acc, lines, *h, r);
    settle_all(acc, lines);
}
#endif
