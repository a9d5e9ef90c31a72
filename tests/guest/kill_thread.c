/* SECCOMP_RET_KILL_THREAD: of a child's only thread (prints "status 1f", core flag left out); of a second thread, main goes on ("thread": prints "main lives"). */
#include "filter.h"
#include <pthread.h>
#include <sys/wait.h>

static volatile int ended;
static int install(void) {
    struct filter filter = {.listed = SECCOMP_RET_KILL_THREAD, .others = SECCOMP_RET_ALLOW};
    filter_add(&filter, SYS_getsid);
    return filter_install(&filter);
}
static void *second(void *unused) {
    if (install()) _exit(2);
    getsid(0);
    ended = 1;
    return unused;
}
int main(int argc, char **argv) {
    int status;
    (void)argv;
    if (argc > 1) {
        pthread_t thread;
        if (pthread_create(&thread, 0, second, 0)) return 2;
        /* The dead thread's number vanishes from /proc. */
        for (int i = 0; i < 5000; i++) {
            char line[64] = "";
            FILE *file = fopen("/proc/self/status", "r");
            while (file && fgets(line, sizeof line, file) && strncmp(line, "Threads", 7)) {}
            if (file) fclose(file);
            if (!strncmp(line, "Threads:\t1\n", 11)) break;
            usleep(1000);
        }
        printf("main lives, ended %d\n", ended);
        return 5;
    }
    if (!fork()) {
        if (install()) _exit(2);
        getsid(0);
        _exit(1);
    }
    wait(&status);
    printf("status %x\n", status & 0x7f);
    return 0;
}
