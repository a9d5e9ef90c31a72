/* 67h: 32-bit addresses, in memory mapped below 2^32; string instructions with ECX, ESI, EDI. @flags -O1 */
#define _GNU_SOURCE
#include "frame.h"
#include <stdlib.h>
#include <sys/mman.h>

void pass(uint64_t round) {
    uint8_t *low = mmap((void *)0x30000000, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (low != (void *)0x30000000) abort();
    uint64_t base = 0x30000000u | 0xabcd00000000u; /* the upper half must be ignored */
    uint64_t v = round + 1, got;
    for (uint64_t i = 0; i < 8; i++) {
        __asm__ volatile("addr32 movq %1, 64(%k2)\n\taddr32 addq $5, 64(%k2, %k3, 8)\n\taddr32 mov 64(%k2), %0\n\taddr32 lea 0x7fffffff(%k2, %k2, 2), %1"
                         : "=&r"(got), "+r"(v) : "r"(base), "r"(i) : "memory", "cc");
        mix(0, got), mix(1, v);
        uint64_t d = base + 4096, s = base, c = 0x700000000u + i * 3;
        __asm__ volatile("addr32 rep movsb" : "+D"(d), "+S"(s), "+c"(c) : : "memory");
        mix(2, (uint32_t)d), mix(3, (uint32_t)s), mix(4, (uint32_t)c);
        d = base + 8192, c = 0x100000000u + i;
        __asm__ volatile("addr32 rep stosq\n\taddr32 stosb" : "+D"(d), "+c"(c) : "a"(v) : "memory");
        mix(5, (uint32_t)d), mix(6, (uint32_t)c);
        d = base + 4096, s = base, c = 0x200000000u + i;
        __asm__ volatile("cmp %%rcx, %%rcx\n\taddr32 repe cmpsb" : "+D"(d), "+S"(s), "+c"(c) : : "memory", "cc");
        mix(7, (uint32_t)c);
    }
    for (int i = 0; i < 16384; i += 8) mix(8, *(uint64_t *)(low + i));
    munmap(low, 65536);
}
