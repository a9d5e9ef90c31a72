/* Threads whose instructions do not depend on how they are scheduled: made by clone, clone3 and pthread_create; one signals
   itself; whoever waits, waits in read.
   @libraries @flags -O1 -pthread */
#define _GNU_SOURCE
#include "frame.h"
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

struct raw {
    int pipes[2];
    uint64_t seed, value;
    uint8_t stack[16384] __attribute__((aligned(16)));
};

static struct raw threads[3];

static long call3(long number, uint64_t a, uint64_t b, uint64_t c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

__attribute__((noinline, used)) static void thread_work(struct raw *own) {
    uint64_t value = own->seed;
    for (int i = 0; i < 200; i++) value = (value ^ value >> 7) * 31 + (uint64_t)i;
    __asm__ volatile("mov $300, %%ecx\n\tlea %1, %%rdi\n\tmov %%ecx, %%eax\n\trep stosb" : : "r"(own), "m"(own->stack[0]) : "rax", "rcx", "rdi", "memory");
    own->value = value;
    if (own == &threads[2]) call3(SYS_tgkill, (uint64_t)call3(SYS_getpid, 0, 0, 0), (uint64_t)call3(SYS_gettid, 0, 0, 0), SIGUSR1);
    call3(SYS_write, (uint64_t)own->pipes[1], (uint64_t)&value, 8);
    call3(SYS_exit, 0, 0, 0);
}

static void on_user(int number) { threads[2].value += (uint64_t)number; }

static void start(struct raw *own, int by_clone3) {
    const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    struct clone_args how = {.flags = flags, .stack = (uint64_t)own->stack, .stack_size = sizeof own->stack};
    uint64_t number = by_clone3 ? SYS_clone3 : SYS_clone;
    uint64_t first = by_clone3 ? (uint64_t)&how : flags;
    uint64_t second = by_clone3 ? sizeof how : (uint64_t)own->stack + sizeof own->stack;
    __asm__ volatile("mov %3, %%r12\n\txor %%edx, %%edx\n\txor %%r10d, %%r10d\n\txor %%r8d, %%r8d\n\tsyscall\n\t"
                     "test %%rax, %%rax\n\tjnz 1f\n\tmov %%r12, %%rdi\n\tcall thread_work\n\tud2\n1:"
                     : "+a"(number) : "D"(first), "S"(second), "r"(own)
                     : "rcx", "rdx", "r8", "r10", "r11", "r12", "memory", "cc");
}

static int back[2];

static void *library_thread(void *argument) {
    uint64_t value = (uint64_t)argument;
    for (int i = 0; i < 100; i++) value = value * 33 + (value >> 9);
    call3(SYS_write, (uint64_t)back[1], (uint64_t)&value, 8);
    return (void *)value;
}

void pass(uint64_t round) {
    if (round == 0) {
        for (int i = 0; i < 3; i++)
            if (pipe(threads[i].pipes)) return;
        if (pipe(back)) return;
        struct sigaction action = {.sa_handler = on_user, .sa_flags = SA_RESTART};
        sigaction(SIGUSR1, &action, NULL);
    }
    /* Three at once. */
    for (int i = 0; i < 3; i++) {
        threads[i].seed = round * 10 + (uint64_t)i;
        start(&threads[i], i & 1);
    }
    for (int i = 0; i < 3; i++) {
        uint64_t value = 0;
        call3(SYS_read, (uint64_t)threads[i].pipes[0], (uint64_t)&value, 8);
        mix(i, value ^ threads[i].value);
    }
    static uint8_t stack[65536] __attribute__((aligned(4096)));
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, sizeof stack);
    pthread_t thread;
    uint64_t value = 0;
    void *result = NULL;
    pthread_create(&thread, &attributes, library_thread, (void *)round);
    call3(SYS_read, (uint64_t)back[0], (uint64_t)&value, 8);
    usleep(100000); /* it has ended by now: pthread_join takes its way without waiting */
    pthread_join(thread, &result);
    mix(4, value ^ (uint64_t)result);
    pthread_attr_destroy(&attributes);
}
