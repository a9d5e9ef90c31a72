/* Signals its whole process group, as shells and servers do: group_signal NUMBER HOW. HOW: dies (of it, exit by the signal), survives (ignores it,
 * exit 6), handles (exit 7), twice (own group first, then the parent's group). Whoever started it is in the group and must live on. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static void handler(int number) { (void)number; }
int main(int argc, char **argv) {
    int number = argc > 1 ? atoi(argv[1]) : SIGTERM;
    const char *how = argc > 2 ? argv[2] : "survives";
    printf("signals\n");
    fflush(stdout);
    if (!strcmp(how, "survives")) signal(number, SIG_IGN);
    if (!strcmp(how, "handles")) signal(number, handler);
    if (!strcmp(how, "child")) {
        signal(number, SIG_IGN);
        if (!fork()) { kill(0, number); _exit(3); }
        wait(0);
    } else kill(0, number);
    usleep(300000);
    printf("goes on\n");
    return !strcmp(how, "handles") ? 7 : 6;
}
