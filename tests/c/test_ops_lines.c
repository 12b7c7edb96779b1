/* gather, reductions and line maps against naive loops; in-place maps; views and values that must be refused. */
#include "ops_harness.h"

#define VIEW(i) (&c->at[i].v)
static int setting(const test_case *c) { return *(const int *)c->settings; }

/* ---- gather ---- */
static int build_gather(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_gather(b, VIEW(0), VIEW(1), VIEW(2), setting(c), err);
}

static number expect_gather(const test_case *c, int64_t row, const int64_t *i) {
    int axis = setting(c), q = c->at[2].v.rank;
    int64_t from[GI_MAX_RANK];
    int64_t index = (int64_t)get(&c->at[2], row, i + axis);
    for (int a = 0; a < c->at[1].v.rank; a++) from[a] = a <= axis ? i[a] : i[a + q - 1];
    from[axis] = index < 0 ? index + c->at[1].v.shape[axis] : index;
    return get(&c->at[1], row, from);
}

/* Fills the index operand with values in [-extent, extent). */
static void fill_indices(operand *o, int64_t extent) {
    int64_t size = (int64_t)gi_dtype_size(o->dtype);
    for (int64_t i = 0; i < o->elements * o->rows; i++) set(o->data + i * size, o->dtype, pick(-extent, extent - 1));
}

static void test_gather(int64_t rows) {
    int64_t in[GI_MAX_RANK], by[GI_MAX_RANK], out[GI_MAX_RANK];
    int rank = (int)pick(1, 3), q = (int)pick(0, 2), axis = (int)pick(0, rank - 1), n = 0;
    int dtype = (int)pick(GI_F32, GI_BOOL);
    for (int i = 0; i < rank; i++) in[i] = pick(1, 6);
    for (int i = 0; i < q; i++) by[i] = pick(pick(0, 9) ? 1 : 0, 5);
    for (int i = 0; i < axis; i++) out[n++] = in[i];
    for (int i = 0; i < q; i++) out[n++] = by[i];
    for (int i = axis + 1; i < rank; i++) out[n++] = in[i];
    test_case c = {.settings = &axis};
    gi_error err = {0};
    add_operand(&c, dtype, n, out, rows);
    add_operand(&c, dtype, rank, in, rows);
    operand *index = add_operand(&c, pick(0, 1) ? GI_I64 : GI_I32, q, by, rows);
    fill_indices(index, in[axis]);
    check_case(&c, build_gather, expect_gather, 0);
    if (!is_empty(&index->v)) {   /* one bad index in the last row: refused before anything is written */
        int64_t last[GI_MAX_RANK];
        for (int i = 0; i < q; i++) last[i] = by[i] - 1;
        set(element(index, rows - 1, last), index->dtype, pick(0, 1) ? in[axis] : -in[axis] - 1);
        CHECK(run_case(&c, build_gather, &err) == GI_ERR_DATA && strstr(err.text, "range"), "bad index: %s", err.text);
        for (int64_t i = 0; i < c.at[0].elements * rows; i++) CHECK((uint8_t)c.at[0].data[i] == SENTINEL, "written");
    }
    free_case(&c);
}

/* ---- reduce ---- */
static int build_reduce(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_reduce(b, setting(c), VIEW(0), VIEW(1), err);
}

static number expect_reduce(const test_case *c, int64_t row, const int64_t *i) {
    const operand *in = &c->at[1];
    int kept = c->at[0].v.rank, fn = setting(c), dtype = in->dtype;
    int64_t at[GI_MAX_RANK] = {0}, n = 0;
    number sum = 0, squares = 0, product = 1, low = INFINITY, high = -INFINITY;
    memcpy(at, i, (size_t)kept * sizeof *at);
    if (!is_empty(&in->v)) do {
        number x = get(in, row, at);
        sum += x, squares += x * x, n++;
        product = dtype == GI_I32 ? (int32_t)(uint32_t)((uint64_t)(int64_t)product * (uint64_t)(int64_t)x)
                : dtype == GI_I64 ? (number)(int64_t)((uint64_t)(int64_t)product * (uint64_t)(int64_t)x) : product * x;
        low = x < low ? x : low, high = x > high ? x : high;
    } while (next_index(at + kept, in->v.shape + kept, in->v.rank - kept));
    switch (fn) {
    case GI_REDUCE_SUM: return sum;
    case GI_REDUCE_MEAN: return n ? sum / n : (number)NAN;
    case GI_REDUCE_MAX: return high;
    case GI_REDUCE_MIN: return low;
    case GI_REDUCE_PROD: return product;
    default: return sqrtl(squares);
    }
}

