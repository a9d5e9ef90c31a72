/* clone in the shapes that libraries do not use: a thread on its creator's TLS, a vfork-like child and a forked one on
   stacks of their own, vfork itself. @alone @flags -O1 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int done;
static char stack[65536] __attribute__((aligned(16)));

static int work(void *argument) {
    (void)argument;
    for (volatile long i = 0; i < 1000000; i++) {}
    done = 1;
    syscall(SYS_exit, 0);
    return 0;
}

static int child(void *argument) { return (int)(long)argument; }

static int status_of(int pid) {
    int status;
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void) {
    const int thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    clone(work, stack + sizeof stack, thread, NULL);
    while (!done) sched_yield();
    char *other = malloc(65536) ;
    printf("vfork-like %d\n", status_of(clone(child, other + 65536, CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)7)));
    printf("forked %d\n", status_of(clone(child, other + 65536, SIGCHLD, (void *)8)));
    int pid = vfork();
    if (pid == 0) _exit(9);
    printf("vforked %d\n", status_of(pid));
    return 0;
}
