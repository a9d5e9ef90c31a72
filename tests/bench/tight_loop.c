/* One-cycle loops: the smallest block there is, where a counter costs the most. */
#include <stdint.h>
#include <stdio.h>

int main(void) {
    uint64_t a = 1, n = 800000000;
    __asm__ volatile("1:\tadd %0, %0\n\tdec %1\n\tjnz 1b" : "+r"(a), "+r"(n) : : "cc");
    uint64_t state = 88172645463325252u;
    for (int i = 0; i < 150000000; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        if (state & 1) a += state;
    }
    printf("%llx\n", (unsigned long long)(a ^ state));
    return 0;
}
