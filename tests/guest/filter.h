/* Builds seccomp filters out of lists of call numbers, as sandboxes do. */
#ifndef FILTER_H
#define FILTER_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FILTER_CALLS = 500 };

struct filter {
    int calls[FILTER_CALLS];
    int count;
    unsigned listed; /* what becomes of a call in the list */
    unsigned others; /* and of every other one */
    unsigned flags;
};

static inline void filter_add(struct filter *filter, int call) {
    if (filter->count < FILTER_CALLS) filter->calls[filter->count++] = call;
}

/* "kill_thread", "kill_process", "trap", "allow", "log", or "errno-38". */
static inline unsigned filter_action(const char *word) {
    if (!strcmp(word, "kill_thread")) return SECCOMP_RET_KILL_THREAD;
    if (!strcmp(word, "kill_process")) return SECCOMP_RET_KILL_PROCESS;
    if (!strcmp(word, "trap")) return SECCOMP_RET_TRAP;
    if (!strcmp(word, "log")) return SECCOMP_RET_LOG;
    if (!strcmp(word, "trace")) return SECCOMP_RET_TRACE;
    if (!strncmp(word, "errno-", 6)) return SECCOMP_RET_ERRNO | (atoi(word + 6) & SECCOMP_RET_DATA);
    return SECCOMP_RET_ALLOW;
}

/* "1,2,60", up to a colon. */
static inline void filter_add_list(struct filter *filter, const char *list) {
    while (*list && *list != ':') {
        char *end;
        long call = strtol(list, &end, 10);
        if (end == list) break;
        filter_add(filter, (int)call);
        list = *end == ',' ? end + 1 : end;
    }
}

/* The kernel's answer; the file descriptor with SECCOMP_FILTER_FLAG_NEW_LISTENER. Stack memory alone. */
static inline int filter_install(const struct filter *filter) {
    struct sock_filter code[2 * FILTER_CALLS + 2];
    int n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < filter->count; i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)filter->calls[i], 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, filter->listed);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, filter->others);
    struct sock_fprog program = {(unsigned short)n, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, filter->flags, &program);
}

#endif
