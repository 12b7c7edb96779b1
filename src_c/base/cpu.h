/* What the running CPU and its operating system support. */
#ifndef GI_CPU_H
#define GI_CPU_H
#include <stdint.h>

enum {
    GI_CPU_AVX2 = 1 << 0,   /* AVX2, FMA and F16C */
    GI_CPU_AVX512 = 1 << 1  /* AVX-512 F, DQ, BW, VL; implies GI_CPU_AVX2 */
};

/* A set of GI_CPU_* bits; 0 where only portable code runs. */
unsigned gi_cpu_features(void);
/* Bytes of the first data cache, as the C library knows it; 32 KiB where it does not (musl, macOS). */
int64_t gi_cpu_l1(void);
/* CPUs the calling thread, and what it starts, may run on; INT_MAX where nobody knows. */
int gi_cpu_count(void);
/* The CPU the calling thread runs on, or -1 where nobody knows. */
int gi_cpu_here(void);

/* CPUs that a thread may run on. */
typedef struct gi_cpus { unsigned char bits[128]; } gi_cpus;
gi_cpus gi_cpus_allowed(void);
/* The calling thread runs on `allowed` without `cpu` from here on, if that leaves any. */
void gi_cpus_leave(const gi_cpus *allowed, int cpu);

#endif
