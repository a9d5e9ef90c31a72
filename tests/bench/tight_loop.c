/* One-cycle loops: the smallest block there is, where a counter costs the most. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    const unsigned length = argc > 1 ? (unsigned)atoi(argv[1]) : 1; /* some 0.5 s each */
    uint64_t a = 1, n = 800000000ull * length;
    __asm__ volatile("1:\tadd %0, %0\n\tdec %1\n\tjnz 1b" : "+r"(a), "+r"(n) : : "cc");
    uint64_t state = 88172645463325252u;
    for (uint64_t i = 0; i < 150000000ull * length; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        if (state & 1) a += state;
    }
    printf("%llx\n", (unsigned long long)(a ^ state));
    return 0;
}
