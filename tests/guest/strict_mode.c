/* SECCOMP_MODE_STRICT by prctl or (argument "seccomp") by seccomp: only read, write, exit, sigreturn. Prints, exit 3; "open": killed by SIGKILL. */
#include "filter.h"
#include <fcntl.h>
int main(int argc, char **argv) {
    int by_seccomp = argc > 1 && !strcmp(argv[1], "seccomp");
    if (by_seccomp ? syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 0) : prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) return 2;
    for (volatile long i = 0; i < 20000000; i++) {}
    long n = write(1, "in strict mode\n", 15);
    if (argc > 1 && !strcmp(argv[1], "open")) n = open("/dev/null", O_RDONLY);
    (void)n;
    syscall(SYS_exit, 3);
    return 1;
}
