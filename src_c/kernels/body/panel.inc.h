/* Panels into registers: the inner loop of every dense layer and every gate. Formats of a panel: see kernels.h.
 *
 * Parameters, from isa/vec_<isa>.h: V_LANES, V_PARTS, and
 *   V_TILE_ROWS   rows whose accumulators fit in registers with 4 lines of one vector each
 *   V_WIDE_PARTS  vectors of a block that a single row takes at once, so that each cache line is read once
 *   V_ROW_BLOCKS  blocks of a cell that a single row takes at once, so that enough chains are in flight
 * A tile is rows x lines x parts accumulators; its counts are literals at every call, so that they live in registers.
 * Tiling never changes an element's chain: start, then k ascending. */

#define GI_INLINE static inline __attribute__((always_inline))
#define GI_UNROLL _Pragma("GCC unroll 32")

/* The counts of a tile. Accumulators lie as [blocks][rows][lines][parts]; several blocks only for a single row. */
typedef struct tile_shape { int weights, blocks, rows, lines, parts; } tile_shape;

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
typedef struct tile_x { const float *row[V_TILE_ROWS]; } tile_x;

GI_INLINE tile_x rows_of(const float *x, int64_t x_stride, const int rows) {
    tile_x at;
    GI_UNROLL
    for (int m = 0; m < rows; m++) {
        at.row[m] = x + m * x_stride;
        __asm__("" : "+r"(at.row[m]));
    }
    return at;
}

GI_INLINE void settle(v_f *acc, const tile_shape t) {
    GI_UNROLL
    for (int i = 0; i < t.blocks * t.rows * t.lines * t.parts; i++) acc[i] = v_settle(acc[i]);
}

/* Vector i of a step's lines [lines][parts]. At `at`: the step's float32 lines, or the words of two steps, of which it is the
 * first (half 0) or the second. */
GI_INLINE v_f weight_of(const tile_shape t, const int first_part, const float *at, const int half, const int i) {
    const int line = i / t.parts, part = first_part + i % t.parts, pairs = t.lines / 2, alone = line == 2 * pairs;
    if (t.weights == GI_WEIGHTS_F32) return v_load(at + line * GI_BLOCK + part * V_LANES);
    const float *words = at + (alone ? 2 * pairs : half * pairs + line / 2) * GI_BLOCK;
    const int which = alone ? half : line % 2;
    return t.weights == GI_WEIGHTS_BF16 ? v_load_bf16(words, part, which) : v_load_f16(words, part, which);
}

/* acc of one block += x [rows] of step k * its weights. Of several rows and the weights, what there is less of stays in registers. */
GI_INLINE void multiply_add(v_f *acc, const tile_shape t, const int first_part, const tile_x *x, int64_t k, const float *at,
                            const int half) {
    const int width = t.lines * t.parts;
    v_f held[V_TILE_ROWS + GI_DENSE_GROUP * V_PARTS];
    if (t.rows > 1 && t.rows < width) {
        GI_UNROLL
        for (int m = 0; m < t.rows; m++) held[m] = v_set1(x->row[m][k]);
        GI_UNROLL
        for (int i = 0; i < width; i++) {
            const v_f w = weight_of(t, first_part, at, half, i);
            GI_UNROLL
            for (int m = 0; m < t.rows; m++) acc[m * width + i] = v_fma(held[m], w, acc[m * width + i]);
        }
        return;
    }
    GI_UNROLL
    for (int i = 0; i < width; i++) held[i] = weight_of(t, first_part, at, half, i);
    GI_UNROLL
    for (int m = 0; m < t.rows; m++) {
        const v_f xk = v_set1(x->row[m][k]);
        GI_UNROLL
        for (int i = 0; i < width; i++) acc[m * width + i] = v_fma(xk, held[i], acc[m * width + i]);
    }
}

/* One step in every block. */
GI_INLINE void step_all(v_f *acc, const tile_shape t, const int first_part, const tile_x *x, int64_t k, const float *at,
                        int64_t block_stride, const int half) {
    GI_UNROLL
    for (int b = 0; b < t.blocks; b++)
        multiply_add(acc + b * t.rows * t.lines * t.parts, t, first_part, x, k, at + b * block_stride, half);
    if (V_REGISTERS > 16) settle(acc, t);
}

/* Panels per block: float32 [K][lines][16], 16 bits [ceil(K / 2)][lines][16] words. */
GI_INLINE void accumulate_steps(v_f *acc, const tile_shape t, const int first_part, const tile_x *x, int64_t K, const float *panel) {
    const int two = t.weights != GI_WEIGHTS_F32;
    const int64_t stride = t.lines * GI_BLOCK, block_stride = (two ? (K + 1) / 2 : K) * stride;
    int64_t k = 0;
    for (; k < K - two; k += 1 + two, panel += stride) {
        step_all(acc, t, first_part, x, k, panel, block_stride, 0);
        if (two) step_all(acc, t, first_part, x, k + 1, panel, block_stride, 1);
    }
    if (k < K) step_all(acc, t, first_part, x, k, panel, block_stride, 0);
}

