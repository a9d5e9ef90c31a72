/* Legacy SSE and SSE2: packed and scalar, conversions, unaligned, movnti, masked store, MXCSR. @flags -O1 */
#include "frame.h"
#include <emmintrin.h>

void pass(uint64_t round) {
    static float f[16] __attribute__((aligned(16)));
    static uint8_t bytes[64] __attribute__((aligned(16)));
    for (int i = 0; i < 16; i++) f[i] = (float)i * 1.25f + (float)round;
    __m128 sum = _mm_setzero_ps();
    for (int i = 0; i < 16; i += 4) {
        __m128 v = _mm_load_ps(f + i), w = _mm_loadu_ps(f + (i ? i - 1 : 0));
        sum = _mm_add_ps(sum, _mm_mul_ps(v, _mm_sqrt_ps(_mm_max_ps(w, v))));
        sum = _mm_sub_ps(sum, _mm_shuffle_ps(v, w, 0x1b));
    }
    _mm_storeu_ps(f + 3, sum);
    mix(0, (uint64_t)_mm_cvtsi128_si64(_mm_castps_si128(sum)));
    __m128d d = _mm_cvtps_pd(sum);
    d = _mm_div_pd(d, _mm_set1_pd(3.0));
    d = _mm_add_sd(d, _mm_cvtsi64_sd(d, (int64_t)round - 5));
    mix(1, (uint64_t)_mm_cvttsd_si64(d));
    mix(2, (uint64_t)_mm_comilt_sd(d, _mm_set1_pd(0)));
    __m128i x = _mm_set1_epi16((short)(round * 321)), y = _mm_loadu_si128((__m128i *)(f + 1));
    x = _mm_adds_epi16(x, _mm_packs_epi32(y, x));
    x = _mm_xor_si128(_mm_unpacklo_epi8(x, y), _mm_madd_epi16(x, y));
    x = _mm_sub_epi64(x, _mm_slli_epi64(y, 7));
    mix(3, (uint64_t)_mm_movemask_epi8(_mm_cmpgt_epi8(x, y)));
    _mm_maskmoveu_si128(x, y, (char *)bytes);
    _mm_stream_si128((__m128i *)(bytes + 16), x);
    _mm_stream_si64((long long *)(bytes + 32), (long long)round);
    _mm_sfence();
    uint32_t old = _mm_getcsr();
    _mm_setcsr(old | 0x6000); /* round to zero */
    mix(4, (uint64_t)_mm_cvtsd_si64(_mm_set_sd(2.75 + (double)round)));
    _mm_setcsr(old);
    mix(5, (uint64_t)_mm_cvtsd_si64(_mm_set_sd(2.75 + (double)round)));
    for (int i = 0; i < 64; i += 8) mix(6, *(uint64_t *)(bytes + i));
}
