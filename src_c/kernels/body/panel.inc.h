/* Panels into registers: the inner loop of every dense layer and every gate. Formats of a panel: see kernels.h.
 *
 * Parameters, from isa/vec_<isa>.h: V_LANES, V_PARTS, and
 *   V_TILE_SUMS   accumulators of several rows that fit in registers next to what they multiply
 *   V_PAIR_SUMS   the same where a turn of the loop is two steps: 16-bit weights on an odd number of lines
 *   V_WIDE_PARTS  vectors of a block that a single row takes at once, so that each cache line is read once
 *   V_ROW_BLOCKS  blocks of a cell that a single row takes at once, so that enough chains are in flight
 * A tile is rows x lines x parts accumulators; its counts are literals at every call, so that they live in registers.
 * Tiling never changes an element's chain: start, then k ascending. */

#define GI_INLINE static inline __attribute__((always_inline))
#if V_LANES > 1
#define GI_UNROLL _Pragma("GCC unroll 32")
#else
#define GI_UNROLL
#endif

/* The counts of a tile. Accumulators lie as [blocks][rows][lines][parts]; several blocks only for a single row. keeps: it
 * stores the weights it reads as float32 lines for the tiles after it. */
typedef struct tile_shape { int weights, blocks, rows, lines, parts, keeps; } tile_shape;

/* Several rows: where a line is one vector, in tiles of TILE_ROWS rows that keep their sums in registers over all of K, else in
 * bands (band.inc.h). */
enum { HAS_BANDS = V_PARTS > 1, TILE_ROWS = HAS_BANDS ? 1 : V_TILE_SUMS / GI_DENSE_GROUP };
_Static_assert(TILE_ROWS == 1 || TILE_ROWS == 6, "tile_rows");

/* Rows of the next tile where `left` are left: a single one, which would wait for its weights, only where there is no other. */
GI_INLINE int64_t tile_rows(int64_t left) {
    if (HAS_BANDS) return 1;
    return left > 8 ? TILE_ROWS : left > 6 ? 4 : left;
}

/* acc [rows][lines][parts] of one block = start + m * stride, line by line; stride 0 starts every row from the same bias. */
GI_INLINE void start_from(v_f *acc, const int rows, const int lines, const int parts, const float *start, int64_t stride) {
    GI_UNROLL
    for (int m = 0; m < rows; m++) {
        GI_UNROLL
        for (int i = 0; i < lines * parts; i++)
            acc[m * lines * parts + i] = v_load(start + m * stride + i / parts * GI_BLOCK + i % parts * V_LANES);
    }
}

/* Where the rows of a tile begin. Pointers the compiler knows nothing about stay in registers; else it derives more of them
 * than there are registers. */
enum { MOST_ROWS = 6 };
typedef struct tile_x { const float *row[MOST_ROWS]; } tile_x;

GI_INLINE tile_x rows_of(const float *x, int64_t x_stride, const int rows) {
    tile_x at;
    GI_UNROLL
    for (int m = 0; m < rows; m++) {
        at.row[m] = x + m * x_stride;
        __asm__("" : "+r"(at.row[m]));
    }
    return at;
}

GI_INLINE void settle_all(v_f *acc, const int count) {
    GI_UNROLL
    for (int i = 0; i < count; i++) acc[i] = v_settle(acc[i]);
}

GI_INLINE void settle(v_f *acc, const tile_shape t) { settle_all(acc, t.blocks * t.rows * t.lines * t.parts); }

/* Where vector i of a step's lines [lines][parts] begins among their lanes. */
GI_INLINE int64_t lane_of(const tile_shape t, const int first_part, const int i) {
    return i / t.parts * GI_BLOCK + (first_part + i % t.parts) * V_LANES;
}

/* That vector. At `at`: the step's float32 lines, its words, or those of two steps with an odd number of lines, of
 * which it is the first (half 0) or the second. */
GI_INLINE v_f weight_of(const tile_shape t, const int first_part, const float *at, const int half, const int i) {
    const int line = i / t.parts, part = first_part + i % t.parts, pairs = t.lines / 2, alone = line == 2 * pairs;
    if (t.weights == GI_WEIGHTS_F32) {
        const v_f w = v_load(at + line * GI_BLOCK + part * V_LANES);
        return t.rows > 1 ? v_settle(w) : w; /* else every row reads it again */
    }
    const float *words = at + (alone ? 2 * pairs : half * pairs + line / 2) * GI_BLOCK;
    const int which = alone ? half : line % 2;
    return t.weights == GI_WEIGHTS_BF16 ? v_load_bf16(words, part, which) : v_load_f16(words, part, which);
}

/* acc of one block += x [rows] of step k * its weights. Of several rows and the weights, what there is less of stays in registers.
 * keep [lines][16]: where the step's weights go as float32, if they are kept. */
