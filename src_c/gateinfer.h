/* gateinfer: a CPU engine for gated recurrent networks. The only public header of the C core.
 *
 * Four nouns. `gi_kernels` is one instruction set's table of routines. A `gi_builder` collects tensors and ops and plans
 * memory; finishing it gives a `gi_program`, which is immutable. A `gi_stream` holds everything that changes while a
 * program runs. Nothing here prints, exits, or keeps global state.
 *
 * Ownership: what `*_create` returns is freed by the matching `*_free`. Constants are borrowed, never copied: they must
 * outlive the programs built on them. A program must outlive its streams.
 * Failure: functions that can fail return a status (0 or a negative gi_status) and put one sentence into `err`, which may be NULL.
 * Threads: kernels and programs are read-only and may be shared; builders and streams belong to one thread at a time.
 * Sizes count elements unless a name says bytes. float32 everywhere unless a dtype says otherwise. */
#ifndef GATEINFER_H
#define GATEINFER_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#if defined(GI_BUILDING_SHARED)
#define GI_API __attribute__((visibility("default")))
#else
#define GI_API
#endif

/* ---- status ------------------------------------------------------------------------------------------------------- */
typedef enum gi_status {
    GI_OK = 0,
    GI_ERR_MEMORY = -1,      /* an allocation failed */
    GI_ERR_ARGUMENT = -2,    /* an argument is out of its stated range */
    GI_ERR_SHAPE = -3,       /* views do not fit each other */
    GI_ERR_LIMIT = -4,       /* a size overflows or exceeds what the engine plans for */
    GI_ERR_NOT_COMPILED = -5,/* this build has no kernels of that name */
    GI_ERR_CANNOT_RUN = -6,  /* this CPU cannot run kernels of that name */
    GI_ERR_DATA = -7,        /* a value met while running is out of range (an index, a sequence length) */
    GI_ERR_STATE = -8        /* the stream is not ready: a tensor is not bound */
} gi_status;

typedef struct gi_error { int status; char text[256]; } gi_error;

/* ---- kernels ------------------------------------------------------------------------------------------------------ */
typedef struct gi_kernels gi_kernels;
/* The table called `name` ("scalar", "avx2", "avx512"), or for "auto" the widest this CPU runs and the environment
 * variable GATEINFER_ISA allows. NULL with NOT_COMPILED or CANNOT_RUN (two different errors) on failure. */
GI_API const gi_kernels *gi_kernels_get(const char *name, gi_error *err);
GI_API const char *gi_kernels_name(const gi_kernels *kernels);
GI_API int gi_kernels_lanes(const gi_kernels *kernels);                  /* floats of a vector */
GI_API const char *gi_kernels_list(int index);   /* the name of table `index`, narrowest first; NULL past the end */

/* ---- tensors and views -------------------------------------------------------------------------------------------- */
typedef enum gi_dtype { /* GI_BOOL: one byte, 0 or 1. GI_F16 and GI_F64 are moved and cast, never computed with. */
    GI_F32, GI_I64, GI_I32, GI_BOOL, GI_U8, GI_I8, GI_U16, GI_I16, GI_U32, GI_F16, GI_F64, GI_DTYPE_COUNT
} gi_dtype;
GI_API size_t gi_dtype_size(int dtype);                               /* 0 for an unknown dtype */
enum { GI_MAX_RANK = 8 };
/* A strided window on a tensor: element (i0, i1, ..) is at offset + i0 * stride[0] + i1 * stride[1] + .., in elements.
 * Strides may be 0 (broadcast) or negative. tensor < 0 means "absent" where an operand is optional. */
typedef struct gi_view {
    int32_t tensor;
    int32_t rank;
    int64_t offset;
    int64_t shape[GI_MAX_RANK];
    int64_t stride[GI_MAX_RANK];
} gi_view;

