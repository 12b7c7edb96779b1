#define _GNU_SOURCE   /* CPU_COUNT, sched_getcpu */
#include "cpu.h"
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* Asked by hand: not every compiler's builtin knows the name. */
static int has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* The builtins also ask the operating system (XGETBV) whether it saves the wide registers. */
unsigned gi_cpu_features(void) {
    unsigned found = 0;
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c()) return 0;
    found |= GI_CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        found |= GI_CPU_AVX512;
    return found;
}
#else
unsigned gi_cpu_features(void) { return 0; }
#endif

int64_t gi_cpu_l1(void) {
    long bytes = 0;
#ifdef _SC_LEVEL1_DCACHE_SIZE
    bytes = sysconf(_SC_LEVEL1_DCACHE_SIZE);
#endif
    return bytes > 0 ? bytes : 32 * 1024;
}

#if defined(__linux__)
_Static_assert(sizeof(cpu_set_t) <= sizeof(gi_cpus), "a set of CPUs has room");

int gi_cpu_count(void) {
    cpu_set_t allowed;
    return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : INT_MAX;
}

int gi_cpu_here(void) { return sched_getcpu(); }

gi_cpus gi_cpus_allowed(void) {
    gi_cpus found = {{0}};
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) memcpy(found.bits, &allowed, sizeof allowed);
    return found;
}

void gi_cpus_leave(const gi_cpus *allowed, int cpu) {
    cpu_set_t rest;
    memcpy(&rest, allowed->bits, sizeof rest);
    if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_CLR(cpu, &rest);
    if (CPU_COUNT(&rest)) sched_setaffinity(0, sizeof rest, &rest);
}
#else
int gi_cpu_count(void) { return INT_MAX; }
int gi_cpu_here(void) { return -1; }
gi_cpus gi_cpus_allowed(void) { return (gi_cpus){{0}}; }
void gi_cpus_leave(const gi_cpus *allowed, int cpu) { (void)allowed, (void)cpu; }
#endif
