/* Syscall user dispatch: the handler runs once for write(), prints "handler 2", then "after"; "again": it blocks again and returns through the kernel's own range. */
#include "filter.h"
#include <signal.h>
static volatile char control = 1; /* SYSCALL_DISPATCH_FILTER_BLOCK */
static void handler(int number, siginfo_t *info, void *context) {
    (void)number; (void)context;
    control = 0; /* ALLOW */
    long n = write(1, info->si_code == 2 /* SYS_USER_DISPATCH */ ? "handler 2\n" : "handler ?\n", 10);
    (void)n;
}
int main(int argc, char **argv) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    (void)argv;
    sigaction(SIGSYS, &action, 0);
    if (prctl(59 /* PR_SET_SYSCALL_USER_DISPATCH */, 1, 0, 0, &control)) return 2;
    long n = write(1, "x\n", 2);
    n += write(1, "after\n", 6);
    for (int i = 0; argc > 1 && i < 5; i++) {
        for (volatile long k = 0; k < 3000000; k++) {}
        control = 1;
        n += write(1, "x\n", 2);
        n += write(1, "after\n", 6);
    }
    return 0;
}
