/* What a process of one thread sees of itself: threads in /proc/self/status and /proc/self/task, numbers of threads and processes in a
 * row, unshare and setns that only a single-threaded process may do. Natively every line but that of the descriptors ends in "right". */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(const char *what, long seen, long right) {
    if (seen == right) printf("%s right\n", what); else printf("%s: %ld\n", what, seen);
    fflush(stdout);
}
static long threads(void) {
    char line[128];
    long n = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file)) sscanf(line, "Threads: %ld", &n);
    if (file) fclose(file);
    return n;
}
static long entries(const char *path) {
    long n = 0;
    DIR *directory = opendir(path);
    while (directory && readdir(directory)) n++;
    if (directory) closedir(directory);
    return n - 2;
}
static void *of_thread(void *result) { *(long *)result = syscall(SYS_gettid); return 0; }
static int in_child(int (*act)(void)) {
    int status;
    pid_t child = fork();
    if (!child) _exit(act() ? errno : 0);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}
static int unshare_vm(void) { return unshare(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD); }
static int unshare_user(void) { return unshare(CLONE_NEWUSER); }
static int unshare_user_pid(void) { return unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS); }
static int set_mount(void) { return setns(open("/proc/self/ns/mnt", O_RDONLY), CLONE_NEWNS); }
static int unshare_then_fork(void) {
    int status = 0;
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID)) return 1;
    if (!fork()) _exit(getpid() == 1 ? 0 : 9);
    wait(&status);
    errno = WEXITSTATUS(status);
    return errno != 0;
}

int main(void) {
    check("threads", threads(), 1);
    check("tasks", entries("/proc/self/task"), 1);
    printf("descriptors %ld\n", entries("/proc/self/fd"));
    check("gettid", syscall(SYS_gettid) - getpid(), 0);
    /* After some time, when whoever works behind the scenes has begun. */
    usleep(1200000);
    check("threads later", threads(), 1);
    check("tasks later", entries("/proc/self/task"), 1);
    check("no child to wait for", waitpid(-1, 0, __WALL) < 0 ? errno : 0, ECHILD);
    check("unshare of memory", in_child(unshare_vm), 0);
    check("unshare of users", in_child(unshare_user), 0);
    check("unshare of all", in_child(unshare_user_pid), 0);
    check("unshare, then fork", in_child(unshare_then_fork), 0);
    check("setns", in_child(set_mount), 0);
    pthread_t thread;
    long number = 0;
    pthread_create(&thread, 0, of_thread, &number);
    pthread_join(thread, 0);
    check("threads after one", threads(), 1);
    return 0;
}
