/* Works a known amount, then ends by a signal that it does not handle: fatal WAY ROUNDS. WAY: segv, abort, kill, term, fpe, ill, sys, hup, alarm,
 * quit, thread-segv (a second thread's fault), thread-kill, stack (overflow), kill-group, child-kills (a child kills it), rlimit-cpu. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Three instructions a round. */
static void work(long rounds) { __asm__ volatile("1: lea 1(%0), %0\nsub $1, %0\nsub $1, %0\njnz 1b" : "+r"(rounds)::"cc"); }
static int (*volatile again)(int);
static int deep(int n) {
    volatile char room[4096];
    room[n & 4095] = 1;
    return again(n + 1) + room[0];
}
__attribute__((noinline)) static int fault(volatile int *where) { return *where + 1; }
static void *second(void *way) {
    if (!strcmp(way, "thread-segv")) fault(0);
    else kill(getpid(), SIGKILL);
    for (;;) pause();
    return 0;
}

int main(int argc, char **argv) {
    const char *way = argc > 1 ? argv[1] : "segv";
    work(argc > 2 ? atol(argv[2]) : 10000000);
    long n = write(1, "worked\n", 7);
    (void)n;
    if (!strcmp(way, "segv")) fault(0);
    if (!strcmp(way, "abort")) abort();
    if (!strcmp(way, "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(way, "term")) raise(SIGTERM);
    if (!strcmp(way, "hup")) kill(getpid(), SIGHUP);
    if (!strcmp(way, "quit")) raise(SIGQUIT);
    if (!strcmp(way, "sys")) raise(SIGSYS);
    if (!strcmp(way, "ill")) __asm__ volatile("ud2");
    if (!strcmp(way, "fpe")) __asm__ volatile("xor %%ecx, %%ecx\nxor %%edx, %%edx\ndiv %%ecx" ::: "eax", "ecx", "edx");
    if (!strcmp(way, "stack")) { again = deep; return deep(0); }
    if (!strcmp(way, "alarm")) { alarm(1); for (;;) pause(); }
    if (!strcmp(way, "kill-group")) kill(0, SIGTERM);
    if (!strcmp(way, "rlimit-cpu")) {
        struct rlimit limit = {1, 2};
        setrlimit(RLIMIT_CPU, &limit);
        for (;;) work(1000000);
    }
    if (!strcmp(way, "child-kills")) {
        if (!fork()) { kill(getppid(), SIGKILL); _exit(0); }
        for (;;) pause();
    }
    if (!strncmp(way, "thread", 6)) {
        pthread_t thread;
        pthread_create(&thread, 0, second, (void *)way);
        for (;;) pause();
    }
    return 0;
}
