/* Children by fork from several threads at once: forks [clone3]. A third of them leaves at once, a third is killed by its parent at once, a third
 * forks once more. Prints how many processes there were. */
#define _GNU_SOURCE
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int by_clone3;

static pid_t make(void) {
    if (!by_clone3) return fork();
    struct clone_args arguments = {.exit_signal = SIGCHLD};
    return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

static void *works(void *made) {
    for (int i = 0; i < 12; i++) {
        pid_t pid = make();
        if (pid < 0) exit(1);
        if (pid == 0) {
            if (i % 3 == 1) for (;;) pause();
            if (i % 3 == 2) {
                pid = make();
                if (pid == 0) _exit(0);
                waitpid(pid, NULL, 0);
            }
            _exit(0);
        }
        if (i % 3 == 1) kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        __atomic_add_fetch((int *)made, i % 3 == 2 ? 2 : 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(int argc, char **argv) {
    by_clone3 = argc > 1 && !strcmp(argv[1], "clone3");
    int made = 1;
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, works, &made);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    printf("%d\n", made);
    return 0;
}