/* ---- element-wise functions --------------------------------------------------------------------------------------- */
/* f(x; alpha, beta). The first eleven are the ONNX recurrent activations. */
typedef enum gi_unary {
    GI_SIGMOID, GI_TANH, GI_RELU,
    GI_AFFINE,            /* alpha x + beta */
    GI_LEAKY_RELU,        /* x >= 0 ? x : alpha x */
    GI_THRESHOLDED_RELU,  /* x > alpha ? x : 0 */
    GI_SCALED_TANH,       /* alpha tanh(beta x) */
    GI_HARD_SIGMOID,      /* min(max(alpha x + beta, 0), 1) */
    GI_ELU,               /* x >= 0 ? x : alpha (exp(x) - 1) */
    GI_SOFTSIGN,          /* x / (1 + |x|) */
    GI_SOFTPLUS,          /* log(1 + exp(x)) */
    GI_ACTIVATION_COUNT,
    GI_EXP = GI_ACTIVATION_COUNT, GI_LOG, GI_SQRT, GI_NEG, GI_ABS, GI_ERF, GI_RECIPROCAL,
    GI_CLIP,              /* min(max(x, alpha), beta) */
    GI_FLOOR, GI_CEIL, GI_ROUND /* half to even */, GI_SIGN, GI_SIN, GI_COS,
    GI_POWER,             /* b^x with ln b = alpha + beta, b neither 0 nor 1 */
    GI_UNARY_COUNT
} gi_unary;

typedef enum gi_binary {
    GI_ADD, GI_SUB, GI_MUL, GI_DIV, GI_POW, GI_MIN, GI_MAX,
    GI_PRELU,             /* a >= 0 ? a : a b */
    GI_MOD,               /* sign of the divisor, as Python's % */
    GI_ARITHMETIC_COUNT,
    GI_EQUAL = GI_ARITHMETIC_COUNT, GI_LESS, GI_LESS_EQUAL, GI_GREATER, GI_GREATER_EQUAL,   /* -> GI_BOOL */
    GI_AND, GI_OR, GI_XOR,                                                                /* GI_BOOL -> GI_BOOL */
    GI_BINARY_COUNT
} gi_binary;

typedef enum gi_reduction { GI_REDUCE_SUM, GI_REDUCE_MEAN, GI_REDUCE_MAX, GI_REDUCE_MIN, GI_REDUCE_PROD, GI_REDUCE_L2,
                            GI_REDUCTION_COUNT } gi_reduction;

/* ---- recurrent cells ---------------------------------------------------------------------------------------------- */
typedef enum gi_cell_kind { GI_LSTM, GI_GRU, GI_RNN } gi_cell_kind;
typedef struct gi_activation { int32_t kind; float alpha, beta; } gi_activation;   /* kind: one of the first 11 gi_unary */

/* How packed weights are stored; sums are float32 always. The 16-bit ones are rounded to nearest, ties to even. */
typedef enum gi_weights { GI_WEIGHTS_F32, GI_WEIGHTS_BF16, GI_WEIGHTS_F16, GI_WEIGHTS_COUNT } gi_weights;
/* to [n] = from [n], which may be the same array, as a format holds them. ARGUMENT when a finite one would be infinite. */
GI_API int gi_round_weights(int weights, int64_t n, const float *from, float *to, gi_error *err);
/* One direction of a layer in ONNX's terms: gates i o f c (LSTM), z r h (GRU); act: f g h (LSTM), f g (GRU), f (RNN). */
typedef struct gi_cell {
    int32_t kind;
    int32_t linear_before_reset;  /* GRU: reset gate after the product (PyTorch, Keras reset_after) */
    int32_t input_forget;         /* LSTM: f = 1 - i */
    int32_t weights;              /* gi_weights of W and R; biases and peepholes stay float32 */
    float clip;                   /* gate pre-activations are held in [-clip, clip]; 0 = no clip */
    gi_activation act[3];
    int64_t input_size;           /* I */
    int64_t hidden_size;          /* H */
} gi_cell;

GI_API int64_t gi_cell_packed_size(const gi_cell *cell, gi_error *err);   /* floats, or a negative status */
/* W [G*H, I], R [G*H, H], B [2*G*H] = Wb then Rb (or NULL), P [3*H] in the order i o f (LSTM, or NULL), all contiguous.
 * packed: gi_cell_packed_size floats, 64-byte aligned. */
GI_API int gi_cell_pack(const gi_cell *cell, const float *W, const float *R, const float *B, const float *P, float *packed,
                        gi_error *err);
/* out [rows, gi_cell_projected_size] = bias + W x for x [rows, I], in the order of `packed`: a layer takes it instead of x. */
GI_API int64_t gi_cell_projected_size(const gi_cell *cell);
GI_API void gi_cell_project(const gi_kernels *kernels, const gi_cell *cell, const float *packed, int64_t rows, const float *x, float *out);

/* ---- dense products ----------------------------------------------------------------------------------------------- */
/* Packed weights of y[N] = x[K] W + bias. w element (k, n) is at w[k * k_stride + n * n_stride]; bias [N] or NULL.
 * weights: a gi_weights; too few outputs to fill lanes stay float32. */
