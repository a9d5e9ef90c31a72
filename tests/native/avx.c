/* AVX: 256-bit floating point, broadcasts, permutes, vzeroupper and vzeroall; upper halves must survive. @flags -O1 -mavx
   @needs avx */
#include "frame.h"
#include <immintrin.h>

__attribute__((noinline)) static __m256 through_call(__m256 v, float f) { return _mm256_mul_ps(v, _mm256_set1_ps(f)); }

void pass(uint64_t round) {
    static float f[32] __attribute__((aligned(32)));
    for (int i = 0; i < 32; i++) f[i] = (float)(i * 3) - (float)round;
    __m256 sum = _mm256_setzero_ps();
    for (int i = 0; i < 24; i += 8) {
        __m256 v = _mm256_load_ps(f + i), w = _mm256_loadu_ps(f + i + 3);
        sum = through_call(_mm256_add_ps(sum, _mm256_permute2f128_ps(v, w, 0x21)), 1.5f);
        sum = _mm256_blendv_ps(sum, _mm256_permute_ps(v, 0x93), w);
        sum = _mm256_addsub_ps(sum, _mm256_broadcast_ss(f + i));
    }
    mix(0, (uint64_t)_mm256_movemask_ps(_mm256_cmp_ps(sum, _mm256_setzero_ps(), _CMP_LT_OQ)));
    uint64_t lanes[4];
    _mm256_storeu_ps((float *)lanes, sum);
    for (int i = 0; i < 4; i++) mix(1, lanes[i]);
    _mm256_maskstore_ps(f + 5, _mm256_castps_si256(sum), sum);
    sum = _mm256_maskload_ps(f + 1, _mm256_castps_si256(sum));
    _mm256_storeu_ps((float *)lanes, sum);
    for (int i = 0; i < 4; i++) mix(2, lanes[i]);
    mix(3, (uint64_t)_mm256_testz_ps(sum, sum));
    /* a value kept in the upper half of ymm13 across branches, calls and a system call */
    uint64_t kept;
    __asm__ volatile("vmovq %1, %%xmm13\n\tvinsertf128 $1, %%xmm13, %%ymm13, %%ymm13\n\t"
                     "mov $39, %%eax\n\tsyscall\n\tmov $5, %%ecx\n1:\tdec %%ecx\n\tjnz 1b\n\t"
                     "vextractf128 $1, %%ymm13, %%xmm0\n\tvmovq %%xmm0, %0"
                     : "=r"(kept) : "r"(round + 77) : "rax", "rcx", "r11", "xmm0", "xmm13", "cc");
    mix(4, kept);
    _mm256_zeroupper();
    _mm256_zeroall();
    for (int i = 0; i < 32; i++) mix(5, (uint64_t)(int64_t)f[i]);
}
