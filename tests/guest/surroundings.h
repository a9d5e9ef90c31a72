/* What a launcher may put around a program, one word each: seccomp filters, resource limits, credentials.
 *   allow=0,1,60:kill_process   every other call is answered so
 *   deny=310,311:errno-1        these calls are answered so
 *   tsync                       the next filter is for all threads
 *   as=400000000                RLIMIT_AS; likewise cpu fsize data stack core rss nproc nofile memlock locks sigpending
 *                               msgqueue nice rtprio rttime
 *   uid=12345 gid=12345         and no other groups
 *   no_new_privs, mdwe, wx      wx: as systemd's MemoryDenyWriteExecute, a filter on mmap, mprotect and shmat */
#ifndef SURROUNDINGS_H
#define SURROUNDINGS_H
#include "filter.h"
#include <grp.h>
#include <sys/mman.h>
#include <sys/resource.h>

static const char *const limit_names[] = {"cpu",     "fsize",  "data",  "stack",      "core",     "rss",  "nproc",  "nofile",
                                          "memlock", "as",     "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};

static inline int refuse_write_and_execute(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROT_WRITE | PROT_EXEC, 7, 8),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pkey_mprotect, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 3, 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_shmat, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0100000 /* SHM_EXEC */, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static inline int surround_by_filter(const char *list, unsigned listed, unsigned others, int is_allow, unsigned flags) {
    struct filter filter = {.listed = listed, .others = others, .flags = flags};
    const char *action = strchr(list, ':');
    filter_add_list(&filter, list);
    unsigned wanted = filter_action(action ? action + 1 : "errno-1");
    if (is_allow) filter.others = wanted; else filter.listed = wanted;
    return filter_install(&filter);
}

/* 0, or the word could not be done or is not known. */
static inline int surround(const char *word) {
    static unsigned flags;
    const char *value = strchr(word, '=');
    size_t length = value ? (size_t)(value++ - word) : strlen(word);
    if (!strcmp(word, "tsync")) { flags = SECCOMP_FILTER_FLAG_TSYNC; return 0; }
    if (!strcmp(word, "no_new_privs")) return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!strcmp(word, "mdwe")) return prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0);
    if (!strcmp(word, "wx")) return refuse_write_and_execute();
    if (!value) return -1;
    if (!strncmp(word, "allow=", 6)) return surround_by_filter(value, SECCOMP_RET_ALLOW, 0, 1, flags);
    if (!strncmp(word, "deny=", 5)) return surround_by_filter(value, 0, SECCOMP_RET_ALLOW, 0, flags);
    if (!strncmp(word, "gid=", 4)) return setgroups(0, 0) || setresgid(atoi(value), atoi(value), atoi(value));
    if (!strncmp(word, "uid=", 4)) return setresuid(atoi(value), atoi(value), atoi(value));
    for (int i = 0; i < 16; i++)
        if (strlen(limit_names[i]) == length && !strncmp(word, limit_names[i], length)) {
            rlim_t number = strtoul(value, 0, 10);
            struct rlimit limit = {number, number};
            return setrlimit((__rlimit_resource_t)i, &limit);
        }
    return -1;
}

/* All words of a text, split at spaces; the program's own way to put itself under a filter. */
static inline void surround_all(const char *words) {
    char copy[8192];
    snprintf(copy, sizeof copy, "%s", words ? words : "");
    char *rest = copy, *word;
    while ((word = strsep(&rest, " ")))
        if (*word && surround(word)) { dprintf(2, "%.40s: %s\n", word, strerror(errno)); _exit(99); }
}

#endif
