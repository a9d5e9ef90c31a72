/* rep movs, rep stos, lods with and without REP: every width, every count from 0, overlapping, backward. @flags -O1 */
#include "frame.h"

static uint8_t a[4096], b[4096];

#define MOVE(width, to, from, n)                                                                    \
    do {                                                                                            \
        void *d = (to); const void *s = (from); uint64_t c = (n);                                   \
        __asm__ volatile("rep movs" width : "+D"(d), "+S"(s), "+c"(c) : : "memory");                \
        mix(0, (uint64_t)((uint8_t *)d - b)), mix(1, (uint64_t)((const uint8_t *)s - a)), mix(2, c); \
    } while (0)

void pass(uint64_t round) {
    for (int i = 0; i < 512; i++) a[i] = (uint8_t)(i * 7 + round);
    for (uint64_t n = 0; n < 9; n++) {
        MOVE("b", b, a + n, n * 5);
        MOVE("w", b + 100, a + n, n);
        MOVE("l", b + 200, a + n, n);
        MOVE("q", b + 300, a + n, n * 3);
        void *d = b + 600; uint64_t c = n * 2;
        __asm__ volatile("rep stosl" : "+D"(d), "+c"(c) : "a"(0x01020304) : "memory");
        d = b + 700; c = n;
        __asm__ volatile("rep stosq\n\tstosb\n\tstosw" : "+D"(d), "+c"(c) : "a"(round) : "memory");
        const void *s = a + n; c = n; uint64_t last = 0;
        __asm__ volatile("rep lodsb\n\tlodsq\n\tlodsw" : "+S"(s), "+c"(c), "+a"(last));
        mix(3, last);
        s = a; d = b + 900;
        __asm__ volatile("movsb\n\tmovsw\n\tmovsl\n\tmovsq" : "+D"(d), "+S"(s) : : "memory");
        /* overlapping, one element behind the other: the byte order of the copies shows */
        MOVE("b", a + 401, a + 400, 40);
        /* backward */
        d = b + 1100 + 8 * n; s = a + 100 + 8 * n; c = n;
        __asm__ volatile("std\n\trep movsq\n\tcld" : "+D"(d), "+S"(s), "+c"(c) : : "memory", "cc");
        d = b + 1300; c = n + 1;
        __asm__ volatile("std\n\trep stosb\n\tstosw\n\tcld" : "+D"(d), "+c"(c) : "a"(n) : "memory", "cc");
    }
    for (int i = 0; i < 1400; i += 8) mix(4, *(uint64_t *)(b + i));
    for (int i = 400; i < 448; i += 8) mix(5, *(uint64_t *)(a + i));
}
