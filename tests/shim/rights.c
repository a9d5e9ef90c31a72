/* Gives up rights in one way, says so, and waits until its standard input ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int set_capabilities(unsigned low) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, getpid()};
    struct __user_cap_data_struct data[2] = {{low, low, 0}, {0, 0, 0}};
    return syscall(SYS_capset, &header, data);
}

static int install(struct sock_filter *program, unsigned short length) {
    struct sock_fprog description = {length, program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -1;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &description);
}

/* Everything but ptrace is allowed. */
static int mild_filter(void) {
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return install(program, 4);
}

/* No record can be written any more. */
static int filter_of_writes(void) {
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwrite64, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return install(program, 4);
}

static void *raw_setresuid(void *unused) {
    (void)unused;
    return (void *)syscall(SYS_setresuid, 1001, 1001, 1001);
}

static int by_a_thread(void) {
    pthread_t thread;
    void *result;
    if (pthread_create(&thread, NULL, raw_setresuid, NULL)) return -1;
    pthread_join(thread, &result);
    return (int)(long)result;
}

static int give_up(const char *way) {
    gid_t groups[2] = {1001, 1002};
    if (!strcmp(way, "nothing")) return 0;
    if (!strcmp(way, "setuid")) return setuid(1001);
    if (!strcmp(way, "setgid")) return setgid(1001);
    if (!strcmp(way, "seteuid")) return seteuid(1001);
    if (!strcmp(way, "seteuid_and_back")) return seteuid(1001) || seteuid(0);
    if (!strcmp(way, "setegid")) return setegid(1001);
    if (!strcmp(way, "setreuid")) return setreuid(1001, 1002);
    if (!strcmp(way, "setregid")) return setregid(1001, 1002);
    if (!strcmp(way, "setresuid")) return setresuid(1001, 1002, 1003);
    if (!strcmp(way, "setresgid")) return setresgid(1001, 1002, 1003);
    if (!strcmp(way, "setgroups")) return setgroups(2, groups);
    if (!strcmp(way, "initgroups")) return initgroups("nobody", 1003);
    if (!strcmp(way, "setfsuid")) return setfsuid(1001), setfsuid(-1) != 1001;
    if (!strcmp(way, "setfsgid")) return setfsgid(1001), setfsgid(-1) != 1001;
    if (!strcmp(way, "everything"))
        return setgroups(0, NULL) || setresgid(1001, 1001, 1001) || setresuid(1001, 1001, 1001);
    if (!strcmp(way, "capset")) return set_capabilities(1u << CAP_CHOWN);
    if (!strcmp(way, "capset_none")) return set_capabilities(0);
    if (!strcmp(way, "bounding_set")) return prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0);
    if (!strcmp(way, "no_new_privs")) return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!strcmp(way, "keep_capabilities"))
        return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setresuid(1001, 1001, 1001);
    if (!strcmp(way, "secure_bits"))
        return prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) || setresuid(1001, 1001, 1001);
    if (!strcmp(way, "user_namespace")) return unshare(CLONE_NEWUSER);
    if (!strcmp(way, "namespaces")) return unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS);
    if (!strcmp(way, "mild_filter")) return mild_filter();
    if (!strcmp(way, "filter_of_writes")) return filter_of_writes();
    if (!strcmp(way, "by_a_thread")) return by_a_thread();
    return -1;
}

int main(int argc, char **argv) {
    char byte;
    if (argc != 2 || give_up(argv[1])) return 2;
    if (write(1, "given up\n", 9) != 9) return 3;
    while (read(0, &byte, 1) > 0) {}
    return 0;
}
