/* Unmaps the [vdso], as sandboxes and tracers do, then (by argument) writes, forks, makes a thread, receives a signal. Prints "alive". */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
static void *five(void *unused) { (void)unused; return (void *)5; }
static void handler(int number) { (void)number; }
int main(int argc, char **argv) {
    char line[256];
    unsigned long from = 0, to = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, file))
        if (strstr(line, "[vdso]")) sscanf(line, "%lx-%lx", &from, &to);
    fclose(file);
    if (!from || munmap((void *)from, to - from)) return 2;
    const char *mode = argc > 1 ? argv[1] : "write";
    if (!strcmp(mode, "fork")) {
        int status;
        if (!fork()) _exit(6);
        wait(&status);
        if (WEXITSTATUS(status) != 6) return 3;
    }
    if (!strcmp(mode, "thread")) {
        pthread_t thread;
        if (pthread_create(&thread, 0, five, 0) || pthread_join(thread, 0)) return 4;
    }
    if (!strcmp(mode, "signal")) {
        signal(SIGUSR1, handler);
        raise(SIGUSR1);
    }
    /* Longer than a snapshot's interval. */
    if (!strcmp(mode, "long")) for (volatile long i = 0; i < 1500000000; i++) {}
    return write(1, "alive\n", 6) != 6;
}
