/* Operands with 8- and 32-bit displacements, negative ones, scaled indices, absolute offsets, r12, r13, rsp and rbp as base. @flags -O1 */
#include "frame.h"

static uint8_t area[1 << 20];

void pass(uint64_t round) {
    uint8_t *middle = area + (1 << 19);
    for (int64_t i = 0; i < 12; i++) {
        __asm__ volatile(
            "mov %0, %%r12\n\tmov %0, %%r13\n\tmov %0, %%r8\n\t"
            "addl $1, 0x7f(%%r12)\n\taddq $2, -0x80(%%r13)\n\taddb $3, 0x80(%%r8)\n\taddw $4, -0x40000(%%r12)\n\t"
            "addq %1, 0x40000(%%r13, %1, 8)\n\tsubl $5, -0x12345(%%r8, %1, 4)\n\txorb $6, (%%r12, %1)\n\taddq $7, (%%r13)\n\t"
            "notq 0x30000(%%r12, %1, 2)\n\tlea -0x40000(%%r13, %1, 8), %%r14\n\taddq $9, 0x40000(%%r14)\n\t"
            "movups 0x21(%%r12), %%xmm3\n\tmovups %%xmm3, -0x3333(%%r13, %1, 8)"
            :
            : "r"(middle), "r"(i + (int64_t)round) : "r12", "r13", "r14", "r8", "xmm3", "memory", "cc");
    }
    for (int i = 0; i < 1 << 20; i += 997) mix(0, area[i]);
    /* no base at all: an absolute 32-bit address cannot be assumed to exist, an index register can carry it */
    uint64_t got;
    __asm__ volatile("mov 0(, %1, 1), %0" : "=r"(got) : "r"(middle));
    mix(1, got);
    __asm__ volatile("push %%rbp\n\tmov %1, %%rbp\n\tmov 8(%%rbp), %0\n\tmov (%%rbp, %2, 4), %%eax\n\tadd %%rax, %0\n\tpop %%rbp"
                     : "=&r"(got) : "r"(middle), "r"(round % 8) : "rax", "cc", "memory");
    mix(2, got);
}
