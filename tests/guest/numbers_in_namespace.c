/* Process numbers in a fresh PID namespace: the children of process 1 get 2, 3, 4, its thread 5, and 6 the next child. Prints them. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void *of_thread(void *result) { *(long *)result = syscall(SYS_gettid); return 0; }
int main(void) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID)) return 2;
    if (!fork()) {
        int a[4];
        long number;
        pthread_t thread;
        for (int i = 0; i < 3; i++) { a[i] = fork(); if (!a[i]) { sleep(1); _exit(0); } }
        pthread_create(&thread, 0, of_thread, &number);
        pthread_join(thread, 0);
        a[3] = fork();
        if (!a[3]) _exit(0);
        printf("%d %d %d %ld %d\n", a[0], a[1], a[2], number, a[3]);
        fflush(stdout);
        _exit(0);
    }
    wait(0);
    return 0;
}
