/* Children whose records cannot be made in the usual way: hidden_children KIND. Each prints, exits 5 and is waited for; main prints its status.
 * KIND: nofile (RLIMIT_NOFILE 0 in the child), uid (drops to 12345), chroot, tmpfs (a mount namespace hides DIRECTORY), fsize (RLIMIT_FSIZE 0),
 * killed (SIGKILL at once), kills-itself, vfork, spawn, spawn-clean (without an environment), shared (clone with CLONE_VM), filter (may only write and exit), clean (executes without an
 * environment), static (executes the program given), user (in a user namespace), strict (SECCOMP_MODE_STRICT), deep (a grandchild, orphaned), clone3 */
#define _GNU_SOURCE
#include "surroundings.h"
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>

static void say(const char *text) {
    long n = write(1, text, strlen(text));
    (void)n;
}
static void spin(void) { for (volatile long i = 0; i < 2000000; i++) {} }
static int shared(void *unused) { (void)unused; say("child\n"); spin(); syscall(SYS_exit, 5); return 5; }

static void live(const char *kind, char **more) {
    if (!strcmp(kind, "nofile") && surround("nofile=0")) _exit(90);
    if (!strcmp(kind, "fsize") && surround("fsize=0")) _exit(90);
    if (!strcmp(kind, "uid") && (surround("gid=12345") || surround("uid=12345"))) _exit(90);
    if (!strcmp(kind, "chroot") && (chroot("/proc/self/fdinfo") || chdir("/"))) _exit(90);
    if (!strcmp(kind, "user") && unshare(CLONE_NEWUSER)) _exit(90);
    if (!strcmp(kind, "tmpfs") &&
        (unshare(CLONE_NEWNS) || mount("none", "/", 0, MS_REC | MS_PRIVATE, 0) || mount("none", more[0], "tmpfs", 0, 0))) _exit(90);
    if (!strcmp(kind, "filter") && surround("allow=1,60,231:kill_process")) _exit(90);
    if (!strcmp(kind, "strict") && prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) _exit(90);
    if (!strcmp(kind, "killed")) for (;;) pause();
    say("child\n");
    spin();
    if (!strcmp(kind, "kills-itself")) kill(getpid(), SIGKILL);
    if (!strcmp(kind, "clean")) { char *none[] = {0}; execle("/bin/sh", "sh", "-c", "echo clean; exit 5", (char *)0, none); }
    if (!strcmp(kind, "static")) execv(more[0], more);
    if (!strcmp(kind, "uid")) { /* And what it executes. */ execl("/bin/sh", "sh", "-c", "echo shell; exit 5", (char *)0); }
    if (!strcmp(kind, "strict")) syscall(SYS_exit, 5);
    _exit(5);
}

int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "nofile";
    int status = 0, flags = 0;
    pid_t child = 0;
    if (!strcmp(kind, "vfork")) {
        child = vfork();
        if (!child) { say("child\n"); _exit(5); }
    } else if (!strncmp(kind, "spawn", 5)) {
        extern char **environ;
        char *words[] = {"sh", "-c", "echo spawned; exit 5", 0}, *none[] = {0};
        if (posix_spawn(&child, "/bin/sh", 0, 0, words, kind[5] ? none : environ)) return 2;
    } else if (!strcmp(kind, "shared")) {
        static char stack[65536] __attribute__((aligned(16)));
        child = clone(shared, stack + sizeof stack, CLONE_VM | SIGCHLD, 0);
    } else if (!strcmp(kind, "clone3")) {
        struct clone_args arguments = {.exit_signal = SIGCHLD};
        child = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
        if (!child) live("nofile", 0);
    } else if (!strcmp(kind, "deep")) {
        int ends[2];
        char c;
        if (pipe(ends)) return 2;
        child = fork();
        if (!child) {
            if (!fork()) { close(ends[0]); live("uid", argv + 2); }
            _exit(5);
        }
        close(ends[1]);
        long n = read(ends[0], &c, 1);
        (void)n;
    } else {
        child = fork();
        if (!child) live(kind, argv + 2);
        if (!strcmp(kind, "killed")) kill(child, SIGKILL);
    }
    waitpid(child, &status, flags);
    dprintf(1, "status %x\n", status & 0xff7f);
    return 0;
}
