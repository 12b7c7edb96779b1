/* Gathers and scatters by tuples and by elements, orders along a line, and reversal, against naive loops. */
#include "ops_harness.h"

#define VIEW(i) (&c->at[i].v)
typedef struct settings { int axis, reduction, least, last, exclusive; } settings;
static const settings *setting(const test_case *c) { return c->settings; }

static void fill_indices(operand *o, int64_t extent) {
    int64_t size = (int64_t)gi_dtype_size(o->dtype);
    for (int64_t i = 0; i < o->elements * o->rows; i++) set(o->data + i * size, o->dtype, pick(-extent, extent - 1));
}

/* One bad index in the last row: refused before anything is written. */
static void check_bad_index(test_case *c, build_fn *build, operand *index, int64_t extent) {
    int64_t last[GI_MAX_RANK];
    gi_error err = {0};
    if (is_empty(&index->v) || is_empty(&c->at[0].v)) return;
    for (int i = 0; i < index->v.rank; i++) last[i] = index->v.shape[i] - 1;
    set(element(index, index->rows - 1, last), index->dtype, pick(0, 1) ? extent : -extent - 1);
    CHECK(run_case(c, build, &err) == GI_ERR_DATA && strstr(err.text, "range"), "bad index: %s", err.text);
}

/* ---- tuples ---- */
static int build_gather_nd(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_gather_nd(b, VIEW(0), VIEW(1), VIEW(2), setting(c)->axis, err);
}

static number expect_gather_nd(const test_case *c, int64_t row, const int64_t *i) {
    const operand *in = &c->at[1], *index = &c->at[2];
    const int batch = setting(c)->axis, lead = index->v.rank - 1, numbers = (int)index->v.shape[lead];
    int64_t tuple[GI_MAX_RANK], from[GI_MAX_RANK];
    memcpy(tuple, i, sizeof tuple);
    for (int a = 0; a < in->v.rank; a++)
        if (a < batch || a >= batch + numbers) from[a] = i[a < batch ? a : lead + a - batch - numbers];
    for (int k = 0; k < numbers; k++) {
        tuple[lead] = k;
        int64_t found = (int64_t)get(index, row, tuple);
        from[batch + k] = found < 0 ? found + in->v.shape[batch + k] : found;
    }
    return get(in, row, from);
}

static void test_gather_nd(int64_t rows) {
    int64_t in[GI_MAX_RANK], by[GI_MAX_RANK], out[GI_MAX_RANK], extent = pick(1, 4);
    const int rank = (int)pick(1, 4), batch = (int)pick(0, rank - 1), numbers = (int)pick(0, rank - batch);
    const int lead = batch + (int)pick(0, 2), dtype = (int)pick(0, GI_DTYPE_COUNT - 1);
    const settings s = {.axis = batch};
    for (int i = 0; i < rank; i++) in[i] = extent;
    for (int i = 0; i < lead; i++) by[i] = out[i] = i < batch ? in[i] : pick(pick(0, 9) ? 1 : 0, 4);
    by[lead] = numbers;
    for (int i = batch + numbers; i < rank; i++) out[lead + i - batch - numbers] = in[i];
    test_case c = {.settings = &s};
    add_operand(&c, dtype, lead + rank - batch - numbers, out, rows);
    add_operand(&c, dtype, rank, in, rows);
    operand *index = add_operand(&c, pick(0, 1) ? GI_I64 : GI_I32, lead + 1, by, rows);
    fill_indices(index, extent);
    check_case(&c, build_gather_nd, expect_gather_nd, 0);
    check_bad_index(&c, build_gather_nd, index, extent);
    free_case(&c);
}

static int build_scatter_nd(gi_builder *b, const test_case *c, gi_error *err) {
    int status = gi_build_copy(b, VIEW(0), VIEW(1), err);
    return status < 0 ? status : gi_build_scatter_nd(b, VIEW(0), VIEW(2), VIEW(3), setting(c)->reduction, err);
}

static number join(int reduction, number a, number b) {
    switch (reduction) {
    case GI_ADD: return a + b;
    case GI_MIN: return b < a ? b : a;
    case GI_MAX: return b > a ? b : a;
    default: return b;
    }
}

