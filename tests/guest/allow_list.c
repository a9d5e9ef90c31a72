/* A sandboxed worker: from a filter on only read, write, exit, exit_group and rt_sigreturn are permitted. Prints before, after; exit 17.
 *   allow_list ACTION WHERE [SPIN]: what other calls meet (filter.h), and who installs the filter: main, tsync, twice,
 *   thread (a second thread, for itself), thread-tsync (a second thread, for all), parent (whose child does the work),
 *   exec (the work is done by a program executed under a filter that lets it start) */
#include "filter.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

static unsigned others;
static unsigned flags;
static int is_twice;
static long spin = 20000000;
static const int few[] = {SYS_read, SYS_write, SYS_exit, SYS_exit_group, SYS_rt_sigreturn};
static volatile int made, installed;

static void say(const char *text) {
    long n = write(1, text, strlen(text));
    (void)n;
}

static int install(void) {
    struct filter filter = {.listed = SECCOMP_RET_ALLOW, .others = others, .flags = flags};
    for (unsigned i = 0; i < sizeof few / sizeof *few; i++) filter_add(&filter, few[i]);
    if (is_twice) { filter_add(&filter, SYS_prctl); filter_add(&filter, SYS_seccomp); is_twice = 0; }
    return filter_install(&filter);
}

__attribute__((noreturn)) static void work(void) {
    char bytes[32];
    for (volatile long i = 0; i < spin; i++) {}
    long n = read(0, bytes, sizeof bytes);
    (void)n;
    say("after\n");
    _exit(17);
}

/* The filter is this thread's alone or everybody's; the thread goes on computing while main works. */
static void *second(void *unused) {
    while (!made) {} /* main is back from pthread_create, which makes calls of its own */
    int failed = install();
    if (failed) say("refused\n");
    installed = 1; /* no futex: the permitted calls are few */
    for (;;) {}
    return unused;
}

int main(int argc, char **argv) {
    const char *where = argc > 2 ? argv[2] : "main";
    others = filter_action(argc > 1 ? argv[1] : "kill_process");
    if (argc > 3) spin = atol(argv[3]);
    if (!strcmp(where, "work")) work();
    say("before\n");
    if (strstr(where, "tsync")) flags = SECCOMP_FILTER_FLAG_TSYNC;
    is_twice = !strcmp(where, "twice");
    if (!strncmp(where, "thread", 6)) {
        pthread_t thread;
        if (pthread_create(&thread, 0, second, 0)) return 2;
        made = 1;
        while (!installed) {}
        work();
    }
    if (!strcmp(where, "parent")) {
        int status;
        pid_t child = fork();
        if (!child) { if (install()) say("refused\n"); work(); }
        waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    if (!strcmp(where, "exec")) {
        /* What starting this program needs natively, and no call more. */
        static const int start[] = {SYS_execve, SYS_brk, SYS_mmap, SYS_mprotect, SYS_munmap, SYS_access, SYS_openat, SYS_read,
                                    SYS_write, SYS_close, SYS_fstat, SYS_newfstatat, SYS_pread64, SYS_arch_prctl, SYS_set_tid_address,
                                    SYS_set_robust_list, SYS_rseq, SYS_prlimit64, SYS_getrandom, SYS_exit_group};
        struct filter filter = {.listed = SECCOMP_RET_ALLOW, .others = others};
        for (unsigned i = 0; i < sizeof start / sizeof *start; i++) filter_add(&filter, start[i]);
        if (filter_install(&filter)) return 2;
        char number[32];
        snprintf(number, sizeof number, "%ld", spin);
        char *again[] = {argv[0], argv[1], "work", number, 0};
        execv("/proc/self/exe", again);
        return 3;
    }
    if (install()) say("refused\n");
    if (!strcmp(where, "twice")) say(install() ? "no second filter\n" : "second filter\n");
    work();
}
