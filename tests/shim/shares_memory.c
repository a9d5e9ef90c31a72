/* A process that shares the memory of the one that made it (no thread, no vfork), and executes some seconds. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char stack[65536] __attribute__((aligned(16)));

static int works(void *unused) {
    for (volatile long i = 0; i < 400000000; i++) {}
    syscall(SYS_exit, unused != NULL);
    return 1;
}

int main(void) {
    int status;
    pid_t pid = clone(works, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    return pid < 0 || waitpid(pid, &status, 0) != pid || status != 0;
}
