/* printf and snprintf: integers, floating point, padding; strtod and strtoll back. @flags -O1 -fno-builtin */
#include "frame.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pass(uint64_t round) {
    char text[256];
    for (int i = 0; i < 5; i++) {
        double d = (double)(round + 1) * 3.14159 / (i + 1);
        int n = snprintf(text, sizeof text, "%5d|%-8s|%08lx|%+.6e|%g|%c", i - 2, "abc", (unsigned long)(round * 77), d, d, 'x');
        mix(0, (uint64_t)n);
        for (char *at = text; *at; at++) mix(1, (uint64_t)*at);
        char *end;
        mix(2, (uint64_t)(int64_t)(strtod(text + strlen(text) - 6, &end) * 1000));
        mix(3, (uint64_t)strtoll(text, &end, 10));
        printf("%d %s %.3f\n", i, text, d);
    }
}
