/* RDTSC faults (PR_SET_TSC): write ("written"), fork ("child status 700"), thread, exec of /bin/echo, and rdtsc itself, whose handler prints "no tsc". */
#include "filter.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
static void handler(int number) {
    long n = write(1, number == SIGSEGV ? "no tsc\n" : "?\n", 7);
    (void)n;
    _exit(4);
}
static void *five(void *unused) { (void)unused; return (void *)5; }
int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "write";
    int status = 0;
    if (prctl(PR_SET_TSC, PR_TSC_SIGSEGV)) return 2;
    if (!strcmp(mode, "write")) return write(1, "written\n", 8) != 8;
    if (!strcmp(mode, "fork")) {
        if (!fork()) _exit(7);
        wait(&status);
        printf("child status %x\n", status);
    }
    if (!strcmp(mode, "thread")) {
        pthread_t thread;
        void *value;
        if (pthread_create(&thread, 0, five, 0) || pthread_join(thread, &value)) return 2;
        printf("thread %ld\n", (long)value);
    }
    if (!strcmp(mode, "exec")) execl("/bin/echo", "echo", "executed", (char *)0);
    if (!strcmp(mode, "rdtsc")) {
        signal(SIGSEGV, handler);
        __asm__ volatile("rdtsc" ::: "rax", "rdx");
    }
    return 0;
}