GI_API int64_t gi_dense_packed_size(int weights, int64_t K, int64_t N, gi_error *err);
GI_API int gi_dense_pack(int weights, int64_t K, int64_t N, const float *w, int64_t k_stride, int64_t n_stride, const float *bias,
                         float *packed, gi_error *err);

/* ---- builder ------------------------------------------------------------------------------------------------------ */
/* Ops run in the order they are added. Output views must name tensors of kind WORK or EXTERNAL. Every gi_build_* checks
 * ranks, shapes, dtypes and bounds, so that running a finished program cannot read or write outside its tensors. */
typedef struct gi_builder gi_builder;
typedef struct gi_program gi_program;

GI_API gi_builder *gi_builder_create(const gi_kernels *kernels, gi_error *err);
GI_API void gi_builder_free(gi_builder *b);

/* A tensor of `elements` per row; returns its id (>= 0) or a negative status.
 * work: planned by the program, lives from its first to its last use. external: bound by the stream (inputs, outputs,
 * state), [rows][elements]. constant: borrowed, the same for all rows, filled before ops use it. */
GI_API int gi_builder_work(gi_builder *b, int dtype, int64_t elements, gi_error *err);
GI_API int gi_builder_external(gi_builder *b, int dtype, int64_t elements, gi_error *err);
GI_API int gi_builder_constant(gi_builder *b, int dtype, int64_t elements, const void *data, gi_error *err);
/* After each step, external `from` is copied onto external `to` (state output onto state input). Same dtype and size. */
GI_API int gi_builder_carry(gi_builder *b, int from, int to, gi_error *err);

GI_API int gi_build_copy(gi_builder *b, const gi_view *out, const gi_view *in, gi_error *err);   /* same shape and dtype */
GI_API int gi_build_fill(gi_builder *b, const gi_view *out, double value, gi_error *err);
GI_API int gi_build_cast(gi_builder *b, const gi_view *out, const gi_view *in, gi_error *err);   /* same shape */
GI_API int gi_build_unary(gi_builder *b, int fn, const gi_view *out, const gi_view *in, float alpha, float beta, gi_error *err);
/* Operand shapes equal out's shape: broadcasting is spelled with stride 0. */
GI_API int gi_build_binary(gi_builder *b, int fn, const gi_view *out, const gi_view *lhs, const gi_view *rhs, gi_error *err);
GI_API int gi_build_where(gi_builder *b, const gi_view *out, const gi_view *cond, const gi_view *lhs, const gi_view *rhs,
                          gi_error *err);
/* out[i.., j.., k..] = in[i.., index[j..], k..] with `axis` leading axes i; a negative index counts from the end. */
GI_API int gi_build_gather(gi_builder *b, const gi_view *out, const gi_view *in, const gi_view *index, int axis, gi_error *err);
/* out[b.., j.., k..] = in[b.., index[b.., j.., :], k..] with `batch` axes b; the last axis of index is a tuple of indices. */
GI_API int gi_build_gather_nd(gi_builder *b, const gi_view *out, const gi_view *in, const gi_view *index, int batch,
                              gi_error *err);
/* out[i, j, ..] = in[i, index[i, j, ..], ..], the index in place of the coordinate along `axis`. */
GI_API int gi_build_gather_elements(gi_builder *b, const gi_view *out, const gi_view *in, const gi_view *index, int axis,
                                    gi_error *err);
/* Writes updates over part of out, which keeps the rest: the inverses of the two gathers. reduction: -1, or one of
 * GI_ADD, GI_MUL, GI_MIN, GI_MAX that joins the old element with the new one. */
GI_API int gi_build_scatter_nd(gi_builder *b, const gi_view *out, const gi_view *index, const gi_view *updates,
                               int reduction, gi_error *err);
GI_API int gi_build_scatter_elements(gi_builder *b, const gi_view *out, const gi_view *index, const gi_view *updates,
                                     int axis, int reduction, gi_error *err);
/* Position of the largest (or, if `least`, smallest) element along the last axis: the first one, or the `last` one, of
 * equals. out GI_I64. NaN counts as larger (smaller) than any number here and below. */
GI_API int gi_build_arg(gi_builder *b, const gi_view *out, const gi_view *in, int least, int last, gi_error *err);
/* The k largest (smallest) elements along the last axis in order, and their positions (GI_I64): values, indices [.., k]. */
GI_API int gi_build_top(gi_builder *b, const gi_view *values, const gi_view *indices, const gi_view *in, int least,
                        gi_error *err);