static number expect_scatter_nd(const test_case *c, int64_t row, const int64_t *i) {
    const operand *index = &c->at[2], *updates = &c->at[3];
    const int lead = index->v.rank - 1, numbers = (int)index->v.shape[lead];
    int64_t place[GI_MAX_RANK] = {0}, tuple[GI_MAX_RANK], from[GI_MAX_RANK];
    number value = get(&c->at[1], row, i);
    gi_view places = index->v;
    places.rank = lead;
    if (!is_empty(&places)) do {
        int hit = 1;
        memcpy(tuple, place, sizeof tuple);
        for (int k = 0; k < numbers; k++) {
            tuple[lead] = k;
            int64_t found = (int64_t)get(index, row, tuple);
            hit &= (found < 0 ? found + c->at[0].v.shape[k] : found) == i[k];
        }
        memcpy(from, place, sizeof from);
        for (int a = numbers; a < c->at[0].v.rank; a++) from[lead + a - numbers] = i[a];
        if (hit) value = join(setting(c)->reduction, value, get(updates, row, from));
    } while (next_index(place, places.shape, lead));
    return value;
}

static void test_scatter_nd(int64_t rows) {
    static const int reductions[] = {GI_ADD, GI_MIN, GI_MAX};
    int64_t in[GI_MAX_RANK], by[GI_MAX_RANK], from[GI_MAX_RANK], extent = pick(1, 4);
    const int rank = (int)pick(1, 3), numbers = (int)pick(0, rank), lead = (int)pick(0, 2);
    const int dtype = (int)pick(GI_F32, GI_I32);
    const settings s = {.reduction = reductions[pick(0, 2)]};
    for (int i = 0; i < rank; i++) in[i] = extent;
    for (int i = 0; i < lead; i++) by[i] = from[i] = pick(1, 4);
    by[lead] = numbers;
    for (int i = numbers; i < rank; i++) from[lead + i - numbers] = in[i];
    test_case c = {.settings = &s};
    add_operand(&c, dtype, rank, in, rows);
    add_operand(&c, dtype, rank, in, rows);
    operand *index = add_operand(&c, pick(0, 1) ? GI_I64 : GI_I32, lead + 1, by, rows);
    fill_indices(index, extent);
    add_operand(&c, dtype, lead + rank - numbers, from, rows);
    check_case(&c, build_scatter_nd, expect_scatter_nd, 1e-6L);
    check_bad_index(&c, build_scatter_nd, index, extent);
    free_case(&c);
}

/* ---- elements ---- */
static int build_gather_elements(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_gather_elements(b, VIEW(0), VIEW(1), VIEW(2), setting(c)->axis, err);
}

static number expect_gather_elements(const test_case *c, int64_t row, const int64_t *i) {
    int64_t from[GI_MAX_RANK], found = (int64_t)get(&c->at[2], row, i);
    memcpy(from, i, sizeof from);
    from[setting(c)->axis] = found < 0 ? found + c->at[1].v.shape[setting(c)->axis] : found;
    return get(&c->at[1], row, from);
}

static int build_scatter_elements(gi_builder *b, const test_case *c, gi_error *err) {
    int status = gi_build_copy(b, VIEW(0), VIEW(1), err);
    const settings *s = setting(c);
    return status < 0 ? status : gi_build_scatter_elements(b, VIEW(0), VIEW(2), VIEW(3), s->axis, s->reduction, err);
}

static number expect_scatter_elements(const test_case *c, int64_t row, const int64_t *i) {
    const operand *index = &c->at[2];
    const int axis = setting(c)->axis;
    int64_t place[GI_MAX_RANK] = {0};
    number value = get(&c->at[1], row, i);
    if (!is_empty(&index->v)) do {
        int64_t found = (int64_t)get(index, row, place);
        int hit = (found < 0 ? found + c->at[0].v.shape[axis] : found) == i[axis];
        for (int a = 0; a < index->v.rank; a++) hit &= a == axis || place[a] == i[a];
        if (hit) value = join(setting(c)->reduction, value, get(&c->at[3], row, place));
    } while (next_index(place, index->v.shape, index->v.rank));
    return value;
}

static void test_elements(int64_t rows) {
    int64_t in[GI_MAX_RANK], by[GI_MAX_RANK];
    const int rank = (int)pick(1, 3), dtype = (int)pick(GI_F32, GI_I32);
    const settings s = {.axis = (int)pick(0, rank - 1), .reduction = GI_ADD};
    for (int i = 0; i < rank; i++) in[i] = pick(1, 4), by[i] = i == s.axis ? pick(0, 5) : pick(1, in[i]);
    test_case gather = {.settings = &s}, scatter = {.settings = &s};
    add_operand(&gather, dtype, rank, by, rows), add_operand(&gather, dtype, rank, in, rows);
    fill_indices(add_operand(&gather, GI_I64, rank, by, rows), in[s.axis]);
    check_case(&gather, build_gather_elements, expect_gather_elements, 0);
    check_bad_index(&gather, build_gather_elements, &gather.at[2], in[s.axis]);
    add_operand(&scatter, dtype, rank, in, rows), add_operand(&scatter, dtype, rank, in, rows);
    fill_indices(add_operand(&scatter, GI_I32, rank, by, rows), in[s.axis]);
    add_operand(&scatter, dtype, rank, by, rows);
    check_case(&scatter, build_scatter_elements, expect_scatter_elements, 1e-6L);
    free_case(&gather), free_case(&scatter);
}

