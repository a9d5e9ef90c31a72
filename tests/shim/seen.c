/* What a process sees of itself, and ways to end. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static int threads(void) {
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, "Threads:", 8)) printf("%s", line);
    fclose(file);
    int count = 0;
    DIR *directory = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(directory));) count += entry->d_name[0] != '.';
    closedir(directory);
    printf("%d tasks\n", count);
    return 0;
}

static int forks(void) {
    pid_t child = fork();
    if (!child) {
        threads();
        fflush(stdout);
        _exit(5);
    }
    int status;
    waitpid(child, &status, 0);
    printf("status %x\n", status);
    return 0;
}

/* No children: nothing to wait for. */
static int waits(int options) {
    int status;
    pid_t pid = waitpid(-1, &status, options);
    printf("%d %s\n", pid, strerrorname_np(errno));
    if (options) {
        siginfo_t information;
        int result = waitid(P_ALL, 0, &information, WEXITED | options);
        printf("%d %s\n", result, strerrorname_np(errno));
    }
    return 0;
}

static int unshares(void) {
    printf("memory %d\n", unshare(CLONE_VM));
    printf("handlers %d\n", unshare(CLONE_SIGHAND));
    printf("threads %d\n", unshare(CLONE_THREAD));
    printf("user %d\n", unshare(CLONE_NEWUSER));
    return threads();
}

static int time_namespace(void) {
    int own = open("/proc/self/ns/time", O_RDONLY);
    printf("unshare %d\n", unshare(CLONE_NEWTIME));
    int other = open("/proc/self/ns/time_for_children", O_RDONLY);
    printf("setns %d\n", setns(other, 0));
    printf("setns %d\n", setns(own, CLONE_NEWTIME));
    return forks();
}

static int kill_thread(void) {
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_THREAD),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog description = {4, program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return 2;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &description)) return 2;
    getsid(0);
    return 1;
}

/* A signal to the group that the helper must not get: it would be killed, and its parent see nothing. */
static int group(void) {
    pid_t child = fork();
    if (!child) {
        setpgid(0, 0);
        pid_t other = fork();
        if (!other) for (;;) pause();
        signal(SIGTERM, SIG_IGN);
        kill(0, SIGTERM);
        int status;
        waitpid(other, &status, 0);
        printf("status %x\n", status);
        fflush(stdout);
        kill(0, SIGKILL);
    }
    int status;
    waitpid(child, &status, 0);
    printf("status %x\n", status);
    return 0;
}

/* Process numbers in a namespace of their own: the first is 1, and none is left out. */
static int process_numbers(void) {
    if (unshare(CLONE_NEWPID)) return 2;
    pid_t first = fork();
    if (!first) {
        pid_t pids[3];
        for (int index = 0; index < 3; index++) {
            pids[index] = fork();
            if (!pids[index]) _exit(0);
        }
        printf("%d: %d %d %d\n", getpid(), pids[0], pids[1], pids[2]);
        fflush(stdout);
        for (int index = 0; index < 3; index++) waitpid(pids[index], NULL, 0);
        _exit(0);
    }
    int status;
    waitpid(first, &status, 0);
    printf("status %x\n", status);
    return 0;
}

/* A debugger that wants to know of every new thread and process, over a child that makes one. */
static int debugger(void) {
    int ends[2];
    char byte = 0;
    int stops[2] = {0, 0}, clones = 0, status;
    if (pipe(ends)) return 2;
    pid_t child = fork();
    if (!child) {
        if (read(ends[0], &byte, 1) != 1) _exit(1);
        pid_t other = fork();
        if (!other) _exit(66);
        waitpid(other, &status, 0);
        _exit(77);
    }
    if (ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE)) return 2;
    if (write(ends[1], &byte, 1) != 1) return 2;
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
        if (WIFEXITED(status)) {
            printf("%s: exit %d\n", pid == child ? "child" : "other", WEXITSTATUS(status));
            continue;
        }
        stops[pid == child]++;
        clones += status >> 16 == PTRACE_EVENT_CLONE;
        ptrace(PTRACE_CONT, pid, 0, status >> 16 ? 0 : WSTOPSIG(status));
    }
    printf("%d and %d stops, %d clones\n", stops[1], stops[0], clones);
    return 0;
}

static void write_a_thousand_times(void) {
    int file = open("/dev/shm", O_TMPFILE | O_WRONLY, 0600);
    if (file < 0) file = open("/tmp", O_TMPFILE | O_WRONLY, 0600);
    for (int index = 0; index < 1000; index++)
        if (write(file, "x", 1) != 1) _exit(3);
}

static int ends(const char *how) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    write_a_thousand_times();
    if (!strcmp(how, "exit")) return 0;
    if (!strcmp(how, "SIGSEGV")) return *(volatile int *)NULL;
    if (!strcmp(how, "SIGABRT")) abort();
    if (!strcmp(how, "SIGPIPE")) {
        int ends[2];
        char byte = 0;
        if (pipe(ends)) return 2;
        close(ends[0]);
        return write(ends[1], &byte, 1) != 1;
    }
    kill(getpid(), !strcmp(how, "SIGKILL") ? SIGKILL : SIGTERM);
    return 1;
}

static int exec_fails(void) {
    char byte;
    execl("/etc/hostname", "hostname", (char *)NULL);
    execl("/proc/self/status", "status", (char *)NULL);
    write_a_thousand_times();
    puts("still here");
    fflush(stdout);
    while (read(0, &byte, 1) > 0) {}
    return 0;
}

int main(int argc, char **argv) {
    const char *way = argc == 2 ? argv[1] : "";
    if (!strcmp(way, "threads")) return threads();
    if (!strcmp(way, "fork")) return forks();
    if (!strcmp(way, "wait")) return waits(0);
    if (!strcmp(way, "wait_all")) return waits(__WALL);
    if (!strcmp(way, "unshare")) return unshares();
    if (!strcmp(way, "time_namespace")) return time_namespace();
    if (!strcmp(way, "kill_thread")) return kill_thread();
    if (!strcmp(way, "group")) return group();
    if (!strcmp(way, "process_numbers")) return process_numbers();
    if (!strcmp(way, "debugger")) return debugger();
    if (!strcmp(way, "exec_fails")) return exec_fails();
    if (!strncmp(way, "end_by_", 7)) return ends(way + 7);
    return 2;
}
