/* crc32, carry-less multiply, AES, movbe. @flags -O1 -msse4.2 -mpclmul -maes -mmovbe
   @needs sse4_2 pclmulqdq aes movbe */
#include "frame.h"
#include <immintrin.h>

void pass(uint64_t round) {
    static uint8_t data[64];
    for (int i = 0; i < 64; i++) data[i] = (uint8_t)(i * 11 + (int)round);
    uint64_t crc = 0xffffffff;
    for (int i = 0; i < 64; i++) {
        __asm__ volatile("crc32b %b1, %k0\n\tcrc32q %2, %0\n\tcrc32w %w1, %k0\n\tcrc32l %k1, %k0" : "+r"(crc) : "r"((uint64_t)data[i]), "m"(data[i & 56]));
        uint64_t swapped;
        __asm__ volatile("movbe %1, %0\n\tmovbe %k0, %1" : "=&r"(swapped), "+m"(*(uint64_t *)(data + (i & 48))));
        mix(0, swapped);
    }
    mix(1, crc);
    __m128i v = _mm_loadu_si128((__m128i *)data), key = _mm_loadu_si128((__m128i *)(data + 16));
    for (int i = 0; i < 5; i++) {
        v = _mm_aesenc_si128(v, key);
        key = _mm_xor_si128(_mm_aeskeygenassist_si128(key, 0x1b), v);
        v = _mm_xor_si128(v, _mm_clmulepi64_si128(v, key, 0x10));
        v = _mm_aesdeclast_si128(v, _mm_aesimc_si128(key));
    }
    mix(2, (uint64_t)_mm_cvtsi128_si64(v));
}
