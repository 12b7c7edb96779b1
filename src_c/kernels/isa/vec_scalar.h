/* The vector words, scalar: one lane. This file is also the words' contract; vec_avx2.h and vec_avx512.h say the same
 * with 8 and 16 lanes. Every word is one IEEE operation per lane, so bodies written in them give the same bits everywhere.
 *
 *   v_f, v_m           a vector of V_LANES floats; a mask with one truth value per lane
 *   V_PARTS            vectors per block of 16 lanes
 *   v_load v_store     unaligned; v_load_n v_store_n touch only the first n lanes (0 <= n), others read as 0
 *   v_set1             the same value in all lanes
 *   v_add v_sub v_mul v_div v_sqrt v_abs v_neg, v_fma(a, b, c) = a * b + c rounded once
 *   v_min(a, b) = a < b ? a : b and v_max(a, b) = a > b ? a : b: a NaN in b comes through, one in a does not
 *   v_round v_floor v_ceil    to an integral value; round is half to even
 *   v_lt v_le v_eq     ordered compares to a mask (false when a NaN takes part); v_or v_and v_not on masks
 *   v_select(m, a, b)  m ? a : b
 *   v_pow2(n)          2^n for integral n in [-126, 127]; any other n gives some float and no fault
 *   v_exponent(x)      the unbiased exponent of a positive normal x, as a float
 *   v_mantissa(x)      that x scaled into [1, 2)
 *   v_copysign(a, s)   |a| with the sign bit of s */
