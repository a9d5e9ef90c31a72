/* A debugger among the counted programs: debugger WHAT looks at its child by ptrace and prints what it sees.
 * rip (at a system-call stop: "rip right"), gs (GS base: "gs 0"), breakpoint (INT3 written to a function: "signal 5, rip at f"), hardware (DR0 on a
 * function: "signal 5"), events (fork and clone events of a child that forks: no clone event), memory (PEEK and POKE of a variable: "value 7"),
 * step (20 single steps stay in the program: "steps right"), signal-regs (RIP at a signal-delivery stop: "rip right"), syscalls (calls that a child
 * makes between two markers: "2 calls") */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

extern char after_getsid[], loop_begin[], loop_end[];
static volatile int variable = 3;
__attribute__((noinline)) static void f(void) { __asm__ volatile("nop"); }
__attribute__((noinline, noclone)) static void marker(void) {
    long result;
    __asm__ volatile("syscall\n.globl after_getsid\nafter_getsid:" : "=a"(result) : "a"(SYS_getsid), "D"(0) : "rcx", "r11", "memory");
}

static void child(const char *what) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    if (!strcmp(what, "memory")) _exit(variable);
    if (!strcmp(what, "breakpoint") || !strcmp(what, "hardware")) { f(); _exit(66); }
    if (!strcmp(what, "step") || !strcmp(what, "signal-regs")) {
        if (*what == 's' && what[1] == 'i') alarm(1);
        __asm__ volatile(".globl loop_begin\nloop_begin: mov $1, %%ecx\n1: inc %%ecx\njnz 1b\njmp loop_begin\n.globl loop_end\nloop_end:" ::: "rcx", "cc");
    }
    marker();
    if (!strcmp(what, "syscalls")) {
        syscall(SYS_getppid);
        for (volatile long i = 0; i < 100000; i++) {}
        syscall(SYS_getuid);
        marker();
    }
    _exit(0);
}

static void events(void) {
    int ends[2], status;
    char c = 0;
    if (pipe(ends)) exit(2);
    pid_t first = fork(), who;
    if (!first) {
        long n = read(ends[0], &c, 1);
        (void)n;
        pid_t second = fork();
        if (!second) _exit(66);
        waitpid(second, &status, 0);
        _exit(77);
    }
    ptrace(PTRACE_SEIZE, first, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEVFORK);
    long n = write(ends[1], &c, 1);
    (void)n;
    int forks = 0, clones = 0, exits = 0;
    while ((who = waitpid(-1, &status, __WALL)) > 0) {
        if (WIFEXITED(status) || WIFSIGNALED(status)) { exits += WEXITSTATUS(status); continue; }
        forks += status >> 16 == PTRACE_EVENT_FORK;
        clones += status >> 16 == PTRACE_EVENT_CLONE || status >> 16 == PTRACE_EVENT_VFORK;
        ptrace(PTRACE_CONT, who, 0, status >> 16 ? 0 : WSTOPSIG(status));
    }
    printf("forks %d clones %d exits %d\n", forks, clones, exits);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "rip";
    if (!strcmp(what, "events")) { events(); return 0; }
    struct user_regs_struct registers = {0};
    int status;
    pid_t pid = fork();
    if (!pid) child(what);
    waitpid(pid, &status, 0);
    if (!strcmp(what, "gs")) {
        unsigned long gs = 1;
        ptrace(30 /* PTRACE_ARCH_PRCTL */, pid, &gs, ARCH_GET_GS);
        puts(gs ? "gs of somebody else" : "gs 0");
    }
    if (!strcmp(what, "rip") || !strcmp(what, "syscalls")) {
        int calls = 0, markers = 0, wanted = *what == 'r' ? 1 : 3;
        while (markers < wanted) {
            ptrace(PTRACE_SYSCALL, pid, 0, 0);
            waitpid(pid, &status, 0);
            if (!WIFSTOPPED(status)) { puts("ended"); return 3; }
            ptrace(PTRACE_GETREGS, pid, 0, &registers);
            markers += registers.orig_rax == SYS_getsid;
            calls += markers == 2 && registers.orig_rax != SYS_getsid;
        }
        if (wanted == 1) puts(registers.rip == (unsigned long)after_getsid ? "rip right" : "rip elsewhere");
        else printf("%d calls\n", calls / 2);
    }
    if (!strcmp(what, "breakpoint")) {
        long word = ptrace(PTRACE_PEEKTEXT, pid, f, 0);
        ptrace(PTRACE_POKETEXT, pid, f, (word & ~0xffL) | 0xcc);
        ptrace(PTRACE_CONT, pid, 0, 0);
        waitpid(pid, &status, 0);
        if (WIFEXITED(status)) printf("exit %d\n", WEXITSTATUS(status));
        else {
            ptrace(PTRACE_GETREGS, pid, 0, &registers);
            printf("signal %d, rip %s\n", WSTOPSIG(status), registers.rip == (unsigned long)f + 1 ? "at f" : "elsewhere");
        }
    }
    if (!strcmp(what, "hardware")) {
        errno = 0;
        ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), f);
        ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 1L);
        ptrace(PTRACE_CONT, pid, 0, 0);
        waitpid(pid, &status, 0);
        if (WIFEXITED(status)) printf("exit %d\n", WEXITSTATUS(status));
        else printf("signal %d\n", WSTOPSIG(status));
    }
    if (!strcmp(what, "memory")) {
        long word = ptrace(PTRACE_PEEKDATA, pid, &variable, 0);
        ptrace(PTRACE_POKEDATA, pid, &variable, (word & ~0xffffffffL) | ((word & 0xff) + 4));
        ptrace(PTRACE_CONT, pid, 0, 0);
        waitpid(pid, &status, 0);
        printf("value %d\n", WEXITSTATUS(status));
    }
    if (!strcmp(what, "step") || !strcmp(what, "signal-regs")) {
        int inside = 0;
        if (what[1] == 't') {
            ptrace(PTRACE_CONT, pid, 0, 0);
            usleep(200000);
            kill(pid, SIGSTOP);
            waitpid(pid, &status, 0);
            for (int i = 0; i < 20; i++) {
                ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
                waitpid(pid, &status, 0);
                ptrace(PTRACE_GETREGS, pid, 0, &registers);
                inside += registers.rip >= (unsigned long)loop_begin && registers.rip < (unsigned long)loop_end;
            }
            puts(inside == 20 ? "steps right" : "steps elsewhere");
        } else {
            ptrace(PTRACE_CONT, pid, 0, 0);
            waitpid(pid, &status, 0);
            ptrace(PTRACE_GETREGS, pid, 0, &registers);
            inside = registers.rip >= (unsigned long)loop_begin && registers.rip < (unsigned long)loop_end;
            printf("signal %d, rip %s\n", WSTOPSIG(status), inside ? "right" : "elsewhere");
        }
    }
    kill(pid, SIGKILL);
    return 0;
}