/* Sums of the elements up to each one along the last axis, itself left out if `exclusive`. */
GI_API int gi_build_cumsum(gi_builder *b, const gi_view *out, const gi_view *in, int exclusive, gi_error *err);
/* in, out [T, N, ..], lens [N] (GI_I32 or GI_I64): turns the first lens[n] steps of every n around, keeps the others. */
GI_API int gi_build_reverse(gi_builder *b, const gi_view *out, const gi_view *in, const gi_view *lens, gi_error *err);
/* Reduces the last (in->rank - out->rank) axes of `in`. */
GI_API int gi_build_reduce(gi_builder *b, int fn, const gi_view *out, const gi_view *in, gi_error *err);
/* Softmax (or its logarithm) over the last axis. */
GI_API int gi_build_softmax(gi_builder *b, int logarithm, const gi_view *out, const gi_view *in, gi_error *err);
/* (x - mean) / sqrt(var + epsilon) over the last axis, times scale plus bias: 1-d views of the last axis' length or absent. */
GI_API int gi_build_layer_norm(gi_builder *b, const gi_view *out, const gi_view *in, const gi_view *scale, const gi_view *bias,
                               float epsilon, gi_error *err);

/* A window that slides over one or two spatial axes; 1-D uses index 1 and leaves index 0 at kernel 1, stride 1. */
typedef struct gi_window {
    int64_t kernel[2], stride[2], dilation[2];
    int64_t pad_begin[2];         /* end padding follows from the output's shape */
} gi_window;
/* in, out [N, C, h, w]. maximum: padding never wins; else the mean, over the window or over the part inside if !count_pad. */
GI_API int gi_build_pool(gi_builder *b, const gi_view *out, const gi_view *in, const gi_window *window, int maximum,
                         int count_pad, gi_error *err);
/* out [.., N] = in [.., K] W + bias with `packed` a tensor that holds gi_dense_pack's result for the same `weights`. Leading axes equal. */
GI_API int gi_build_dense(gi_builder *b, const gi_view *out, const gi_view *in, int weights, int packed, gi_error *err);
/* out [.., M, N] = lhs [.., M, K] rhs [.., K, N], both known only at run time. Leading axes equal (stride 0 broadcasts). */
GI_API int gi_build_matmul(gi_builder *b, const gi_view *out, const gi_view *lhs, const gi_view *rhs, gi_error *err);
/* in [N, C, h, w], out [N, M, oh, ow]. `packed`: per group, gi_dense_pack of K = kh * kw * C / groups (in that order)
 * to M / groups, one after another. */
GI_API int gi_build_conv(gi_builder *b, const gi_view *out, const gi_view *in, int packed, int64_t groups,
                         const gi_window *window, gi_error *err);

/* Packs weights that arrive at run time: views W [G*H, I], R [G*H, H], B [2*G*H], P [3*H] (B, P may be absent), contiguous. */
GI_API int gi_build_cell_pack(gi_builder *b, const gi_cell *cell, int packed, const gi_view *W, const gi_view *R,
                              const gi_view *B, const gi_view *P, gi_error *err);
/* One direction of a layer over T steps. Innermost strides are 1. Absent: lens, h0, c0, and any of y, hn, cn.
 * Rows whose lens[n] < T: y is 0 past the length, hn and cn are taken at the length (0 for length 0), reverse starts there.
 * With T = 0 every row has length 0. */
typedef struct gi_recurrent {
    gi_cell cell;
    int32_t reverse;
    int32_t packed;      /* tensor with gi_cell_pack's result */
    int32_t projected;   /* x is what gi_cell_project gives; W is not read */
    gi_view x;           /* [T, N, I], or [T, N, gi_cell_projected_size] */
    gi_view lens;        /* [N] GI_I32 */
    gi_view h0, c0, hn, cn; /* [N, H] */
    gi_view y;           /* [T, N, H] */
} gi_recurrent;
GI_API int gi_build_recurrent(gi_builder *b, const gi_recurrent *layer, gi_error *err);

/* A loop: a finished program as body, run turn after turn on tensors of the program being built. Views of parent
 * tensors are dense: contiguous in row-major order, for scans behind their first axis. They match the body's tensors in
 * dtype and size. */
typedef struct gi_loop_link {
    gi_view parent;
    int32_t tensor;               /* external tensor of the body */
} gi_loop_link;

