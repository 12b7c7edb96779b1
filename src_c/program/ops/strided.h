/* Walking several strided operands of one shape together: what every op that is not a product is made of.
 *
 * Building: gi_walk_plan drops axes of extent 1, orders and collapses the others and picks the innermost one, the run.
 * Running: gi_walk_from calls a function once per run with a pointer and a byte step for each operand.
 * Order is therefore up to the plan: use walks only where elements do not depend on each other. */
#ifndef GI_STRIDED_H
#define GI_STRIDED_H
#include "../program.h"

enum { GI_WALK_OPERANDS = 4, GI_STAGE = 256 /* elements of an on-stack staging buffer */ };

typedef struct gi_walk {
    int32_t operands, outer;                             /* outer: axes outside the run */
    int64_t run;                                         /* elements of a run, > 0 */
    int64_t step[GI_WALK_OPERANDS];                      /* within a run, in bytes */
    int64_t extent[GI_MAX_RANK];                         /* [outer] */
    int64_t stride[GI_MAX_RANK][GI_WALK_OPERANDS];       /* [outer], in bytes */
} gi_walk;

typedef struct gi_run {
    const gi_frame *frame;
    const void *op;                                      /* whatever the function needs */
    gi_error *err;
    int64_t row;
    const int64_t *step;                                 /* [operands], bytes */
    int64_t n;                                           /* elements */
    char *at[GI_WALK_OPERANDS];
} gi_run;

/* Returns 0, or a negative status that ends the walk. */
typedef int gi_run_fn(const gi_run *run);

/* `views` [operands] have one shape, without zero extents; `size` [operands] are bytes per element. */
void gi_walk_plan(gi_walk *w, int operands, const gi_view *const *views, const int32_t *size);
/* run->at, frame, op and err are set by the caller; n and step come from the walk. */
int gi_walk_from(const gi_walk *w, gi_run *run, gi_run_fn *fn);
/* Over all rows of a frame. `operands` [w->operands]. */
int gi_walk_rows(const gi_walk *w, const gi_frame *frame, const gi_operand *operands, const void *op, gi_run_fn *fn,
                 gi_error *err);

/* ---- ops that are one walk ---- */
typedef struct gi_walk_op {
    gi_op op;
    gi_walk walk;
    gi_operand operand[GI_WALK_OPERANDS];
    gi_run_fn *run;                                      /* its gi_run.op is this record */
} gi_walk_op;

/* Appends a record of `size` bytes that starts with gi_walk_op. `views`: as for gi_walk_plan, the output first. */
void *gi_build_walk(gi_builder *b, size_t size, const char *name, gi_run_fn *run, int operands,
                    const gi_view *const *views, gi_error *err);

/* Scratch of `elements` float32 per row for the newest op where `needed`, else an absent operand. A failure takes the
 * half-built op back. */
int gi_take_scratch(gi_builder *b, gi_operand *scratch, int needed, int64_t elements, gi_error *err);

/* ---- checks ---- */
/* Views, the first one (called "out") writable. names [operands]. */
int gi_check_views(gi_builder *b, int operands, const gi_view *const *views, const char *const *names, gi_error *err);
/* `out` shares no element with `in`; with `allow_same`, being the very same view is fine, too. */
int gi_check_apart(const gi_view *out, const gi_view *in, int allow_same, const char *what, gi_error *err);

/* `rank` axes of v from `first` on, at the same offset. */
gi_view gi_view_axes(const gi_view *v, int first, int rank);
/* The row-major view of `shape` on a tensor of its own. */
gi_view gi_view_packed(int rank, const int64_t *shape);

/* ---- moving elements ---- */
/* dst and src may be the same run. Steps in bytes. size: 1, 4 or 8. */
void gi_move(char *dst, int64_t dst_step, const char *src, int64_t src_step, int64_t n, int32_t size);
int gi_move_run(const gi_run *run);                      /* gi_run.op: a const int32_t *, the element size */

/* The next n (<= GI_STAGE) floats at `src` as a contiguous run: in place when it is one already, else in `buffer`. */
static inline const float *gi_stage(const char *src, int64_t step, int64_t n, float *buffer) {
    if (step == (int64_t)sizeof(float)) return (const float *)src;
    gi_move((char *)buffer, sizeof(float), src, step, n, sizeof(float));
    return buffer;
}

#endif
