/* The floating-point mode of the calling thread: denormals are flushed inside the engine, because a state that decays into
 * them costs 100 cycles per operation, and the caller's mode comes back afterwards. */
#ifndef GI_FPMODE_H
#define GI_FPMODE_H
#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
typedef unsigned int gi_fpmode;
enum { GI_FTZ_DAZ = 0x8040 };
static inline gi_fpmode gi_fpmode_enter(void) {
    gi_fpmode caller = _mm_getcsr();
    _mm_setcsr(caller | GI_FTZ_DAZ);
    return caller;
}
static inline void gi_fpmode_leave(gi_fpmode caller) { _mm_setcsr(caller); }
#elif defined(__aarch64__)
typedef uint64_t gi_fpmode;
static inline gi_fpmode gi_fpmode_enter(void) {
    gi_fpmode caller;
    __asm__ volatile("mrs %0, fpcr" : "=r"(caller));
    __asm__ volatile("msr fpcr, %0" : : "r"(caller | ((uint64_t)1 << 24)));
    return caller;
}
static inline void gi_fpmode_leave(gi_fpmode caller) { __asm__ volatile("msr fpcr, %0" : : "r"(caller)); }
#else
typedef int gi_fpmode;
static inline gi_fpmode gi_fpmode_enter(void) { return 0; }
static inline void gi_fpmode_leave(gi_fpmode caller) { (void)caller; }
#endif

#endif
