/* Executes a program where memory may not be writable and executable: by PR_SET_MDWE (mdwe), by a filter that refuses
   mmap of such memory, as older systemd's MemoryDenyWriteExecute does (filter), by one that refuses every way to make
   code (no_code), by one that kills for memfd_create (kill); or as it is (anything else).
   @alone @flags -O1 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIELD(name) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, name))
#define GO_ON BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)

int main(int count, char **arguments) {
    if (count < 3) return 2;
    struct sock_filter no_code[] = {
        FIELD(nr),
        UNLESS(SYS_memfd_create, 1), REFUSE,
        UNLESS(SYS_mmap, 5),
        FIELD(args[2]),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC),
        UNLESS(PROT_WRITE | PROT_EXEC, 1), REFUSE,
        GO_ON,
        GO_ON,
    };
    struct sock_filter *filter = NULL;
    unsigned short length = 0;
    if (!strcmp(arguments[1], "mdwe")) {
        const int PR_SET_MDWE_ = 65;
        if (prctl(PR_SET_MDWE_, 1, 0, 0, 0) != 0) return 77;
    } else if (!strcmp(arguments[1], "no_code")) {
        filter = no_code, length = sizeof no_code / sizeof *no_code;
    } else if (!strcmp(arguments[1], "filter")) {
        no_code[2] = (struct sock_filter)GO_ON;
        filter = no_code, length = sizeof no_code / sizeof *no_code;
    } else if (!strcmp(arguments[1], "kill")) {
        no_code[2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
        filter = no_code, length = sizeof no_code / sizeof *no_code;
    }
    if (filter) {
        struct sock_fprog program = {length, filter};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 77;
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return 77;
    }
    execvp(arguments[2], arguments + 2);
    perror(arguments[2]);
    return 9;
}
