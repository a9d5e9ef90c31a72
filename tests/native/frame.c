/* Calls `pass` n times and prints result[]; the stepper counts from sa_begin to the end of the process. */
#include "frame.h"
#include <unistd.h>

uint64_t result[32];

/* The stepper starts here: everything after it is the same code for every n. */
__attribute__((noinline, noclone, used)) void sa_begin(void) { __asm__ volatile("" ::: "memory"); }

__attribute__((noinline, noclone)) static void passes(uint64_t n) {
    for (uint64_t round = 0; round < n; round++) pass(round);
}

/* The environment's length moves the stack: string routines would take other paths. */
__attribute__((noinline, noclone)) static void on_aligned_stack(void (*function)(uint64_t), uint64_t n) {
    __asm__ volatile(
        "mov %%rsp, %%rbx\n\t"
        "and $-4096, %%rsp\n\t"
        "call *%0\n\t"
        "mov %%rbx, %%rsp"
        : "+r"(function), "+D"(n)
        :
        : "rbx", "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3",
          "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
          "xmm15", "memory", "cc");
}

int main(int argc, char **argv) {
    uint64_t n = argc > 1 ? (uint64_t)(argv[1][0] - '0') : 1;
    sa_begin();
    on_aligned_stack(passes, n);
    /* As many instructions for every value: printf's depend on the digits. */
    char text[32 * 17];
    for (int i = 0; i < 32; i++) {
        for (int digit = 0; digit < 16; digit++)
            text[i * 17 + digit] = "0123456789abcdef"[result[i] >> (60 - 4 * digit) & 15];
        text[i * 17 + 16] = '\n';
    }
    return write(1, text, sizeof text) == sizeof text ? 0 : 1;
}
