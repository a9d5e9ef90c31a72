/* Signals that come at known instructions, their handlers' instructions among the counted ones: several frames at once,
   queued values, nesting, one-shot handlers, INT3, UD2, a fault inside REP, a handler that is interrupted by another's
   fault, sigsuspend, sigtimedwait, swapcontext out of a handler. @flags -O1 */
#define _GNU_SOURCE
#include "frame.h"
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

extern const char trap_at[], undefined_at[], string_at[];
static uint8_t *pages;
static ucontext_t inside, outside;
static int leaves;

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)context;
    mix(0, (uint64_t)number * 1000 + (uint64_t)info->si_value.sival_int);
    if (number == SIGUSR1) {
        raise(SIGUSR2);
        mix(1, 1);
    }
    if (number == SIGHUP && leaves) swapcontext(&inside, &outside);
}

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    mix(2, (uint64_t)number);
    if (number == SIGTRAP) {
        mix(3, registers[REG_RIP] == (greg_t)(uintptr_t)trap_at + 1);
        registers[REG_RAX] = 5;
    } else if (number == SIGILL) {
        mix(3, registers[REG_RIP] == (greg_t)(uintptr_t)undefined_at);
        registers[REG_RIP] += 2;
        raise(SIGUSR1); /* a handler in a handler */
    } else {
        mix(3, registers[REG_RIP] == (greg_t)(uintptr_t)string_at);
        mix(4, (uint64_t)registers[REG_RCX]);
        mprotect(pages + 4096, 4096, PROT_READ | PROT_WRITE);
    }
}

static void come_back(void) {
    for (;;) {
        mix(6, 6);
        swapcontext(&outside, &inside);
    }
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
    sigaction(number, &action, NULL);
}

void pass(uint64_t round) {
    static uint8_t coroutine_stack[16384] __attribute__((aligned(4096)));
    if (!pages) {
        pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        getcontext(&outside);
        outside.uc_stack.ss_sp = coroutine_stack, outside.uc_stack.ss_size = sizeof coroutine_stack;
        makecontext(&outside, come_back, 0);
    }
    handle(SIGUSR1, on_signal, 0), handle(SIGUSR2, on_signal, SA_NODEFER), handle(SIGHUP, on_signal, 0);
    handle(SIGRTMIN, on_signal, 0), handle(SIGRTMIN + 1, on_signal, SA_RESTART);
    /* A single step's trap would kill in a handler that blocks SIGTRAP. */
    handle(SIGTRAP, on_fault, SA_NODEFER), handle(SIGILL, on_fault, SA_NODEFER), handle(SIGSEGV, on_fault, 0);
    sigset_t some, old, none;
    sigemptyset(&none), sigemptyset(&some);
    sigaddset(&some, SIGUSR1), sigaddset(&some, SIGUSR2), sigaddset(&some, SIGRTMIN), sigaddset(&some, SIGRTMIN + 1);
    for (volatile int turn = 0; turn < 2; turn++) {
        raise(SIGUSR1);
        sigprocmask(SIG_BLOCK, &some, &old);
        for (int i = 0; i < 3; i++)
            sigqueue(getpid(), SIGRTMIN + (i & 1), (union sigval){.sival_int = (int)round * 10 + i});
        raise(SIGUSR1), raise(SIGUSR2);
        mix(5, 5);
        sigprocmask(SIG_SETMASK, &old, NULL); /* several frames are set up at once */
        mix(5, 6);
        uint64_t value = 1;
        __asm__ volatile("add $2, %0\n\t.globl trap_at\ntrap_at:\n\tint3\n\tadd $3, %0" : "+a"(value) : : "cc", "memory");
        mix(7, value);
        __asm__ volatile("add $2, %0\n\t.globl undefined_at\nundefined_at:\n\tud2\n\tadd $3, %0" : "+r"(value) : : "cc", "memory");
        mix(7, value);
        mprotect(pages + 4096, 4096, PROT_NONE);
        void *to = pages + 4096 - 100;
        uint64_t count = 200;
        __asm__ volatile("mov $7, %%eax\n\t.globl string_at\nstring_at:\n\trep stosb" : "+D"(to), "+c"(count) : : "rax", "memory");
        mix(8, (uint64_t)((uint8_t *)to - pages));
        handle(SIGUSR2, on_signal, SA_RESETHAND);
        raise(SIGUSR2);
        handle(SIGUSR2, on_signal, SA_NODEFER);
        sigprocmask(SIG_BLOCK, &some, &old);
        raise(SIGUSR2);
        sigsuspend(&none);
        sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 77});
        siginfo_t info;
        struct timespec no_time = {0, 0};
        mix(9, (uint64_t)sigtimedwait(&some, &info, &no_time) * 1000 + (uint64_t)info.si_value.sival_int);
        sigprocmask(SIG_SETMASK, &old, NULL);
        leaves = 1;
        raise(SIGHUP);
        leaves = 0;
        mix(10, 10);
    }
}
