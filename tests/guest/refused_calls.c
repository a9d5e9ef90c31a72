/* Calls that a container's profile refuses (refused_calls ACTION NUMBER...): then sigaction, a signal, an alternate stack, a thread, a child. */
#include "filter.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static volatile int got;
static void handler(int number) { (void)number; got++; }
static void *five(void *unused) { (void)unused; return (void *)5; }

int main(int argc, char **argv) {
    struct filter filter = {.listed = filter_action(argv[1]), .others = SECCOMP_RET_ALLOW};
    for (int i = 2; i < argc; i++) filter_add(&filter, atoi(argv[i]));
    if (filter_install(&filter)) { perror("seccomp"); return 2; }
    struct sigaction action = {.sa_handler = handler};
    int refused = sigaction(SIGUSR1, &action, 0);
    printf("sigaction %d %s\n", refused, refused ? strerror(errno) : "");
    fflush(stdout);
    if (!refused) { raise(SIGUSR1); printf("got %d\n", got); }
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    printf("sigaltstack %d\n", sigaltstack(&alternate, 0));
    pthread_t thread;
    void *value = 0;
    refused = pthread_create(&thread, 0, five, 0);
    printf("thread %d\n", refused);
    if (!refused) { pthread_join(thread, &value); printf("%ld\n", (long)value); }
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) { printf("fork %s\n", strerror(errno)); return 0; }
    if (!child) _exit(4);
    int status = 0;
    waitpid(child, &status, 0);
    printf("fork %d\n", WEXITSTATUS(status));
    return 0;
}
