/* Writes to descriptors whose numbers stand for something else all the time: descriptor_kinds [filter]. Prints "CLASS CALLS BYTES" of its writes
 * but that line's. With `filter` another round comes under a filter of system calls that kills for fstat. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(holds) \
    do { \
        if (!(holds)) { \
            fprintf(stderr, "line %d: %s\n", __LINE__, #holds); \
            exit(1); \
        } \
    } while (0)

enum { FILES, PIPES, SOCKETS, OTHERS };
static const char *const NAMES[] = {"file", "pipe", "socket", "other"};
static unsigned long calls[4], bytes[4];

static void count(int class, unsigned long n) {
    __atomic_add_fetch(&calls[class], 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&bytes[class], n, __ATOMIC_RELAXED);
}

static void put(int class, int fd) {
    static const char text[64];
    unsigned long n = class == OTHERS ? 8 : 1 + class;
    MUST(write(fd, text, n) == (long)n);
    count(class, n);
}

/* An open descriptor of a class. */
static int make(int class, int *other) {
    int ends[2] = {-1, -1};
    *other = -1;
    switch (class) {
    case FILES: return open("file", O_WRONLY | O_CREAT, 0600);
    case PIPES: MUST(pipe(ends) == 0); *other = ends[0]; return ends[1];
    case SOCKETS: MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0); *other = ends[0]; return ends[1];
    default: return eventfd(0, 0);
    }
}

static void gone(int fd, int other) {
    if (fd >= 0) close(fd);
    if (other >= 0) close(other);
}

/* Sent to the same process and received: a number that no call has named. */
static int passed(int fd) {
    int ends[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 'x';
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    MUST(sendmsg(ends[0], &m, 0) == 1);
    close(fd);
    MUST(recvmsg(ends[1], &m, 0) == 1);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    close(ends[0]), close(ends[1]);
    return fd;
}

static void one(int way, int class) {
    int other, fd = make(class, &other), two, spare = -1;
    switch (way) {
    case 0: break;
    case 1: two = dup(fd); close(fd); fd = two; break;
    case 2: two = make((class + 1) % 4, &spare); put((class + 1) % 4, two); MUST(dup2(fd, two) == two); close(fd); fd = two; break;
    case 3: two = fcntl(fd, F_DUPFD_CLOEXEC, 50); close(fd); fd = two; break;
    case 4: put(class, fd); MUST(syscall(SYS_close_range, fd, fd, 0) == 0); two = make((class + 2) % 4, &spare); put((class + 2) % 4, two); close(two); gone(spare, other); return;
    case 5: fd = passed(fd); break;
    case 6: two = make((class + 3) % 4, &spare); put((class + 3) % 4, two); MUST(dup3(fd, two, O_CLOEXEC) == two); close(fd); fd = two; break;
    case 7: gone(fd, other); MUST(dup(5000) < 0); fd = make(class, &other); break;
    }
    put(class, fd), put(class, fd);
    gone(fd, other);
    if (spare >= 0) close(spare);
}

static void *works(void *seed) {
    unsigned state = (unsigned)(unsigned long)seed;
    for (int i = 0; i < 3000; i++) {
        state = state * 1103515245 + 12345;
        one(state >> 16 & 3, state >> 20 & 3);
    }
    return NULL;
}

static int shares_descriptors(void *way) {
    int fd = *(int *)way;
    close(fd);
    _exit(open("file", O_WRONLY) == fd ? 0 : 1);
}

/* A child that has its own memory and the same descriptors. */
static void shared_table(void) {
    static char stack[65536] __attribute__((aligned(16)));
    int other, fd = make(PIPES, &other), status;
    put(PIPES, fd);
    pid_t pid = clone(shares_descriptors, stack + sizeof stack, CLONE_FILES | SIGCHLD, &fd);
    MUST(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    put(FILES, fd);
    gone(fd, other);
}

static void filter(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fstat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

int main(int argc, char **argv) {
    (void)argv;
    int kept[4], others[4];
    for (int class = 0; class < 4; class++) kept[class] = make(class, &others[class]);
    if (argc > 1) {
        /* Not even looked at before. */
        filter();
        for (int class = 0; class < 4; class++) put(class, kept[class]), put(class, kept[class]);
        for (int way = 0; way < 4; way++)
            for (int class = FILES; class <= SOCKETS; class++)
                if (way != 2 || class != SOCKETS) one(way, class);
    } else {
        for (int way = 0; way < 8; way++)
            for (int class = 0; class < 4; class++) one(way, class), put(class, kept[class]);
        pthread_t threads[3];
        for (unsigned long i = 0; i < 3; i++) pthread_create(&threads[i], NULL, works, (void *)(i + 7));
        for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
        shared_table();
        for (int class = 0; class < 4; class++) one(0, class), put(class, kept[class]);
        MUST(unshare(CLONE_FILES) == 0);
        for (int way = 0; way < 8; way++)
            for (int class = 0; class < 4; class++) one(way, class), put(class, kept[class]);
    }
    char line[200];
    int used = 0;
    for (int class = 0; class < 4; class++) used += sprintf(line + used, "%s %lu %lu\n", NAMES[class], calls[class], bytes[class]);
    MUST(write(1, line, used) == used);
    _exit(0);
}
