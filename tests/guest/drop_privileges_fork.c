/* Starts as root, becomes nobody, forks workers that compute, the last executes a shell. Prints three children and its uid. */
#define _GNU_SOURCE
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    if (setgroups(0, 0) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)) { perror("set"); return 1; }
    for (volatile long i = 0; i < 3000000; i++) {}
    for (int k = 0; k < 3; k++) {
        int status;
        pid_t child = fork();
        if (!child) {
            for (volatile long i = 0; i < 3000000; i++) {}
            if (k == 2) execl("/bin/sh", "sh", "-c", "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done", (char *)0);
            _exit(0);
        }
        waitpid(child, &status, 0);
        printf("child %d\n", WEXITSTATUS(status));
        fflush(stdout);
    }
    printf("uid %d\n", getuid());
    return 0;
}