/* State from turn to turn: `in` holds `initial` in the first turn, and then what `out` held after the turn before. */
typedef struct gi_loop_carry {
    gi_view initial, result;      /* result: the state after the last turn (`initial` after none), or absent */
    int32_t in, out;              /* out may also be a scan output, or the out of an earlier carry */
} gi_loop_carry;

/* Turns end after `trips`, after `trip_count` and when the condition is false, whichever comes first. */
typedef struct gi_loop {
    int64_t trips;
    gi_view trip_count;           /* GI_I64, one element, or absent */
    gi_view condition;            /* GI_BOOL, one element: whether there is a first turn; absent: there is */
    int32_t iteration;            /* external GI_I64 of the body that gets the number of the turn, or -1 */
    int32_t condition_in, condition_out;   /* external GI_BOOL of the body, or -1; in is always true in a turn */
    int32_t n_captures, n_carries, n_scan_inputs, n_scan_outputs;
    const gi_loop_link *captures; /* the same in every turn; the body only reads them */
    const gi_loop_carry *carries;
    const gi_loop_link *scan_inputs, *scan_outputs;   /* parent [trips, ..]: turn t reads or writes element t */
} gi_loop;
/* Turns of all loops nested in one, per step and row. Long turns of a loop that ends by run-time values count more. */
enum { GI_LOOP_LIMIT = 1 << 24 };
/* Every external tensor of `body` has one role; `body` has no carries of its own and must outlive the program. Running
 * fails with GI_ERR_LIMIT when a loop does not end, and with GI_ERR_DATA when one with scan outputs ends before `trips`. */
GI_API int gi_build_loop(gi_builder *b, const gi_program *body, const gi_loop *loop, gi_error *err);

/* Ops added so far; 0 after gi_builder_finish. */
GI_API int gi_builder_op_count(const gi_builder *b);
GI_API int64_t gi_builder_op_macs(const gi_builder *b, int index);   /* a small layer may add its own to the newest op */
/* Plans memory and closes the builder (which still must be freed). NULL on failure. */
GI_API gi_program *gi_builder_finish(gi_builder *b, gi_error *err);

/* ---- program ------------------------------------------------------------------------------------------------------ */
GI_API void gi_program_free(gi_program *p);
GI_API int gi_program_op_count(const gi_program *p);
GI_API const char *gi_program_op_name(const gi_program *p, int index);   /* NULL past the end */
GI_API int64_t gi_program_op_macs(const gi_program *p, int index);       /* multiply-adds of one step of one row */
GI_API int64_t gi_program_work_bytes(const gi_program *p);               /* planned memory per row */
GI_API int64_t gi_program_macs(const gi_program *p);                     /* multiply-adds of one step of one row */

/* ---- threads ------------------------------------------------------------------------------------------------------ */
typedef struct gi_team gi_team;
enum { GI_TEAM_MAX = 64 };
/* `members` threads, the caller of a step included, for streams that share large layers among them; the bits do not change.
 * The others start with the first step that has work for them, as many as its thread has CPUs for, and sleep `keep_hot_ns`
 * after a step. A team works for one step at a time; other steps run on their caller alone. It outlives its streams. */
GI_API gi_team *gi_team_create(int members, int64_t keep_hot_ns, gi_error *err);
GI_API void gi_team_free(gi_team *team);

/* ---- stream ------------------------------------------------------------------------------------------------------- */
typedef struct gi_stream gi_stream;
/* `rows` independent rows (>= 1) that step together. All memory is allocated here. */
GI_API gi_stream *gi_stream_create(const gi_program *p, int64_t rows, gi_error *err);
GI_API void gi_stream_free(gi_stream *s);
/* Steps of `s` may use `team` from here on; NULL: the caller alone. Borrowed. */
GI_API void gi_stream_use_team(gi_stream *s, gi_team *team);
/* Memory of an external tensor: rows * elements, aligned to the dtype, borrowed until bound anew or freed. */
GI_API int gi_stream_bind(gi_stream *s, int tensor, void *data, gi_error *err);
/* One pass over the program. Allocates nothing, takes no lock. Denormals are flushed inside and the caller's floating-point
 * mode is restored. On a negative status no state was carried. */
GI_API int gi_stream_step(gi_stream *s, gi_error *err);
/* One pass that carries no state, with the nanoseconds every op took: ns [gi_program_op_count]. */
GI_API int gi_stream_profile(gi_stream *s, int64_t *ns, gi_error *err);
#ifdef __cplusplus
}
#endif
#endif
