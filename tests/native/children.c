/* Makes a child in the way that argv[1] names and prints what came of it. @alone @flags -O1 -pthread */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int ended(pid_t pid) {
    int status = -1;
    if (pid < 0) return -1;
    while (waitpid(pid, &status, 0) < 0) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static volatile sig_atomic_t children_gone, alarms;
static void on_child(int number) { children_gone += number == SIGCHLD; }
static void on_alarm(int number) { alarms += number == SIGALRM; }

static void *sum(void *argument) {
    uint64_t total = 0;
    for (uint64_t i = 0; i < 100000; i++) total += i * (uintptr_t)argument;
    return (void *)(uintptr_t)total;
}

int main(int argc, char **argv) {
    const char *way = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    char *arguments[] = {"sh", "-c", "exit 21", NULL};
    if (!strcmp(way, "fork")) {
        pid_t pid = fork();
        if (pid == 0) {
            printf("child\n");
            exit(20);
        }
        printf("fork: %d\n", ended(pid));
    } else if (!strcmp(way, "fork-exec")) {
        pid_t pid = fork();
        if (pid == 0) {
            execv("/bin/sh", arguments);
            _exit(1);
        }
        printf("fork and exec: %d\n", ended(pid));
    } else if (!strcmp(way, "fork-deep")) {
        for (int depth = 0; depth < 4; depth++) {
            pid_t pid = fork();
            if (pid != 0) {
                int status = ended(pid);
                printf("depth %d: %d\n", depth, status);
                exit(depth + 30);
            }
        }
        exit(99);
    } else if (!strcmp(way, "vfork")) {
        pid_t pid = vfork();
        if (pid == 0) _exit(22);
        printf("vfork: %d\n", ended(pid));
    } else if (!strcmp(way, "vfork-exec")) {
        pid_t pid = vfork();
        if (pid == 0) {
            execv("/bin/sh", arguments);
            _exit(1);
        }
        printf("vfork and exec: %d\n", ended(pid));
    } else if (!strcmp(way, "vfork-failed-exec")) {
        volatile int seen = 0;
        pid_t pid = vfork();
        if (pid == 0) {
            execv("/nonexistent", arguments);
            seen = 1;
            _exit(23);
        }
        printf("vfork and failed exec: %d, seen %d\n", ended(pid), seen);
    } else if (!strcmp(way, "spawn")) {
        pid_t pid = -1;
        int error = posix_spawn(&pid, "/bin/sh", NULL, NULL, arguments, environ);
        printf("posix_spawn: %d, %d\n", error, ended(pid));
    } else if (!strcmp(way, "spawn-failed")) {
        pid_t pid = -1;
        int error = posix_spawnp(&pid, "no-such-program-anywhere", NULL, NULL, arguments, environ);
        printf("posix_spawnp of nothing: %d\n", error);
    } else if (!strcmp(way, "system")) {
        printf("system: %d\n", WEXITSTATUS(system("echo from the shell; exit 24")));
    } else if (!strcmp(way, "popen")) {
        char line[100] = "";
        FILE *pipe = popen("echo through a pipe", "r");
        char *got = fgets(line, sizeof line, pipe);
        printf("popen: %s%d\n", got ? got : "nothing ", pclose(pipe));
    } else if (!strcmp(way, "exec")) {
        char *shell[] = {"sh", "-c", "echo replaced; exit 25", NULL};
        execv("/bin/sh", shell);
        return 1;
    } else if (!strcmp(way, "sigchld")) {
        struct sigaction action = {.sa_handler = on_child, .sa_flags = SA_RESTART};
        sigaction(SIGCHLD, &action, NULL);
        for (int i = 0; i < 5; i++) {
            pid_t pid = fork();
            if (pid == 0) _exit(i);
            printf("child %d\n", ended(pid));
        }
        printf("handled some: %d\n", children_gone > 0);
    } else if (!strcmp(way, "alarm")) {
        struct sigaction action = {.sa_handler = on_alarm};
        sigaction(SIGALRM, &action, NULL);
        for (int i = 0; i < 5; i++) {
            ualarm(2000, 0);
            while (alarms == i) {}
        }
        printf("alarms: %d\n", (int)alarms);
    } else if (!strcmp(way, "raise")) {
        signal(SIGUSR1, on_child);
        for (int i = 0; i < 1000; i++) raise(SIGUSR1);
        printf("raised\n");
    } else if (!strcmp(way, "threads")) {
        pthread_t threads[4];
        uint64_t total = 0;
        for (uintptr_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, sum, (void *)i);
        for (int i = 0; i < 4; i++) {
            void *part;
            pthread_join(threads[i], &part);
            total += (uintptr_t)part;
        }
        printf("threads: %llu\n", (unsigned long long)total);
    } else if (!strcmp(way, "killed")) {
        printf("before\n");
        raise(SIGKILL);
    } else if (!strcmp(way, "abort")) {
        printf("before\n");
        abort();
    } else if (!strcmp(way, "fault")) {
        printf("before\n");
        volatile int *nothing = NULL;
        *nothing = 1;
    } else if (!strcmp(way, "quick-exit")) {
        quick_exit(26);
    } else if (!strcmp(way, "_exit")) {
        _exit(27);
    } else {
        return 2;
    }
    return 0;
}
