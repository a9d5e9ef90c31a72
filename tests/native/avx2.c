/* AVX2 and FMA: integer lanes, gathers, masked moves, variable shifts. @flags -O1 -mavx2 -mfma
   @needs avx2 fma */
#include "frame.h"
#include <immintrin.h>

void pass(uint64_t round) {
    static int32_t table[256];
    static int64_t wide[64];
    for (int i = 0; i < 256; i++) table[i] = i * i + (int)round;
    for (int i = 0; i < 64; i++) wide[i] = (int64_t)i << (i % 50);
    __m256i index = _mm256_setr_epi32(1, 250, 3, 77, 5, 0, 128, 9);
    __m256i all = _mm256_i32gather_epi32(table, index, 4);
    __m256i half = _mm256_mask_i32gather_epi32(all, table + 1, index, _mm256_slli_epi32(all, 31), 4);
    __m256i longs = _mm256_i64gather_epi64((long long *)wide, _mm256_setr_epi64x(3, 60, 0, 31), 8);
    __m256i x = _mm256_add_epi32(all, _mm256_permutevar8x32_epi32(half, index));
    x = _mm256_xor_si256(x, _mm256_sllv_epi64(longs, _mm256_set1_epi64x((int64_t)round + 2)));
    _mm256_maskstore_epi32(table + 17, _mm256_cmpgt_epi32(x, all), x);
    x = _mm256_add_epi64(x, _mm256_maskload_epi64((long long *)wide + 2, x));
    x = _mm256_sad_epu8(x, _mm256_shuffle_epi8(all, half));
    uint64_t lanes[4];
    _mm256_storeu_si256((__m256i *)lanes, x);
    for (int i = 0; i < 4; i++) mix(0, lanes[i]);
    __m256d d = _mm256_fmadd_pd(_mm256_set1_pd(1.5), _mm256_cvtepi32_pd(_mm256_castsi256_si128(all)), _mm256_set1_pd((double)round));
    _mm256_storeu_pd((double *)lanes, d);
    for (int i = 0; i < 4; i++) mix(1, lanes[i]);
    mix(2, (uint64_t)(uint32_t)_mm256_movemask_epi8(x));
    for (int i = 0; i < 256; i++) mix(3, (uint64_t)table[i]);
}
