/* Restartable sequences: two threads on one processor count in one word without atomics; a section that is preempted
   or interrupted must start again, else increments are lost. @alone @flags -O1 -pthread */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/rseq.h>
#include <sys/time.h>

static volatile uint64_t word;
static uint64_t aborted[2];

static void on_alarm(int number) { (void)number; }

/* One increment: a load, some delay, a store. */
__attribute__((noinline)) static int increment(void) {
    __asm__ goto volatile(
        ".pushsection __rseq_cs, \"aw\"\n\t.balign 32\n"
        "9:\t.long 0, 0\n\t.quad 1f, 2f - 1f, 4f\n\t.popsection\n\t"
        "lea 9b(%%rip), %%rax\n\tmov %%rax, %%fs:8(%[offset])\n"
        "1:\tmov %[word], %%rcx\n\tmov $60, %%edx\n"
        "3:\tdec %%edx\n\tjnz 3b\n\tinc %%rcx\n\tmov %%rcx, %[word]\n"
        "2:\n\t"
        ".pushsection __rseq_failure, \"ax\"\n\t.byte 0x0f, 0xb9, 0x3d\n\t.long 0x53053053\n"
        "4:\tjmp %l[again]\n\t.popsection"
        : : [offset] "r"(__rseq_offset), [word] "m"(word)
        : "rax", "rcx", "rdx", "memory", "cc" : again);
    return 1;
again:
    return 0;
}

static void *count(void *argument) {
    for (int i = 0; i < 3000000; i++)
        while (!increment()) (*(uint64_t *)argument)++;
    return NULL;
}

int main(void) {
    if (__rseq_size == 0) {
        printf("no restartable sequences here\n");
        return 0;
    }
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    signal(SIGALRM, on_alarm);
    struct itimerval timer = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, count, &aborted[i]);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    printf("%lu increments, some aborted: %d\n", word, aborted[0] + aborted[1] > 0);
    return 0;
}