GI_INLINE void multiply_add(v_f *acc, const tile_shape t, const int first_part, const tile_x *x, int64_t k, const float *at,
                            const int half, float *keep) {
    const int width = t.lines * t.parts;
    v_f held[MOST_ROWS + GI_DENSE_GROUP * V_PARTS];
    if (t.rows > 1 && t.rows < width) {
        GI_UNROLL
        for (int m = 0; m < t.rows; m++) held[m] = v_set1(x->row[m][k]);
        GI_UNROLL
        for (int i = 0; i < width; i++) {
            const v_f w = weight_of(t, first_part, at, half, i);
            if (t.weights != GI_WEIGHTS_F32) __asm__ volatile("" : "+r"(at)); /* words that wait for their other half take registers */
            if (t.keeps) v_store(keep + lane_of(t, first_part, i), w);
            GI_UNROLL
            for (int m = 0; m < t.rows; m++) acc[m * width + i] = v_accumulate(acc[m * width + i], held[m], w);
        }
        return;
    }
    GI_UNROLL
    for (int i = 0; i < width; i++) {
        held[i] = weight_of(t, first_part, at, half, i);
        if (t.keeps) v_store(keep + lane_of(t, first_part, i), held[i]);
    }
    GI_UNROLL
    for (int m = 0; m < t.rows; m++) {
        const v_f xk = v_set1(x->row[m][k]);
        GI_UNROLL
        for (int i = 0; i < width; i++) {
            v_f *sum = &acc[m * width + i];
            *sum = t.rows > 1 ? v_accumulate(*sum, xk, held[i]) : v_fma(xk, held[i], *sum);
        }
    }
}

/* One step in every block. */
GI_INLINE void step_all(v_f *acc, const tile_shape t, const int first_part, const tile_x *x, int64_t k, const float *at,
                        int64_t block_stride, const int half, float *keep) {
    GI_UNROLL
    for (int b = 0; b < t.blocks; b++)
        multiply_add(acc + b * t.rows * t.lines * t.parts, t, first_part, x, k, at + b * block_stride, half, keep);
    if (V_REGISTERS > 16) settle(acc, t);
}

/* Panels per block: float32 [K][lines][16]; 16 bits [K][lines / 2][16] words, or of an odd number of lines
 * [ceil(K / 2)][lines][16] words of two steps. keep [K][lines][16], if the tile keeps. */
GI_INLINE void accumulate_steps(v_f *acc, const tile_shape t, const int first_part, const tile_x *x, int64_t K, const float *panel,
                                float *keep) {
    const int two = t.weights != GI_WEIGHTS_F32 && t.lines % 2, width = t.lines * GI_BLOCK;
    const int64_t stride = t.weights == GI_WEIGHTS_F32 || two ? width : width / 2;
    const int64_t block_stride = t.lines * gi_line_floats(t.weights, K);
    int64_t k = 0;
    for (; k < K - two; k += 1 + two, panel += stride) {
        step_all(acc, t, first_part, x, k, panel, block_stride, 0, keep);
        if (t.keeps) keep += width;
        if (two) step_all(acc, t, first_part, x, k + 1, panel, block_stride, 1, keep);
        if (two && t.keeps) keep += width;
    }
    if (k < K) step_all(acc, t, first_part, x, k, panel, block_stride, 0, keep);
}

/* acc += x [rows, K] * panel, for the parts from `first_part` on of each line. */
GI_INLINE void accumulate(v_f *acc, const tile_shape t, const int first_part, const float *x, int64_t x_stride, int64_t K,
                          const float *panel, float *keep) {
    const tile_x rows = rows_of(x, x_stride, t.rows);
    accumulate_steps(acc, t, V_PARTS == 1 ? 0 : first_part, &rows, K, panel, keep);
    settle(acc, t);
}

/* acc [lines] += x * one step's lines, each in one vector. */
GI_INLINE void multiply_line(v_f *acc, const int lines, float x, const float *line) {
    const v_f xk = v_set1(x);
    GI_UNROLL
    for (int i = 0; i < lines; i++) acc[i] = v_fma(xk, v_load(line + i * GI_BLOCK), acc[i]);
}

/* Lanes of a vector at unit `first` that are inside `size`: below 1 none, V_LANES or more all. */
GI_INLINE void store_lanes(float *p, v_f x, int64_t lanes) {
    if (lanes >= V_LANES) v_store(p, x);
    else if (lanes > 0) v_store_n(p, x, lanes);
}

GI_INLINE v_f load_lanes(const float *p, int64_t lanes) {
    return lanes >= V_LANES ? v_load(p) : v_load_n(p, lanes > 0 ? lanes : 0);
}
