/* Signals in every place where they may arrive: timers in tight code and in REP instructions, faults repaired by the
   handler or left by siglongjmp from an alternate stack, interrupted and restarted calls, masks, one-shot handlers.
   Prints only what must be the same in every run. @alone @flags -O1 */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static volatile long ticks;
static sigjmp_buf escape;
static char alternate[65536];

static void tick(int signal) { (void)signal; ticks++; }

static void leave(int signal, siginfo_t *info, void *context) {
    (void)signal; (void)info; (void)context;
    siglongjmp(escape, 1);
}

/* Steps over an idiv of two bytes and gives 77 as its result; anything else there is an error. */
static void repair(int signal, siginfo_t *info, void *context) {
    (void)signal; (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *pc = (const unsigned char *)registers[REG_RIP];
    if (pc[0] != 0xf7 || registers[REG_RBX] != 0x1234) _exit(9);
    registers[REG_RIP] += 2;
    registers[REG_RAX] = 77;
}

static void handle(int signal, void (*handler)(int), int flags) {
    struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
    sigaction(signal, &action, NULL);
}

static void handle_info(int signal, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO };
    sigaction(signal, &action, NULL);
}

static void every(long microseconds) {
    struct itimerval timer = { { 0, microseconds }, { 0, microseconds } };
    setitimer(ITIMER_REAL, &timer, NULL);
}

int main(void) {
    handle(SIGALRM, tick, SA_RESTART);
    raise(SIGALRM);
    struct sigaction query;
    sigaction(SIGALRM, NULL, &query);
    printf("raised %ld, handler as set: %d\n", ticks, query.sa_handler == tick);

    every(500);
    unsigned long hash = 1469598103934665603ul, sum = 0;
    for (long i = 0; i < 60000000; i++) { hash = (hash ^ i) * 1099511628211ul; sum += hash & 3; }
    every(0);
    printf("hash %lx sum %lu, interrupted: %d\n", hash, sum, ticks > 20);

    stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate }, known;
    sigaltstack(&stack, NULL);
    handle_info(SIGSEGV, leave, SA_ONSTACK | SA_NODEFER);
    int left = 0;
    for (long i = 0; i < 1000; i++)
        if (!sigsetjmp(escape, 1)) *(volatile int *)(i * 4) = 1; else left++;
    sigaltstack(NULL, &known);
    printf("left %d faults; stack %d %d\n", left, known.ss_sp == alternate, known.ss_flags);

    handle_info(SIGFPE, repair, 0);
    long repaired = 0;
    for (int i = 0; i < 1000; i++) {
        int quotient;
        __asm__ volatile("cltd; idiv %%ecx" : "=a"(quotient) : "a"(i), "b"(0x1234), "c"(0) : "edx");
        repaired += quotient;
    }
    printf("repaired %ld\n", repaired);

    handle(SIGALRM, tick, 0);
    every(20000);
    errno = 0;
    int slept = pause();
    every(0);
    printf("pause %d, interrupted: %d\n", slept, errno == EINTR);

    handle(SIGALRM, tick, SA_RESTART);
    int pipes[2];
    if (pipe(pipes)) return 1;
    if (fork() == 0) { usleep(100000); _exit(write(pipes[1], "x", 1) != 1); }
    every(1000);
    char byte = 0;
    ssize_t got = read(pipes[0], &byte, 1);
    every(0);
    printf("restarted read %zd %c\n", got, byte);
    while (wait(NULL) < 0 && errno == EINTR) {}

    every(200);
    size_t size = 1 << 24;
    char *from = malloc(size), *to = malloc(size);
    memset(from, 3, size);
    for (int i = 0; i < 40; i++) {
        void *d = to, *s = from;
        size_t count = size;
        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(count) : : "memory");
    }
    every(0);
    printf("copied %d\n", memcmp(from, to, size));

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    handle(SIGUSR1, tick, SA_RESETHAND);
    sigprocmask(SIG_BLOCK, &set, NULL);
    long before = ticks;
    raise(SIGUSR1);
    printf("blocked %ld\n", ticks - before);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    printf("unblocked %ld\n", ticks - before);
    sigaction(SIGUSR1, NULL, &query);
    printf("one-shot handler gone: %d\n", query.sa_handler == SIG_DFL);
    return 0;
}
