# The C core as Cython sees it. The contract of every name is the prose of src_c/gateinfer.h.
from libc.stdint cimport int32_t, int64_t

cdef extern from "gateinfer.h" nogil:
    enum: GI_MAX_RANK
    enum: GI_ERR_DATA
    enum: GI_ERR_NOT_COMPILED
    enum: GI_ERR_CANNOT_RUN
    enum: GI_ERR_STATE
    enum: GI_LSTM
    enum: GI_GRU
    enum: GI_RNN

    ctypedef struct gi_error:
        int status
        char text[256]

    ctypedef struct gi_kernels:
        pass
    ctypedef struct gi_builder:
        pass
    ctypedef struct gi_program:
        pass
    ctypedef struct gi_stream:
        pass

    ctypedef struct gi_view:
        int32_t tensor
        int32_t rank
        int64_t offset
        int64_t shape[GI_MAX_RANK]
        int64_t stride[GI_MAX_RANK]

    ctypedef struct gi_activation:
        int32_t kind
        float alpha
        float beta

    ctypedef struct gi_cell:
        int32_t kind
        int32_t linear_before_reset
        int32_t input_forget
        int32_t weights
        float clip
        gi_activation act[3]
        int64_t input_size
        int64_t hidden_size

    ctypedef struct gi_window:
        int64_t kernel[2]
        int64_t stride[2]
        int64_t dilation[2]
        int64_t pad_begin[2]

    ctypedef struct gi_recurrent:
        gi_cell cell
        int32_t reverse
        int32_t packed
        int32_t projected
        gi_view x
        gi_view lens
        gi_view h0
        gi_view c0
        gi_view y
        gi_view hn
        gi_view cn

    ctypedef struct gi_loop_link:
        gi_view parent
        int32_t tensor

    ctypedef struct gi_loop_carry:
        gi_view initial
        gi_view result
        # `in` in C; Cython reserves the word
        int32_t enters "in"
        int32_t out

    ctypedef struct gi_loop:
        int64_t trips
        gi_view trip_count
        gi_view condition
        int32_t iteration
        int32_t condition_in
        int32_t condition_out
        int32_t n_captures
        int32_t n_carries
        int32_t n_scan_inputs
        int32_t n_scan_outputs
        const gi_loop_link *captures
        const gi_loop_carry *carries
        const gi_loop_link *scan_inputs
        const gi_loop_link *scan_outputs

    const gi_kernels *gi_kernels_get(const char *name, gi_error *err)
    const char *gi_kernels_name(const gi_kernels *kernels)
    const char *gi_kernels_list(int index)
    int gi_kernels_lanes(const gi_kernels *kernels)

    int64_t gi_cell_packed_size(const gi_cell *cell, gi_error *err)
    int gi_cell_pack(const gi_cell *cell, const float *W, const float *R, const float *B, const float *P, float *packed,
                     gi_error *err)
    int64_t gi_cell_projected_size(const gi_cell *cell)
    void gi_cell_project(const gi_kernels *kernels, const gi_cell *cell, const float *packed, int64_t rows, const float *x,
                         float *out)
    int gi_round_weights(int weights, int64_t n, const float *source, float *to, gi_error *err)
    int64_t gi_dense_packed_size(int weights, int64_t K, int64_t N, gi_error *err)
    int gi_dense_pack(int weights, int64_t K, int64_t N, const float *w, int64_t k_stride, int64_t n_stride,
                      const float *bias, float *packed, gi_error *err)

    gi_builder *gi_builder_create(const gi_kernels *kernels, gi_error *err)
    void gi_builder_free(gi_builder *b)
    int gi_builder_work(gi_builder *b, int dtype, int64_t elements, gi_error *err)
    int gi_builder_external(gi_builder *b, int dtype, int64_t elements, gi_error *err)
    int gi_builder_constant(gi_builder *b, int dtype, int64_t elements, const void *data, gi_error *err)
    int gi_builder_carry(gi_builder *b, int source, int target, gi_error *err)
    int gi_build_copy(gi_builder *b, const gi_view *out, const gi_view *src, gi_error *err)
    int gi_build_fill(gi_builder *b, const gi_view *out, double value, gi_error *err)
    int gi_build_cast(gi_builder *b, const gi_view *out, const gi_view *src, gi_error *err)
    int gi_build_unary(gi_builder *b, int fn, const gi_view *out, const gi_view *src, float alpha, float beta, gi_error *err)
    int gi_build_binary(gi_builder *b, int fn, const gi_view *out, const gi_view *lhs, const gi_view *rhs, gi_error *err)
    int gi_build_where(gi_builder *b, const gi_view *out, const gi_view *cond, const gi_view *lhs, const gi_view *rhs,
                       gi_error *err)
    int gi_build_gather(gi_builder *b, const gi_view *out, const gi_view *src, const gi_view *index, int axis, gi_error *err)
    int gi_build_gather_nd(gi_builder *b, const gi_view *out, const gi_view *src, const gi_view *index, int batch,
                           gi_error *err)
    int gi_build_gather_elements(gi_builder *b, const gi_view *out, const gi_view *src, const gi_view *index, int axis,
                                 gi_error *err)
    int gi_build_scatter_nd(gi_builder *b, const gi_view *out, const gi_view *index, const gi_view *updates,
                            int reduction, gi_error *err)
    int gi_build_scatter_elements(gi_builder *b, const gi_view *out, const gi_view *index, const gi_view *updates,
                                  int axis, int reduction, gi_error *err)
    int gi_build_arg(gi_builder *b, const gi_view *out, const gi_view *src, int least, int last, gi_error *err)
    int gi_build_top(gi_builder *b, const gi_view *values, const gi_view *indices, const gi_view *src, int least,
                     gi_error *err)
    int gi_build_cumsum(gi_builder *b, const gi_view *out, const gi_view *src, int exclusive, gi_error *err)
    int gi_build_reverse(gi_builder *b, const gi_view *out, const gi_view *src, const gi_view *lens, gi_error *err)
    int gi_build_reduce(gi_builder *b, int fn, const gi_view *out, const gi_view *src, gi_error *err)
    int gi_build_softmax(gi_builder *b, int logarithm, const gi_view *out, const gi_view *src, gi_error *err)
    int gi_build_layer_norm(gi_builder *b, const gi_view *out, const gi_view *src, const gi_view *scale, const gi_view *bias,
                            float epsilon, gi_error *err)
    int gi_build_pool(gi_builder *b, const gi_view *out, const gi_view *src, const gi_window *window, int maximum,
                      int count_pad, gi_error *err)
    int gi_build_dense(gi_builder *b, const gi_view *out, const gi_view *src, int weights, int packed, gi_error *err)
    int gi_build_matmul(gi_builder *b, const gi_view *out, const gi_view *lhs, const gi_view *rhs, gi_error *err)
    int gi_build_conv(gi_builder *b, const gi_view *out, const gi_view *src, int packed, int64_t groups,
                      const gi_window *window, gi_error *err)
    int gi_build_cell_pack(gi_builder *b, const gi_cell *cell, int packed, const gi_view *W, const gi_view *R,
                           const gi_view *B, const gi_view *P, gi_error *err)
    int gi_build_recurrent(gi_builder *b, const gi_recurrent *layer, gi_error *err)
    int gi_build_loop(gi_builder *b, const gi_program *body, const gi_loop *loop, gi_error *err)
    gi_program *gi_builder_finish(gi_builder *b, gi_error *err)

    void gi_program_free(gi_program *p)
    int gi_program_op_count(const gi_program *p)
    const char *gi_program_op_name(const gi_program *p, int index)
    int64_t gi_program_op_macs(const gi_program *p, int index)
    int gi_builder_op_count(const gi_builder *b)
    int64_t gi_builder_op_macs(const gi_builder *b, int index)
    int64_t gi_program_work_bytes(const gi_program *p)
    int64_t gi_program_macs(const gi_program *p)

    enum:
        GI_TEAM_MAX
    ctypedef struct gi_team
    gi_team *gi_team_create(int members, int64_t keep_hot_ns, gi_error *err)
    void gi_team_free(gi_team *team)
    void gi_stream_use_team(gi_stream *s, gi_team *team)

    gi_stream *gi_stream_create(const gi_program *p, int64_t rows, gi_error *err)
    void gi_stream_free(gi_stream *s)
    int gi_stream_bind(gi_stream *s, int tensor, void *data, gi_error *err)
    int gi_stream_step(gi_stream *s, gi_error *err)
    int gi_stream_profile(gi_stream *s, int64_t *ns, gi_error *err)
