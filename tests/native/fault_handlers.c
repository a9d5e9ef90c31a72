/* Synchronous signals: raise, faults that the handler repairs or skips, siglongjmp out of handlers, the
   alternate stack, nested handlers, a division by zero, a handler that changes registers. @flags -O1 */
#define _GNU_SOURCE
#include "frame.h"
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static uint8_t alternate[32768];
static sigjmp_buf back;
static uint8_t *page;

static void on_user(int number, siginfo_t *information, void *context) {
    mix(0, (uint64_t)number);
    mix(1, information->si_pid == getpid());
    ucontext_t *state = context;
    mix(2, (uint64_t)state->uc_mcontext.gregs[REG_EFL] & 1);
    if (number == SIGUSR1) raise(SIGUSR2); /* nested */
}

/* Labels of the two instructions that fault on purpose, and of those behind them. */
extern const char fault_at[], fault_behind[], divide_at[];

static void on_fault(int number, siginfo_t *information, void *context) {
    ucontext_t *state = context;
    greg_t *registers = state->uc_mcontext.gregs;
    mix(3, (uint64_t)number);
    if (registers[REG_RIP] == (greg_t)(uintptr_t)fault_at) {
        mix(4, (uint64_t)registers[REG_RBX]);
        mix(5, information->si_addr == page + 100);
        if (registers[REG_RBX] == 1)
            registers[REG_RIP] = (greg_t)(uintptr_t)fault_behind; /* skips it */
        else
            mprotect(page, 4096, PROT_READ | PROT_WRITE); /* it is executed again */
        registers[REG_R12] = 0x1234;
    } else if (registers[REG_RIP] == (greg_t)(uintptr_t)divide_at) {
        mix(6, (uint64_t)registers[REG_RCX]);
        registers[REG_RCX] = 3; /* divides by three instead */
    } else {
        siglongjmp(back, number);
    }
}

void pass(uint64_t round) {
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    struct sigaction user = {.sa_sigaction = on_user, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGUSR1, &user, NULL);
    user.sa_flags |= SA_ONSTACK;
    sigaction(SIGUSR2, &user, NULL);
    struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGFPE, &fault, NULL);
    struct sigaction asked;
    sigaction(SIGSEGV, NULL, &asked);
    mix(7, asked.sa_sigaction == on_fault && (asked.sa_flags & fault.sa_flags) == fault.sa_flags);
    if (!page) page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (volatile uint64_t i = 0; i < 3; i++) {
        raise(SIGUSR1);
        sigset_t block, old;
        sigemptyset(&block);
        sigaddset(&block, SIGUSR2);
        sigprocmask(SIG_BLOCK, &block, &old);
        raise(SIGUSR2);
        mix(8, i);
        sigprocmask(SIG_SETMASK, &old, NULL); /* delivered here */
        for (uint64_t way = 0; way < 2; way++) {
            mprotect(page, 4096, PROT_NONE);
            uint64_t seen = 0, carry = 0;
            __asm__ volatile("mov %3, %%rbx\n\tmov %2, %%rdx\n\txor %%r12d, %%r12d\n\tstc\n\t"
                             ".globl fault_at, fault_behind\n"
                             "fault_at:\n\tmovb $7, 100(%%rdx)\n"
                             "fault_behind:\n\tsetc %b1\n\tmov %%r12, %0"
                             : "=&r"(seen), "+&r"(carry) : "r"(page), "r"(way) : "rbx", "rdx", "r12", "memory", "cc");
            mix(9, seen), mix(10, carry & 1);
        }
        uint64_t quotient = round + 100;
        __asm__ volatile("xor %%ecx, %%ecx\n\txor %%edx, %%edx\n\t"
                         ".globl divide_at\n"
                         "divide_at:\n\tdiv %%rcx"
                         : "+a"(quotient) : : "rcx", "rdx", "cc");
        mix(11, quotient);
        if (sigsetjmp(back, 1) == 0) {
            mprotect(page, 4096, PROT_NONE);
            *(volatile uint8_t *)page = 1;
            mix(12, 99);
        }
        mix(13, i);
    }
}
