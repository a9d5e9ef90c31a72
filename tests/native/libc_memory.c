/* libc's own string routines (chosen by CPU features at load time) and malloc. @flags -O1 -fno-builtin */
#include "frame.h"
#include <stdlib.h>
#include <string.h>

static char a[9000] __attribute__((aligned(4096))), b[9000] __attribute__((aligned(4096)));

void pass(uint64_t round) {
    static const size_t sizes[] = {0, 1, 3, 7, 15, 16, 31, 33, 63, 64, 65, 127, 200, 511, 1024, 2049, 4100, 8192};
    for (int i = 0; i < 9000; i++) a[i] = (char)('a' + (i + (int)round) % 23);
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t n = sizes[i];
        memcpy(b + i, a + 2 * i, n);
        memmove(b + i + 1, b + i, n);
        memset(b + 100 + i, (int)i, n / 3);
        mix(0, (uint64_t)(int64_t)memcmp(a, b + i, n) >> 63);
        char saved = a[n];
        a[n] = 0;
        mix(1, strlen(a + (n ? i % n : 0)));
        mix(2, strchr(a, 'q') ? 1 : 0);
        mix(3, (uint64_t)(strcmp(a, b) < 0));
        a[n] = saved;
        mix(4, memchr(a, 'z', n) != 0);
        char *p = malloc(n + 1), *q = calloc(1, n * 2 + 1);
        p = realloc(p, n * 3 + 10);
        memcpy(p, a, n);
        mix(5, (uint64_t)(p[n / 2] + q[n]));
        free(q);
        free(p);
    }
    for (int i = 0; i < 9000; i += 31) mix(6, (uint64_t)b[i]);
}
