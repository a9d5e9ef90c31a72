/* Gives up rights by one call of the kernel (credentials CALL), says "ready", waits for a line on standard input, says "done". As root.
 * A test looks at /proc meanwhile. "CALL+threads": with three more threads, the call made by one of them, for itself alone. */
#include "surroundings.h"
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/fsuid.h>

static const char *how;
static volatile int given_up;

static int capset_effective(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data)) return -1;
    data[0].effective = data[1].effective = 0;
    return (int)syscall(SYS_capset, &header, data);
}

static int capset_all(unsigned effective, unsigned permitted, unsigned inheritable) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{effective, permitted, inheritable}, {0, 0, 0}};
    return (int)syscall(SYS_capset, &header, data);
}

/* The raw calls concern the calling thread alone; those of libc all threads. */
static int give_up(const char *call) {
    gid_t groups[] = {1234, 1235};
    if (!strcmp(call, "setuid")) return setuid(12345);
    if (!strcmp(call, "setgid")) return setgid(12345);
    if (!strcmp(call, "setreuid")) return setreuid(12345, 12345);
    if (!strcmp(call, "setregid")) return setregid(12345, 12345);
    if (!strcmp(call, "setresuid")) return setresuid(12345, 12345, 12345);
    if (!strcmp(call, "setresgid")) return setresgid(12345, 12345, 12345);
    if (!strcmp(call, "seteuid")) return seteuid(12345);
    if (!strcmp(call, "setegid")) return setegid(12345);
    if (!strcmp(call, "setgroups")) return setgroups(2, groups);
    if (!strcmp(call, "no_groups")) return setgroups(0, 0);
    if (!strcmp(call, "setfsuid")) return setfsuid(12345) != 0;
    if (!strcmp(call, "setfsgid")) return setfsgid(12345) != 0;
    if (!strcmp(call, "raw_setuid")) return (int)syscall(SYS_setuid, 12345);
    if (!strcmp(call, "raw_setgid")) return (int)syscall(SYS_setgid, 12345);
    if (!strcmp(call, "raw_setresuid")) return (int)syscall(SYS_setresuid, 12345, 12345, 12345);
    if (!strcmp(call, "raw_setresgid")) return (int)syscall(SYS_setresgid, 12345, 12345, 12345);
    if (!strcmp(call, "raw_setreuid")) return (int)syscall(SYS_setreuid, 12345, 12345);
    if (!strcmp(call, "raw_setregid")) return (int)syscall(SYS_setregid, 12345, 12345);
    if (!strcmp(call, "raw_setgroups")) return (int)syscall(SYS_setgroups, 2, groups);
    if (!strcmp(call, "raw_setfsuid")) return syscall(SYS_setfsuid, 12345) != 0;
    if (!strcmp(call, "raw_setfsgid")) return syscall(SYS_setfsgid, 12345) != 0;
    if (!strcmp(call, "capset_none")) return capset_all(0, 0, 0);
    if (!strcmp(call, "capset_effective")) return capset_effective();
    if (!strcmp(call, "capset_one")) return capset_all(1 << CAP_NET_BIND_SERVICE, 1 << CAP_NET_BIND_SERVICE, 0);
    if (!strcmp(call, "capset_inheritable")) return capset_all(1 << CAP_CHOWN, 1 << CAP_CHOWN, 1 << CAP_CHOWN);
    if (!strcmp(call, "ambient")) return capset_all(1, 1, 1) || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0);
    if (!strcmp(call, "capbset_drop_all")) {
        for (int i = 0; i < 64; i++) prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
        return prctl(PR_CAPBSET_READ, 0, 0, 0, 0);
    }
    if (!strcmp(call, "capbset_drop")) return prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0);
    if (!strcmp(call, "securebits")) return prctl(PR_SET_SECUREBITS, 0x2f, 0, 0, 0) || setresuid(12345, 12345, 12345) || capset_all(0, 0, 0);
    if (!strcmp(call, "keepcaps")) return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setresuid(12345, 12345, 12345) || capset_all(2, 2, 0);
    // The kernel reads the low half of the option alone.
    if (!strcmp(call, "wide_no_new_privs")) return syscall(SYS_prctl, 1ul << 32 | PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!strcmp(call, "no_new_privs")) return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!strcmp(call, "filter")) return surround("deny=124:errno-1");
    if (!strcmp(call, "filter_tsync")) return surround("tsync") || surround("deny=124:errno-1");
    if (!strcmp(call, "two_filters")) return surround("deny=124:errno-1") || surround("deny=121:errno-1");
    if (!strcmp(call, "all"))
        return surround("gid=12345") || give_up("capbset_drop_all") || surround("uid=12345") || surround("no_new_privs") ||
               surround("deny=124:errno-1");
    return -2;
}

static void *second(void *is_the_one) {
    if (is_the_one && give_up(how)) _exit(2);
    given_up++;
    for (;;) pause();
    return 0;
}

int main(int argc, char **argv) {
    char call[64], line[16];
    snprintf(call, sizeof call, "%s", argc > 1 ? argv[1] : "setuid");
    char *plus = strchr(call, '+');
    if (plus) *plus = 0;
    how = call;
    if (plus) {
        pthread_t thread;
        for (long i = 0; i < 3; i++) {
            if (pthread_create(&thread, 0, second, (void *)(long)(i == 0))) return 2;
            while (given_up <= i) usleep(1000);
        }
    } else {
        int failed = give_up(call);
        if (failed) { printf("%s: %d %s\n", call, failed, strerror(errno)); return 2; }
    }
    printf("ready\n");
    fflush(stdout);
    char *got = fgets(line, sizeof line, stdin);
    (void)got;
    for (volatile long i = 0; i < 1000000; i++) {}
    printf("done\n");
    return 0;
}