/* ---- orders ---- */
static int build_arg(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_arg(b, VIEW(0), VIEW(1), setting(c)->least, setting(c)->last, err);
}

/* Whether element a of the line at `i` comes before element b. */
static int precedes(const test_case *c, const operand *in, int64_t row, const int64_t *i, int64_t a, int64_t b) {
    int64_t at[GI_MAX_RANK];
    memcpy(at, i, sizeof at);
    at[in->v.rank - 1] = a;
    number x = get(in, row, at);
    at[in->v.rank - 1] = b;
    number y = get(in, row, at);
    if (x != y) return setting(c)->least ? x < y : x > y;
    return setting(c)->last ? a > b : a < b;
}

/* The element of the line at `i` that `rank` others come before. */
static int64_t find_rank(const test_case *c, const operand *in, int64_t row, const int64_t *i, int64_t rank) {
    const int64_t n = in->v.shape[in->v.rank - 1];
    for (int64_t a = 0; a < n; a++) {
        int64_t before = 0;
        for (int64_t b = 0; b < n; b++) before += precedes(c, in, row, i, b, a);
        if (before == rank) return a;
    }
    return -1;
}

static number expect_arg(const test_case *c, int64_t row, const int64_t *i) {
    return (number)find_rank(c, &c->at[1], row, i, 0);
}

/* The values go to an operand that is not compared; the positions are. */
static int build_top(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_top(b, VIEW(1), VIEW(0), VIEW(2), setting(c)->least, err);
}

static number expect_top(const test_case *c, int64_t row, const int64_t *i) {
    const operand *in = &c->at[2];
    int64_t at[GI_MAX_RANK], found = find_rank(c, in, row, i, i[in->v.rank - 1]);
    memcpy(at, i, sizeof at);
    at[in->v.rank - 1] = found;
    CHECK(get(&c->at[1], row, i) == get(in, row, at), "a value does not belong to its position");
    return (number)found;
}

static int build_cumsum(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_cumsum(b, VIEW(0), VIEW(1), setting(c)->exclusive, err);
}

static number expect_cumsum(const test_case *c, int64_t row, const int64_t *i) {
    const operand *in = &c->at[1];
    const int last = in->v.rank - 1;
    int64_t at[GI_MAX_RANK];
    number sum = 0;
    memcpy(at, i, sizeof at);
    for (at[last] = 0; at[last] < i[last] + !setting(c)->exclusive; at[last]++) sum += get(in, row, at);
    return sum;
}

static void test_orders(int64_t rows) {
    int64_t in[GI_MAX_RANK], some[GI_MAX_RANK];
    const int rank = (int)pick(1, 3), dtype = (int)pick(GI_F32, GI_I32);
    settings s = {.least = (int)pick(0, 1), .last = (int)pick(0, 1), .exclusive = (int)pick(0, 1)};
    for (int i = 0; i < rank; i++) some[i] = in[i] = pick(1, i == rank - 1 ? 40 : 3);
    some[rank - 1] = pick(0, in[rank - 1]);
    test_case arg = {.settings = &s}, top = {.settings = &s}, sum = {.settings = &s};
    add_operand(&arg, GI_I64, rank - 1, in, rows), add_operand(&arg, dtype, rank, in, rows);
    check_case(&arg, build_arg, expect_arg, 0);
    add_operand(&sum, dtype, rank, in, rows), add_operand(&sum, dtype, rank, in, rows);
    check_case(&sum, build_cumsum, expect_cumsum, 1e-6L);
    s.last = 0;
    add_operand(&top, GI_I64, rank, some, rows);
    operand *values = add_operand(&top, dtype, rank, some, rows);
    for (int i = 0; i < rank; i++)      /* writable: no broadcast axes */
        if (!values->v.stride[i] && some[i] > 1) goto done;
    add_operand(&top, dtype, rank, in, rows);
    check_case(&top, build_top, expect_top, 0);
done:
    free_case(&arg), free_case(&sum), free_case(&top);
}

/* ---- reversal ---- */
static int build_reverse(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_reverse(b, VIEW(0), VIEW(1), VIEW(2), err);
}

static number expect_reverse(const test_case *c, int64_t row, const int64_t *i) {
    int64_t from[GI_MAX_RANK], length = (int64_t)get(&c->at[2], row, i + 1);
    memcpy(from, i, sizeof from);
    if (i[0] < length) from[0] = length - 1 - i[0];
    return get(&c->at[1], row, from);
}

