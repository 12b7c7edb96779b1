#include "cpu.h"

#if defined(__x86_64__)
/* The builtins also ask the operating system (XGETBV) whether it saves the wide registers. */
unsigned gi_cpu_features(void) {
    unsigned found = 0;
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    found |= GI_CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        found |= GI_CPU_AVX512;
    return found;
}
#else
unsigned gi_cpu_features(void) { return 0; }
#endif
