/* Products with neighbouring positions in the lanes: the inner loop of convolutions over whole lines and of products of
 * run-time matrices. One weight is multiplied with a vector of inputs at a time, so that neither inputs nor results are
 * ever transposed. The chain of an element is the one of product.inc.h, or of `dot` for striped weights. */

#define V_SLIDE_ROWS (V_LANES == 16 ? 8 : 4)   /* outputs whose sums stay in registers, 3 vectors of positions each */
enum { SLIDE_VECTORS = 3, SLIDE_THIN_VECTORS = 6 /* for one or two outputs: enough chains to hide an FMA's latency */ };

/* Vector `p` from position i on. The last one is moved back to end with the line: its lanes are computed twice. */
V_INLINE int64_t slide_start(const gi_slide *s, int64_t i, int p) {
    const int64_t at = i + p * V_LANES, last = s->n - V_LANES;
    return at < last ? at : last;
}

V_INLINE v_f slide_load(const gi_slide *s, const float *x, const int masked) {
    return masked ? v_load_n(x, s->n) : v_load(x);
}

V_INLINE void slide_store(const gi_slide *s, float *out, v_f sum, const int masked) {
    if (masked) v_store_n(out, sum, s->n);
    else v_store(out, sum);
}

/* Outputs m .. m + rows of positions i .. i + vectors * V_LANES; masked: of all n < V_LANES positions. */
GI_INLINE void slide_tile(const gi_slide *s, const int rows, const int vectors, const int masked, int64_t m,
                          int64_t i) {
    v_f acc[V_SLIDE_ROWS * SLIDE_VECTORS];
    int64_t start[SLIDE_THIN_VECTORS];
    GI_UNROLL
    for (int p = 0; p < vectors; p++) start[p] = masked ? 0 : slide_start(s, i, p);
    GI_UNROLL
    for (int r = 0; r < rows * vectors; r++) acc[r] = v_set1(s->bias ? s->bias[m + r / vectors] : 0.0f);
    const float *w = s->w + m * s->w_m;
    for (int64_t k = 0; k < s->K; k++, w += s->w_k) {
        v_f x[SLIDE_THIN_VECTORS];
        GI_UNROLL
        for (int p = 0; p < vectors; p++) x[p] = slide_load(s, s->x + s->offset[k] + start[p], masked);
        GI_UNROLL
        for (int r = 0; r < rows; r++) {
            const v_f wk = v_set1(w[r * s->w_m]);
            GI_UNROLL
            for (int p = 0; p < vectors; p++) acc[r * vectors + p] = v_fma(wk, x[p], acc[r * vectors + p]);
        }
    }
    GI_UNROLL
    for (int r = 0; r < rows; r++) {
        GI_UNROLL
        for (int p = 0; p < vectors; p++)
            slide_store(s, s->out + (m + r) * s->out_stride + start[p], acc[r * vectors + p], masked);
    }
}

GI_INLINE void slide_rows(const gi_slide *s, const int rows, int64_t m) {
    const int thin = rows <= 2;
    if (s->n < V_LANES) {
        slide_tile(s, rows, 1, 1, m, 0);
        return;
    }
    for (int64_t i = 0, taken; i < s->n; i += taken * V_LANES) {
        const int64_t left = (s->n - i + V_LANES - 1) / V_LANES;
        taken = thin && left >= 6 ? 6 : left >= 3 ? 3 : left;
        if (thin && taken == 6) slide_tile(s, rows, thin ? 6 : 1, 0, m, i);
        else if (taken == 3) slide_tile(s, rows, 3, 0, m, i);
        else if (taken == 2) slide_tile(s, rows, 2, 0, m, i);
        else slide_tile(s, rows, 1, 0, m, i);
    }
}

/* One output of one vector of positions in the order of `dot`: product k goes to sum k % 16, then the tree. */
GI_INLINE void slide_striped(const gi_slide *s, const int masked, int64_t m, int64_t start) {
    const v_f zero = v_set1(0.0f);
    const float *w = s->w + m * s->w_m, *x = s->x + start;
    v_f acc[GI_BLOCK];
    int64_t k = 0;
    GI_UNROLL
    for (int j = 0; j < GI_BLOCK; j++) acc[j] = zero;
    for (; k + GI_BLOCK <= s->K; k += GI_BLOCK) {
        GI_UNROLL
        for (int j = 0; j < GI_BLOCK; j++)
            acc[j] = v_fma(v_set1(w[(k + j) * s->w_k]), slide_load(s, x + s->offset[k + j], masked), acc[j]);
    }
    if (k < s->K) {
        GI_UNROLL
        for (int j = 0; j < GI_BLOCK; j++) {
            const int inside = k + j < s->K;
            const v_f wk = inside ? v_set1(w[(k + j) * s->w_k]) : zero;
            acc[j] = v_fma(wk, inside ? slide_load(s, x + s->offset[k + j], masked) : zero, acc[j]);
        }
    }
    meet(JOIN_SUM, acc, GI_BLOCK);
    slide_store(s, s->out + m * s->out_stride + start, v_add(v_set1(s->bias[m]), acc[0]), masked);
}

static void slide(const gi_slide *s) {
    int64_t m = 0;
    if (s->striped) {
        for (; m < s->M; m++) {
            if (s->n < V_LANES) slide_striped(s, 1, m, 0);
            else for (int64_t i = 0; i < s->n; i += V_LANES) slide_striped(s, 0, m, slide_start(s, i, 0));
        }
        return;
    }
    for (; s->M - m >= V_SLIDE_ROWS; m += V_SLIDE_ROWS) slide_rows(s, V_SLIDE_ROWS, m);
    for (; s->M - m >= 4 && V_SLIDE_ROWS > 4; m += 4) slide_rows(s, 4, m);
    for (; s->M - m >= 2; m += 2) slide_rows(s, 2, m);
    for (; m < s->M; m++) slide_rows(s, 1, m);
}

/* n elements from src to dst, in vectors of which the last is moved back. */
V_INLINE void slide_copy(float *dst, const float *src, int64_t n) {
    if (n < V_LANES) {
        v_store_n(dst, v_load_n(src, n), n);
        return;
    }
    for (int64_t i = 0; i < n; i += V_LANES) {
        const int64_t at = i < n - V_LANES ? i : n - V_LANES;
        v_store(dst + at, v_load(src + at));
    }
}

/* Zeros over all of [from, to), and as far into the line as the vectors reach: what belongs there is written later. */
V_INLINE void slide_clear(float *line, int64_t n, int64_t from, int64_t to) {
    if (n < V_LANES) v_store_n(line, v_set1(0.0f), n);
    else for (int64_t i = from; i < to; i += V_LANES) v_store(line + (i < n - V_LANES ? i : n - V_LANES), v_set1(0.0f));
}

static void pad_lines(float *dst, int64_t dst_pitch, const float *src, int64_t src_pitch, int64_t lines, int64_t n,
                      int64_t low, int64_t high) {
    for (int64_t i = 0; i < lines; i++, dst += dst_pitch, src += src_pitch) {
        slide_clear(dst, n, 0, low);
        slide_clear(dst, n, high, n);
        slide_copy(dst + low, src, high - low);
    }
}
