/* SSSE3, SSE4.1, SSE4.2: shuffles, blends, insert and extract, string comparison, rounding. @flags -O1 -msse4.2 -mno-avx
   @needs sse4_2 */
#include "frame.h"
#include <nmmintrin.h>

void pass(uint64_t round) {
    static const char text[] __attribute__((aligned(16))) = "the quick brown fox jumps over the lazy dog....";
    __m128i a = _mm_loadu_si128((const __m128i *)(text + round % 8));
    __m128i b = _mm_load_si128((const __m128i *)(text + 16));
    __m128i s = _mm_shuffle_epi8(a, _mm_abs_epi8(_mm_sign_epi8(b, a)));
    s = _mm_alignr_epi8(s, _mm_hadd_epi16(a, b), 5);
    s = _mm_blendv_epi8(s, b, a);
    s = _mm_mullo_epi32(s, _mm_max_epu32(a, b));
    s = _mm_insert_epi64(s, (long long)round, 1);
    mix(0, (uint64_t)_mm_extract_epi64(s, 0));
    mix(1, (uint64_t)_mm_extract_epi8(s, 7));
    mix(2, (uint64_t)_mm_cmpestri(a, 10, b, 14, _SIDD_CMP_EQUAL_ANY));
    mix(3, (uint64_t)_mm_cmpistri(a, b, _SIDD_CMP_RANGES | _SIDD_NEGATIVE_POLARITY));
    mix(4, (uint64_t)_mm_cmpistrc(a, b, _SIDD_CMP_EQUAL_EACH));
    mix(5, (uint64_t)_mm_cvtsi128_si64(_mm_cmpistrm(a, b, _SIDD_CMP_EQUAL_ORDERED)));
    mix(6, (uint64_t)_mm_testz_si128(a, b) * 2 + (uint64_t)_mm_testc_si128(a, s));
    __m128d d = _mm_round_pd(_mm_set_pd((double)round + 0.6, -2.5), _MM_FROUND_TO_NEG_INF);
    d = _mm_dp_pd(d, d, 0x31);
    mix(7, (uint64_t)_mm_cvtsi128_si64(_mm_castpd_si128(d)));
    mix(8, (uint64_t)_mm_cvtsi128_si64(_mm_cvtepu8_epi32(_mm_minpos_epu16(s))));
    mix(9, (uint64_t)_mm_cvtsi128_si64(_mm_mpsadbw_epu8(a, b, 3)));
}
