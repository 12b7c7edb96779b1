/* The table of one instruction set: expects GI_TABLE (the symbol) and GI_TABLE_NAME, after all other bodies. */
const gi_kernels GI_TABLE = {
    .name = GI_TABLE_NAME,
    .lanes = V_LANES,
    .product = product,
    .lstm_step = lstm_step,
    .gru_reset_after_step = gru_reset_after_step,
    .gru_reset_before_step = gru_reset_before_step,
    .gru_candidate_step = gru_candidate_step,
    .rnn_step = rnn_step,
    .gru_side = gru_side,
    .dot = dot,
    .unary = {
        [GI_SIGMOID] = map_sigmoid, [GI_TANH] = map_tanh, [GI_RELU] = map_relu, [GI_AFFINE] = map_affine,
        [GI_LEAKY_RELU] = map_leaky_relu, [GI_THRESHOLDED_RELU] = map_thresholded_relu,
        [GI_SCALED_TANH] = map_scaled_tanh, [GI_HARD_SIGMOID] = map_hard_sigmoid, [GI_ELU] = map_elu,
        [GI_SOFTSIGN] = map_softsign, [GI_SOFTPLUS] = map_softplus, [GI_EXP] = map_exp, [GI_LOG] = map_log,
        [GI_SQRT] = map_sqrt, [GI_NEG] = map_neg, [GI_ABS] = map_abs, [GI_ERF] = map_erf,
        [GI_RECIPROCAL] = map_reciprocal, [GI_CLIP] = map_clip, [GI_FLOOR] = map_floor, [GI_CEIL] = map_ceil,
        [GI_ROUND] = map_round, [GI_SIGN] = map_sign, [GI_SIN] = map_sin, [GI_COS] = map_cos,
        [GI_POWER] = map_power_of,
    },
    .arithmetic = {
        [GI_ADD] = map_add, [GI_SUB] = map_sub, [GI_MUL] = map_mul, [GI_DIV] = map_div, [GI_POW] = map_pow,
        [GI_MIN] = map_min, [GI_MAX] = map_max, [GI_PRELU] = map_prelu, [GI_MOD] = map_mod,
    },
    .compare = {
        [GI_EQUAL] = map_equal, [GI_LESS] = map_less, [GI_LESS_EQUAL] = map_less_equal, [GI_GREATER] = map_greater,
        [GI_GREATER_EQUAL] = map_greater_equal,
    },
    .reduce = {
        [GI_REDUCE_SUM] = reduce_sum, [GI_REDUCE_MAX] = reduce_max, [GI_REDUCE_MIN] = reduce_min,
        [GI_REDUCE_PROD] = reduce_prod, [GI_REDUCE_L2] = reduce_squares,
    },
    .softmax = softmax,
    .layer_norm = layer_norm,
    .slide = slide,
    .pad_lines = pad_lines,
};