static void test_reverse(int64_t rows) {
    int64_t shape[GI_MAX_RANK];
    const int rank = (int)pick(2, 4), dtype = (int)pick(0, GI_DTYPE_COUNT - 1);
    gi_error err = {0};
    for (int i = 0; i < rank; i++) shape[i] = pick(1, 5);
    test_case c = {0};
    add_operand(&c, dtype, rank, shape, rows), add_operand(&c, dtype, rank, shape, rows);
    operand *lens = add_operand(&c, pick(0, 1) ? GI_I64 : GI_I32, 1, shape + 1, rows);
    int64_t size = (int64_t)gi_dtype_size(lens->dtype);
    for (int64_t i = 0; i < lens->elements * rows; i++) set(lens->data + i * size, lens->dtype, pick(0, shape[0]));
    check_case(&c, build_reverse, expect_reverse, 0);
    set(element(lens, rows - 1, (int64_t[]){shape[1] - 1}), lens->dtype, pick(0, 1) ? -1 : shape[0] + 1);
    CHECK(run_case(&c, build_reverse, &err) == GI_ERR_DATA && strstr(err.text, "length"), "bad length: %s", err.text);
    free_case(&c);
}

/* ---- refusals ---- */
static void test_refusals(void) {
    gi_error err = {0};
    gi_builder *b = gi_builder_create(gi_kernels_get("scalar", &err), &err);
    const int f = gi_builder_external(b, GI_F32, 12, &err), g = gi_builder_external(b, GI_F32, 12, &err);
    const int n = gi_builder_external(b, GI_I64, 12, &err);
    const gi_view out = {f, 2, 0, {3, 4}, {4, 1}}, in = {g, 2, 0, {3, 4}, {4, 1}}, ids = {n, 2, 0, {3, 4}, {4, 1}};
    const gi_view wide = {n, 2, 0, {4, 3}, {3, 1}}, flat = {n, 1, 0, {3}, {1}}, none = {g, 2, 0, {3, 0}, {4, 1}};
    const gi_view line = {f, 1, 0, {3}, {1}}, past = {n, 1, 10, {3}, {1}}, one = {n, 0, 0, {0}, {0}};
    CHECK(gi_build_gather_nd(b, &out, &in, &in, 0, &err) < 0 && gi_build_gather_nd(b, &out, &in, &ids, 0, &err) < 0 &&
          gi_build_gather_nd(b, &out, &in, &one, 0, &err) < 0 && gi_build_gather_nd(b, &out, &in, &flat, 3, &err) < 0,
          "gather_nd");
    CHECK(gi_build_gather_elements(b, &out, &in, &wide, 0, &err) < 0 &&
          gi_build_gather_elements(b, &out, &in, &ids, 2, &err) < 0 &&
          gi_build_gather_elements(b, &out, &out, &ids, 0, &err) < 0 &&
          gi_build_gather_elements(b, &out, &none, &ids, 1, &err) < 0,
          "gather_elements");
    CHECK(gi_build_scatter_elements(b, &out, &ids, &in, 0, GI_DIV, &err) < 0 &&
          gi_build_scatter_elements(b, &out, &ids, &out, 0, -1, &err) < 0, "scatter_elements");
    CHECK(gi_build_arg(b, &line, &in, 0, 0, &err) < 0 && gi_build_arg(b, &flat, &none, 0, 0, &err) < 0 &&
          gi_build_arg(b, &past, &in, 0, 0, &err) < 0, "arg");
    CHECK(gi_build_top(b, &out, &ids, &none, 0, &err) < 0 && gi_build_top(b, &out, &flat, &in, 0, &err) < 0, "top");
    CHECK(gi_build_cumsum(b, &out, &out, 0, &err) < 0 && gi_build_cumsum(b, &ids, &in, 0, &err) < 0, "cumsum");
    CHECK(gi_build_reverse(b, &out, &in, &flat, &err) < 0 && gi_build_reverse(b, &line, &line, &flat, &err) < 0,
          "reverse");
    gi_program *p = gi_builder_finish(b, &err);
    CHECK(p && gi_program_op_count(p) == 0, "refused ops must leave nothing behind");
    gi_program_free(p), gi_builder_free(b);
}

int main(void) {
    for (int round = 0; round < 300; round++)
        for (int64_t rows = 1; rows <= 3; rows += 2) {
            test_gather_nd(rows);
            test_scatter_nd(rows);
            test_elements(rows);
            test_orders(rows);
            test_reverse(rows);
        }
    test_refusals();
    return report("indexed ops, orders, reversal");
}
