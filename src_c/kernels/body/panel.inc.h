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

/* acc of block `b` += x [rows] * w [lines][parts] for one k. */
GI_INLINE void multiply_add(v_f *acc, const tile_shape t, const int b, const float *x, int64_t x_stride, const v_f *w) {
    const int width = t.lines * t.parts;
    GI_UNROLL
    for (int m = 0; m < t.rows; m++) {
        const v_f xk = v_set1(x[m * x_stride]);
        GI_UNROLL
        for (int i = 0; i < width; i++)
            acc[(b * t.rows + m) * width + i] = v_fma(xk, w[i], acc[(b * t.rows + m) * width + i]);
    }
}

/* float32: [K][lines][16] per block. */
GI_INLINE void accumulate_f32(v_f *acc, const tile_shape t, const int first_part, const float *x, int64_t x_stride, int64_t K,
                              const float *panel) {
    const int64_t stride = t.lines * GI_BLOCK;
    for (int64_t k = 0; k < K; k++) {
        GI_UNROLL
        for (int b = 0; b < t.blocks; b++) {
            const float *lines = panel + (b * K + k) * stride + first_part * V_LANES;
            v_f w[GI_DENSE_GROUP * V_PARTS];
            GI_UNROLL
            for (int i = 0; i < t.lines * t.parts; i++) w[i] = v_load(lines + i / t.parts * GI_BLOCK + i % t.parts * V_LANES);
            multiply_add(acc, t, b, x + k, x_stride, w);
        }
    }
}

/* Step `k` (0 or 1) of the two whose [lines][16] words are at `words`. */
GI_INLINE void load_16bit(v_f *w, const tile_shape t, const int first_part, const float *words, const int k) {
    const int pairs = t.lines / 2;
    GI_UNROLL
    for (int i = 0; i < t.lines * t.parts; i++) {
        const int line = i / t.parts, part = first_part + i % t.parts, alone = line == 2 * pairs;
        const float *at = words + (alone ? 2 * pairs : k * pairs + line / 2) * GI_BLOCK;
        const int half = alone ? k : line % 2;
        w[i] = t.weights == GI_WEIGHTS_BF16 ? v_load_bf16(at, part, half) : v_load_f16(at, part, half);
    }
}

GI_INLINE void accumulate_16bit(v_f *acc, const tile_shape t, const int first_part, const float *x, int64_t x_stride,
                                int64_t K, const float *panel) {
    const int64_t stride = t.lines * GI_BLOCK, block_stride = (K + 1) / 2 * stride;
    v_f w[GI_DENSE_GROUP * V_PARTS];
    for (int64_t k = 0; k < K; k += 2) {
        const float *words = panel + k / 2 * stride;
        GI_UNROLL
        for (int b = 0; b < t.blocks; b++) {
            load_16bit(w, t, first_part, words + b * block_stride, 0);
            multiply_add(acc, t, b, x + k, x_stride, w);
        }
        if (k + 1 == K) return;
        GI_UNROLL
        for (int b = 0; b < t.blocks; b++) {
            load_16bit(w, t, first_part, words + b * block_stride, 1);
            multiply_add(acc, t, b, x + k + 1, x_stride, w);
        }
    }
}

/* acc += x [rows, K] * panel, for the parts from `first_part` on of each line. */
GI_INLINE void accumulate(v_f *acc, const tile_shape t, const int first_part, const float *x, int64_t x_stride, int64_t K,
                          const float *panel) {
    if (t.weights == GI_WEIGHTS_F32) accumulate_f32(acc, t, first_part, x, x_stride, K, panel);
    else accumulate_16bit(acc, t, first_part, x, x_stride, K, panel);
    GI_UNROLL
    for (int i = 0; i < t.blocks * t.rows * t.lines * t.parts; i++) acc[i] = v_settle(acc[i]);
}

/* Lanes of a vector at unit `first` that are inside `size`: below 1 none, V_LANES or more all. */
GI_INLINE void store_lanes(float *p, v_f x, int64_t lanes) {
    if (lanes >= V_LANES) v_store(p, x);
    else if (lanes > 0) v_store_n(p, x, lanes);
}

GI_INLINE v_f load_lanes(const float *p, int64_t lanes) {
    return lanes >= V_LANES ? v_load(p) : v_load_n(p, lanes > 0 ? lanes : 0);
}
