/* qsort and bsearch with callbacks: libc calls back into the program. @flags -O1 */
#include "frame.h"
#include <stdlib.h>

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

void pass(uint64_t round) {
    static uint32_t numbers[150];
    uint32_t state = 12345 + (uint32_t)round;
    for (int i = 0; i < 150; i++) numbers[i] = state = state * 1664525 + 1013904223;
    qsort(numbers, 150, sizeof numbers[0], by_value);
    for (int i = 0; i < 150; i++) mix(0, numbers[i]);
    for (int i = 0; i < 20; i++) {
        uint32_t key = numbers[i * 7] + (uint32_t)(i & 1);
        mix(1, bsearch(&key, numbers, 150, sizeof key, by_value) != 0);
    }
}