GI_INLINE void accumulate_once(v_f *acc, const tile_shape t, const int first_part, const float *x, int64_t x_stride, int64_t K,
                               const float *panel) {
    const tile_x rows = rows_of(x, x_stride, t.rows);
    accumulate_steps(acc, t, V_PARTS == 1 ? 0 : first_part, &rows, K, panel);
    settle(acc, t);
}

/* Several rows and parts are more sums than registers. Parts then take turns of TURN_STEPS steps, so that the second finds the cache
 * lines of the first in L1; in between sums rest in memory. A turn is a function of its own, for the registers' sake. */
#if V_TILE_ROWS > 1 && V_WIDE_PARTS > 1
enum { TURN_STEPS = 64 };
typedef void turn_fn(v_f *acc, int part, const float *x, int64_t x_stride, int64_t K, const float *panel);

GI_INLINE void take_turn(v_f *acc, const tile_shape t, const int part, const float *x, int64_t x_stride, int64_t K, const float *panel) {
    v_f sums[V_TILE_ROWS * GI_DENSE_GROUP];
    GI_UNROLL
    for (int i = 0; i < t.rows * t.lines; i++) sums[i] = acc[i * V_WIDE_PARTS];
    accumulate_once(sums, t, part, x, x_stride, K, panel);
    GI_UNROLL
    for (int i = 0; i < t.rows * t.lines; i++) acc[i * V_WIDE_PARTS] = sums[i];
}

#define GI_DEFINE_TURN(name, ...)                                                                                 \
    static __attribute__((noinline)) void name(v_f *acc, int part, const float *x, int64_t x_stride, int64_t K,   \
                                               const float *panel) {                                              \
        take_turn(acc, (tile_shape){__VA_ARGS__, 1}, part, x, x_stride, K, panel);                                \
    }
#define GI_DEFINE_TURNS(name, weights, rows)                                                                      \
    GI_DEFINE_TURN(name##_1, weights, 1, rows, 1)                                                                 \
    GI_DEFINE_TURN(name##_2, weights, 1, rows, 2)                                                                 \
    GI_DEFINE_TURN(name##_3, weights, 1, rows, 3)                                                                 \
    GI_DEFINE_TURN(name##_4, weights, 1, rows, 4)                                                                 \
    static turn_fn *const name[GI_DENSE_GROUP] = {name##_1, name##_2, name##_3, name##_4};
GI_DEFINE_TURNS(most_f32, GI_WEIGHTS_F32, V_TILE_ROWS)
GI_DEFINE_TURNS(most_bf16, GI_WEIGHTS_BF16, V_TILE_ROWS)
GI_DEFINE_TURNS(most_f16, GI_WEIGHTS_F16, V_TILE_ROWS)
GI_DEFINE_TURNS(two_f32, GI_WEIGHTS_F32, 2)
GI_DEFINE_TURNS(two_bf16, GI_WEIGHTS_BF16, 2)
GI_DEFINE_TURNS(two_f16, GI_WEIGHTS_F16, 2)
static turn_fn *const *const most_turns[GI_WEIGHTS_COUNT] = {most_f32, most_bf16, most_f16};
static turn_fn *const *const two_turns[GI_WEIGHTS_COUNT] = {two_f32, two_bf16, two_f16};

GI_INLINE void accumulate_in_turns(v_f *acc, const tile_shape t, const int first_part, const float *x, int64_t x_stride, int64_t K,
                                   const float *panel) {
    turn_fn *const turn = (t.rows == V_TILE_ROWS ? most_turns : two_turns)[t.weights][t.lines - 1];
    for (int64_t k = 0; k < K; k += TURN_STEPS) {
        const int64_t count = K - k < TURN_STEPS ? K - k : TURN_STEPS;
        const float *lines = panel + k / TURN_STEPS * t.lines * gi_line_floats(t.weights, TURN_STEPS);
        for (int part = 0; part < t.parts; part++) turn(acc + part, first_part + part, x + k, x_stride, count, lines);
    }
}
#else
#define accumulate_in_turns accumulate_once
#endif

/* acc += x [rows, K] * panel, for the parts from `first_part` on of each line. */
GI_INLINE void accumulate(v_f *acc, const tile_shape t, const int first_part, const float *x, int64_t x_stride, int64_t K,
                          const float *panel) {
    if (t.rows > 1 && t.parts > 1) accumulate_in_turns(acc, t, first_part, x, x_stride, K, panel);
    else accumulate_once(acc, t, first_part, x, x_stride, K, panel);
}

/* Lanes of a vector at unit `first` that are inside `size`: below 1 none, V_LANES or more all. */
GI_INLINE void store_lanes(float *p, v_f x, int64_t lanes) {
    if (lanes >= V_LANES) v_store(p, x);
    else if (lanes > 0) v_store_n(p, x, lanes);
}

GI_INLINE v_f load_lanes(const float *p, int64_t lanes) {
    return lanes >= V_LANES ? v_load(p) : v_load_n(p, lanes > 0 ? lanes : 0);
}