static void test_reduce(int64_t rows) {
    int64_t shape[GI_MAX_RANK];
    int rank = random_shape(shape, 7), kept = (int)pick(0, rank), dtype = (int)pick(GI_F32, GI_I32);
    for (int fn = 0; fn < GI_REDUCTION_COUNT; fn++) {
        test_case c = {.settings = &fn};
        gi_error err = {0};
        if (dtype != GI_F32 && (fn == GI_REDUCE_MEAN || fn == GI_REDUCE_L2)) continue;
        operand *out = add_operand(&c, dtype, kept, shape, rows), *in = add_operand(&c, dtype, rank, shape, rows);
        if (is_empty(&in->v) && !is_empty(&out->v) && (fn == GI_REDUCE_MAX || fn == GI_REDUCE_MIN))
            CHECK(run_case(&c, build_reduce, &err) == GI_ERR_SHAPE, "maximum of nothing: %s", err.text);
        else check_case(&c, build_reduce, expect_reduce, 2e-5L);
        free_case(&c);
    }
}

/* [results, ..]: neighbouring results have neighbouring elements. */
static void lay_out_in_columns(operand *o) {
    gi_view *v = &o->v;
    v->offset = 0, o->elements = 1;
    for (int i = 0; i < v->rank; i++) {
        const int axis = i == 0 ? 0 : v->rank - i;
        v->stride[axis] = o->elements;
        o->elements *= v->shape[axis];
    }
    o->data = realloc(o->data, (size_t)o->elements * sizeof(float));
}

/* Bits of a reduction depend on shape and values alone: the same values in other strides give the same bits. */
static void test_reduce_bits(int fn) {
    int64_t shape[] = {pick(1, 40), pick(1, 9), pick(1, 9)}, index[3] = {0};
    test_case a = {.settings = &fn}, b = {.settings = &fn};
    gi_error err = {0};
    add_operand(&a, GI_F32, 1, shape, 1), add_operand(&b, GI_F32, 1, shape, 1);
    operand *in_a = add_operand(&a, GI_F32, 3, shape, 1), *in_b = add_operand(&b, GI_F32, 3, shape, 1);
    if (pick(0, 1)) lay_out_in_columns(in_a);
    do {
        float x = (float)pick(-1000000, 1000000) * 3e-6f;
        set(element(in_a, 0, index), GI_F32, (number)x);
    } while (next_index(index, shape, 3));
    for (int i = 0; i < 3; i++)      /* broadcast axes of one operand repeat values the other must hold, too */
        if (in_b->v.stride[i] == 0) in_b->v.shape[i] = in_b->v.shape[i] > 1 ? 0 : 1;
    if (!is_empty(&in_b->v)) {
        do set(element(in_b, 0, index), GI_F32, get(in_a, 0, index));
        while (next_index(index, shape, 3));
        CHECK(run_case(&a, build_reduce, &err) == GI_OK && run_case(&b, build_reduce, &err) == GI_OK, "%s", err.text);
        for (int64_t i = 0; i < shape[0]; i++)
            CHECK(memcmp(element(&a.at[0], 0, &i), element(&b.at[0], 0, &i), sizeof(float)) == 0,
                  "strides changed result %lld of reduction %d", (long long)i, fn);
    }
    free_case(&a), free_case(&b);
}

/* ---- softmax, layer_norm ---- */
static int build_softmax(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_softmax(b, setting(c), VIEW(0), VIEW(1), err);
}
static int build_layer_norm(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_layer_norm(b, VIEW(0), VIEW(1), VIEW(2), VIEW(3), 1e-3f, err);
}

