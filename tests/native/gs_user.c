/* A program that uses GS itself, first by system call, then by WRGSBASE, and gets signals meanwhile.
   @alone @flags -O1 -mfsgsbase */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t area[4] = {11, 22, 33, 44};
static volatile int handled;

static void on_signal(int number) { handled += number == SIGUSR1; }

int main(void) {
    signal(SIGUSR1, on_signal);
    uint64_t base = 7, word, by_instruction;
    long result = syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
    printf("at first: %ld %lu\n", result, base);
    result = syscall(SYS_arch_prctl, ARCH_SET_GS, area);
    __asm__ volatile("mov %%gs:8, %0" : "=r"(word));
    syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
    printf("by system call: %ld %lu %d\n", result, word, base == (uint64_t)area);
    raise(SIGUSR1);
    /* An address where nothing is, and one that is no multiple of anything. */
    const uint64_t bases[] = {0x1000, (uint64_t)area + 1, (uint64_t)area + 8, 0};
    for (int i = 0; i < 4; i++) {
        __asm__ volatile("wrgsbase %1\n\trdgsbase %0" : "=r"(by_instruction) : "r"(bases[i]));
        raise(SIGUSR1);
        printf("by instruction: %d\n", by_instruction == bases[i]);
    }
    printf("handled %d\n", handled);
    return 0;
}
