/* repe/repne cmps and scas: early ends, full runs, zero counts, backward; the flags they leave. @flags -O1 */
#include "frame.h"

static uint8_t a[512], b[512];

#define COMPARE(text, n)                                                                            \
    do {                                                                                            \
        const void *d = b, *s = a; uint64_t c = (n), flags;                                         \
        __asm__ volatile("cmp $1, %2\n\t" text "\n\tpushfq\n\tpop %3"                               \
                         : "+D"(d), "+S"(s), "+c"(c), "=&r"(flags) : "a"(round + 3) : "memory", "cc"); \
        mix(0, (uint64_t)((const uint8_t *)d - b)), mix(1, (uint64_t)((const uint8_t *)s - a));     \
        mix(2, c), mix(3, flags & ARITHMETIC_FLAGS);                                                \
    } while (0)

void pass(uint64_t round) {
    for (int i = 0; i < 512; i++) a[i] = b[i] = (uint8_t)(i >> 3);
    for (int differ = 0; differ < 40; differ += 13) {
        b[differ] ^= 0x80;
        COMPARE("repe cmpsb", 64);
        COMPARE("repe cmpsq", 5);
        COMPARE("repne cmpsw", 9);
        COMPARE("repe cmpsl", 0);
        COMPARE("repne scasb", 64);
        COMPARE("repe scasb", 8);
        COMPARE("repne scasq", 0);
        COMPARE("repne scasl", 20);
        COMPARE("cmpsb\n\tcmpsq\n\tscasb\n\tscasw", 1);
        COMPARE("lea 100(%%rdi), %%rdi\n\tlea 100(%%rsi), %%rsi\n\tstd\n\trepe cmpsb\n\tcld", 30);
        b[differ] ^= 0x80;
    }
}
