/* Products of a single row with a piece of W x for later steps in between (gi_ahead): R's lines come from a cache that gives one
 * in two cycles, one of W serves GI_AHEAD_ROWS rows, and the multiply-adds of both take turns. Chains stay those of panel.inc.h;
 * sums that are not complete rest in `pre`. Wants registers for the sums of as many rows. */
#if V_REGISTERS < 32
#define V_AHEAD 0
#define accumulate_ahead(...) ((void)0)
#else
#define V_AHEAD 1
_Static_assert(V_PARTS == 1, "a line is one vector here");

/* What goes along with a block of R: of block `block` of W, which has `lines` lines, the inputs first .. end - 1, counted
 * through line by line. In steps that cover the same blocks, the pieces of those in turn. */
typedef struct ahead_piece { int64_t block, lines, first, end; } ahead_piece;

GI_INLINE ahead_piece piece_of(const gi_step *s, const int gates, int64_t block) {
    const int64_t blocks = s->end_block - s->first_block, done = s->backward ? s->end_block - 1 - block : block - s->first_block;
    const uint32_t steps = (uint32_t)s->ahead->steps, index = (uint32_t)(s->ahead->step * blocks + done);
    const int64_t of = s->first_block + index / steps, lines = gi_block_lines(s->at, of, gates);
    const int64_t inputs = lines * s->cell->input_size, width = (inputs + steps - 1) / steps, first = index % steps * width;
    return (ahead_piece){of, lines, first, first + width < inputs ? first + width : inputs};
}

/* sums [GI_AHEAD_ROWS] += w [16] * one input x of every row. */
GI_INLINE void ahead_input(v_f *sums, const float *x, const float *w) {
    const v_f line = v_load(w);
    GI_UNROLL
    for (int m = 0; m < GI_AHEAD_ROWS; m++) sums[m] = v_fma(line, v_set1(x[m]), sums[m]);
}

/* Where a walk over R is. */
typedef struct ahead_walk { const float *h, *r, *end; } ahead_walk;

/* The inputs first .. end - 1 of one line of a block of W, and as much of R as goes with them. lane: its first among those of all
 * lines; width: floats from one input to the next. */
typedef struct ahead_run { const float *panel; int64_t lane, line, width, first, end; } ahead_run;

GI_INLINE void accumulate_run(v_f *acc, const gi_step *s, const int lines, const ahead_run *run, ahead_walk *at) {
    const gi_ahead *a = s->ahead;
    const int per_input = GI_AHEAD_ROWS / lines;
    const int64_t width = lines * GI_BLOCK, w_width = run->width, lane = run->lane, stride = run->first ? a->pre_stride : 0;
    const float *start = (run->first ? a->pre : s->packed + s->at->bias) + lane;
    const float *w = run->panel + run->first * w_width + run->line * GI_BLOCK;
    const float *x = a->x + run->first * GI_AHEAD_ROWS, *const x_end = a->x + run->end * GI_AHEAD_ROWS;
    v_f sums[GI_AHEAD_ROWS];
    GI_UNROLL
    for (int m = 0; m < GI_AHEAD_ROWS; m++) sums[m] = v_load(start + m * stride);
    for (; x < x_end && at->end - at->r >= per_input * width; x += GI_AHEAD_ROWS, w += w_width) {
        GI_UNROLL
        for (int k = 0; k < per_input; k++) multiply_line(acc, lines, at->h[k], at->r + k * width);
        ahead_input(sums, x, w);
        at->h += per_input, at->r += per_input * width;
        settle_all(acc, lines), settle_all(sums, GI_AHEAD_ROWS);
    }
    for (; x < x_end; x += GI_AHEAD_ROWS, w += w_width) {
        ahead_input(sums, x, w);
        settle_all(sums, GI_AHEAD_ROWS);
    }
    GI_UNROLL
    for (int m = 0; m < GI_AHEAD_ROWS; m++) v_store(a->pre + m * a->pre_stride + lane, sums[m]);
}

/* acc [lines] += R h of `block`, of cells with so many gates; and its piece. */
GI_INLINE void accumulate_ahead(v_f *acc, const gi_step *s, const int lines, const int gates, int64_t block) {
    const ahead_piece piece = piece_of(s, gates, block);
    const int64_t width = lines * GI_BLOCK, H = s->cell->hidden_size, I = s->cell->input_size;
    const int64_t whole_width = gates * GI_BLOCK, lane = piece.block * whole_width;
    const float *r = s->packed + s->at->r + block * H * whole_width, *w = s->packed + s->at->w + I * lane;
    ahead_walk at = {s->h, r, r + H * width};
    for (int64_t i = piece.first, n; i < piece.end; i += n) {
        const int64_t line = i / I, first = i - line * I;
        n = piece.end - i < I - first ? piece.end - i : I - first;
        accumulate_run(acc, s, lines, &(ahead_run){w, lane + line * GI_BLOCK, line, piece.lines * GI_BLOCK, first, first + n}, &at);
    }
    for (; at.r < at.end; at.h++, at.r += width) multiply_line(acc, lines, *at.h, at.r);
    settle_all(acc, lines);
}
#endif