static number expect_softmax(const test_case *c, int64_t row, const int64_t *i) {
    int64_t at[GI_MAX_RANK], last = c->at[1].v.rank - 1;
    number x = get(&c->at[1], row, i), sum = 0;
    memcpy(at, i, sizeof(int64_t) * (size_t)(last + 1));
    for (at[last] = 0; at[last] < c->at[1].v.shape[last]; at[last]++) sum += expl(get(&c->at[1], row, at) - x);
    return setting(c) ? -logl(sum) : 1 / sum;
}

static number expect_layer_norm(const test_case *c, int64_t row, const int64_t *i) {
    int64_t at[GI_MAX_RANK], last = c->at[1].v.rank - 1, n = c->at[1].v.shape[last];
    number x = get(&c->at[1], row, i), mean = 0, variance = 0;
    memcpy(at, i, sizeof(int64_t) * (size_t)(last + 1));
    for (at[last] = 0; at[last] < n; at[last]++) mean += get(&c->at[1], row, at) / n;
    for (at[last] = 0; at[last] < n; at[last]++) variance += powl(get(&c->at[1], row, at) - mean, 2) / n;
    x = (x - mean) / sqrtl(variance + 1e-3L);
    if (c->at[2].v.tensor >= 0) x *= get(&c->at[2], row, i + last);
    if (c->at[3].v.tensor >= 0) x += get(&c->at[3], row, i + last);
    return x;
}

static void test_lines(int64_t rows) {
    int64_t shape[GI_MAX_RANK];
    int rank = random_shape(shape, 9), logarithm = (int)pick(0, 1);
    if (rank == 0) shape[rank++] = 1;
    test_case softmax = {.settings = &logarithm}, norm = {0};
    for (int i = 0; i < 2; i++) add_operand(&softmax, GI_F32, rank, shape, rows);
    check_case(&softmax, build_softmax, expect_softmax, 1e-6L);
    for (int i = 0; i < 4; i++) {
        operand *o = add_operand(&norm, GI_F32, i < 2 ? rank : 1, i < 2 ? shape : shape + rank - 1, rows);
        if (i >= 2 && pick(0, 3) == 0) o->v.tensor = -1;
    }
    check_case(&norm, build_layer_norm, expect_layer_norm, 2e-5L);
    free_case(&softmax), free_case(&norm);
}

/* ---- one tensor as input and output ---- */
static void test_in_place(void) {
    float data[12], expected[12];
    gi_error err = {0};
    const gi_kernels *kernels = gi_kernels_get("scalar", &err);
    gi_builder *b = gi_builder_create(kernels, &err);
    int t = gi_builder_external(b, GI_F32, 12, &err);
    gi_view left = {t, 2, 0, {4, 1}, {3, 0}}, right = {t, 2, 1, {4, 2}, {3, 1}}, wide = {t, 2, 0, {4, 2}, {3, 1}};
    gi_view line = {t, 2, 1, {4, 1}, {3, 0}};
    for (int i = 0; i < 12; i++) data[i] = expected[i] = (float)i;
    CHECK(gi_build_unary(b, GI_NEG, &right, &right, 0, 0, &err) == GI_OK, "the same view: %s", err.text);
    CHECK(gi_build_copy(b, &left, &line, &err) == GI_OK, "two columns: %s", err.text);
    CHECK(gi_build_copy(b, &right, &wide, &err) == GI_ERR_ARGUMENT, "shifted by one");
    CHECK(strstr(err.text, "overlaps"), "%s", err.text);
    CHECK(gi_build_softmax(b, 0, &right, &right, &err) == GI_ERR_ARGUMENT, "softmax in place");
    gi_program *p = gi_builder_finish(b, &err);
    gi_stream *s = gi_stream_create(p, 1, &err);
    gi_stream_bind(s, t, data, &err);
    CHECK(gi_stream_step(s, &err) == GI_OK, "%s", err.text);
    for (int i = 0; i < 12; i++) {
        if (i % 3) expected[i] = -expected[i];
        CHECK(data[i] == (i % 3 ? expected[i] : -(float)(i + 1)), "element %d is %g", i, data[i]);
    }
    gi_stream_free(s), gi_program_free(p), gi_builder_free(b);
}

