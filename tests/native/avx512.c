/* AVX-512: masks, zmm16-31 and k0-7 across calls, branches and system calls, compress, expand, scatter,
   embedded broadcast and rounding. @flags -O1 -mavx512f -mavx512bw -mavx512dq -mavx512vl
   @needs avx512f avx512bw avx512dq avx512vl */
#include "frame.h"
#include <immintrin.h>

__attribute__((noinline)) static __m512i turn(__m512i v, __mmask16 k) {
    return _mm512_mask_ror_epi32(v, k, v, 7);
}

void pass(uint64_t round) {
    static int32_t table[512] __attribute__((aligned(64)));
    for (int i = 0; i < 512; i++) table[i] = i * 2654435 + (int)round;
    __m512i a = _mm512_load_si512(table), b = _mm512_loadu_si512(table + 19);
    __mmask16 k = _mm512_cmpgt_epi32_mask(a, b);
    __m512i c = turn(_mm512_mask_add_epi32(a, k, b, _mm512_set1_epi32((int)round)), (__mmask16)~k);
    __m512i gathered = _mm512_mask_i32gather_epi32(c, k, _mm512_and_si512(a, _mm512_set1_epi32(255)), table, 4);
    _mm512_mask_i32scatter_epi32(table, k, _mm512_and_si512(b, _mm512_set1_epi32(255)), gathered, 4);
    _mm512_mask_compressstoreu_epi32(table + 300, k, c);
    c = _mm512_maskz_expandloadu_epi32((__mmask16)(k ^ 0x5a5a), table + 310);
    c = _mm512_ternarylogic_epi32(a, b, c, 0x96);
    mix(0, (uint64_t)_mm512_reduce_add_epi64(c));
    mix(1, (uint64_t)_cvtmask16_u32(_kxnor_mask16(k, _kshiftli_mask16(k, 3))));
    __m512d d = _mm512_cvt_roundepi64_pd(c, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    mix(2, (uint64_t)_mm512_cmp_pd_mask(d, _mm512_set1_pd(3.5), _CMP_LT_OQ));
    __m512i bytes = _mm512_maskz_shuffle_epi8((__mmask64)0x123456789abcdef0u, c, a);
    mix(3, (uint64_t)_mm512_reduce_add_epi64(bytes));
    /* registers that only AVX-512 has, live across a loop, a call of libc-free code and a system call */
    uint64_t high, mask;
    __asm__ volatile("vpbroadcastq %2, %%zmm29\n\tvpbroadcastq %2, %%zmm16\n\tkmovq %2, %%k5\n\tkmovq %2, %%k1\n\t"
                     "mov $39, %%eax\n\tsyscall\n\tmov $9, %%ecx\n1:\tvpaddq %%zmm16, %%zmm29, %%zmm29\n\t"
                     "kaddq %%k1, %%k5, %%k5\n\tdec %%ecx\n\tjnz 1b\n\t"
                     "vextracti64x4 $1, %%zmm29, %%ymm17\n\tvmovq %%xmm17, %0\n\tkmovq %%k5, %1"
                     : "=r"(high), "=r"(mask) : "r"(round * 3 + 1)
                     : "rax", "rcx", "r11", "xmm16", "xmm17", "xmm29", "k1", "k5", "cc");
    mix(4, high), mix(5, mask);
    __asm__ volatile("vpaddd (%1)%{1to16%}, %%zmm30, %%zmm30" : "+r"(high) : "r"(table) : "xmm30");
    for (int i = 0; i < 512; i++) mix(6, (uint64_t)table[i]);
}
