/* Loops of one block that end after each small number of rounds, by their condition or by a fault whose handler
   sees each round's registers: carry alive around the loop, a register alive, nothing alive. */
#define _GNU_SOURCE
#include "frame.h"
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <ucontext.h>

static uint64_t *end; /* the words before it can be read */

static void on_fault(int number, siginfo_t *information, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    mix(0, (uint64_t)number);
    mix(1, information->si_addr == end);
    mix(2, (uint64_t)registers[REG_RAX]);
    mix(3, (uint64_t)registers[REG_RCX]);
    mix(4, (uint64_t)registers[REG_RDX]);
    mix(5, (uint64_t)registers[REG_EFL] & ARITHMETIC_FLAGS);
    registers[REG_RSI] -= 512; /* goes on further back, for what is left of the rounds */
}

static void loops(uint64_t rounds, uint64_t *from) {
    uint64_t sum = rounds, left = rounds, *at = from, other = 1;
    __asm__ volatile("1:\tadd (%%rsi), %0\n\tadd $8, %%rsi\n\tdec %1\n\tjnz 1b"
                     : "+a"(sum), "+c"(left), "+S"(at), "+d"(other) : : "cc", "memory");
    mix(6, sum), mix(7, (uint64_t)(at - from));
    left = rounds, at = from;
    __asm__ volatile("stc\n1:\tadc (%%rsi), %0\n\tlea 8(%%rsi), %%rsi\n\tdec %1\n\tjnz 1b\n\tadc $0, %3"
                     : "+a"(sum), "+c"(left), "+S"(at), "+d"(other) : : "cc", "memory");
    mix(8, sum), mix(9, other);
    left = rounds, at = from;
    __asm__ volatile("1:\tmov (%%rsi), %3\n\tlea 8(%%rsi), %%rsi\n\tlea (%0,%3), %0\n\tlea 7(%0,%0), %0\n\t"
                     "lea (%0,%1), %0\n\tlea 1(%3), %3\n\tdec %1\n\tjnz 1b"
                     : "+a"(sum), "+c"(left), "+S"(at), "+d"(other) : : "cc", "memory");
    mix(10, sum), mix(11, other);
    left = rounds;
    __asm__ volatile("1:\tdec %0\n\tjnz 1b" : "+c"(left) : : "cc");
    left = rounds;
    __asm__ volatile("1:\tlea -1(%0), %0\n\ttest %0, %0\n\tjg 1b\n\tsetz %b1" : "+c"(left), "+a"(sum) : : "cc");
    mix(12, sum);
    for (at = from; at < end && *at == 0; at++) __asm__ volatile("" : "+r"(at));
    mix(13, (uint64_t)(at - from));
}

void pass(uint64_t round) {
    static uint64_t *pages;
    if (!pages) {
        pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        end = pages + 512;
        for (int i = 448; i < 512; i++) pages[i] = (uint64_t)i * 0x0123456789abcdefu;
        mprotect(end, 4096, PROT_NONE);
        struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
        sigaction(SIGSEGV, &action, NULL);
    }
    for (uint64_t rounds = 1; rounds <= 20; rounds++) {
        loops(rounds + (round & 1), end - 40);
        loops(20, end - rounds); /* faults after so many */
    }
}