/* ---- refusals ---- */
static void test_refusals(void) {
    static const float zeros[64];
    gi_error err = {0};
    gi_builder *b = gi_builder_create(gi_kernels_get("scalar", &err), &err);
    int f = gi_builder_work(b, GI_F32, 16, &err), g = gi_builder_work(b, GI_F32, 16, &err);
    int i64 = gi_builder_work(b, GI_I64, 16, &err), k = gi_builder_constant(b, GI_F32, 16, zeros, &err);
    gi_view out = {f, 1, 0, {16}, {1}}, in = {g, 1, 0, {16}, {1}}, ints = {i64, 1, 0, {16}, {1}};
    gi_view past = {g, 1, 1, {16}, {1}}, before = {g, 1, 3, {16}, {-1}}, constant = {k, 1, 0, {16}, {1}};
    gi_view nowhere = {99, 1, 0, {16}, {1}}, repeated = {f, 1, 0, {16}, {0}}, shorter = {g, 1, 0, {15}, {1}};
    gi_view deep = {g, 9, 0, {1}, {1}}, negative = {g, 1, 0, {-1}, {1}}, scalar = {g, 0, 0, {0}, {0}};
    gi_view far = {g, 1, 0, {3}, {INT64_MAX / 2}}, none = {g, 1, 0, {0}, {1}}, absent = {-1, 0, 0, {0}, {0}};
    const gi_view *bad[] = {&past, &before, &nowhere, &shorter, &deep, &negative, &scalar, &far, &none, &ints, &absent};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(gi_build_copy(b, &out, bad[i], &err) < 0, "copy took bad input %zu", i);
        CHECK(gi_build_unary(b, GI_TANH, &out, bad[i], 0, 0, &err) < 0, "unary took bad input %zu", i);
        CHECK(gi_build_binary(b, GI_ADD, &out, &in, bad[i], &err) < 0, "binary took bad input %zu", i);
        CHECK(gi_build_softmax(b, 0, &out, bad[i], &err) < 0, "softmax took bad input %zu", i);
        CHECK(err.status < 0 && err.text[0], "no text for %zu", i);
    }
    CHECK(gi_build_copy(b, NULL, &in, &err) < 0 && gi_build_matmul(b, NULL, NULL, NULL, &err) < 0, "NULL views");
    CHECK(gi_build_copy(b, &constant, &in, &err) < 0 && gi_build_fill(b, &repeated, 0, &err) < 0, "unwritable");
    CHECK(gi_build_unary(b, GI_UNARY_COUNT, &out, &in, 0, 0, &err) < 0, "unknown unary");
    CHECK(gi_build_unary(b, -1, &out, &in, 0, 0, &err) < 0, "negative unary");
    CHECK(gi_build_binary(b, GI_AND, &out, &in, &in, &err) < 0, "logic of floats");
    CHECK(gi_build_reduce(b, 77, &scalar, &out, &err) < 0, "unknown reduction");
    CHECK(gi_build_gather(b, &out, &in, &in, 0, &err) < 0 && gi_build_gather(b, &out, &in, &ints, 1, &err) < 0 &&
          gi_build_gather(b, &out, &none, &ints, 0, &err) < 0, "gather");
    CHECK(gi_build_where(b, &out, &in, &in, &in, &err) < 0, "where on floats");
    CHECK(gi_build_layer_norm(b, &out, &in, &shorter, NULL, 0, &err) < 0, "short scale");
    gi_view huge = {g, 3, 0, {1, INT64_C(1) << 52, 1 << 8}, {0, 0, 0}}, one = {f, 1, 0, {1}, {1}};
    CHECK(gi_build_reduce(b, GI_REDUCE_SUM, &one, &huge, &err) < 0, "a line too long to stage");
    CHECK(gi_build_fill(b, &out, 1.0, &err) == GI_OK, "%s", err.text);
    gi_program *p = gi_builder_finish(b, &err);
    CHECK(p && gi_program_op_count(p) == 1, "refused ops must leave nothing behind");
    gi_program_free(p), gi_builder_free(b);
}

int main(void) {
    for (int round = 0; round < 300; round++)
        for (int64_t rows = 1; rows <= 3; rows += 2) {
            test_gather(rows);
            if (round % 3 == 0) test_reduce(rows);
            test_lines(rows);
            for (int fn = 0; fn < GI_REDUCTION_COUNT; fn++) test_reduce_bits(fn);
        }
    test_in_place();
    test_refusals();
    return report("gather, reductions, lines");
}
