/* SECCOMP_RET_USER_NOTIF: a supervisor answers a worker's getppid with 4242 and lets its openat go on; "refuse": openat gets EACCES.
 * "thread": the supervisor is a thread of the same process. "all": whatever is not read, write, exit is asked for and let go on. */
#include "filter.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

static const char *mode;

static int install(void) {
    struct filter filter = {.listed = SECCOMP_RET_USER_NOTIF, .others = SECCOMP_RET_ALLOW, .flags = SECCOMP_FILTER_FLAG_NEW_LISTENER};
    if (!strcmp(mode, "all")) {
        filter.listed = SECCOMP_RET_ALLOW;
        filter.others = SECCOMP_RET_USER_NOTIF;
        filter_add_list(&filter, "0,1,15,46,60,231"); /* read write sigreturn sendmsg exit */
    } else filter_add_list(&filter, "110,257");       /* getppid openat */
    return filter_install(&filter);
}

static void *supervise(void *listener) {
    int fd = (int)(long)listener;
    struct seccomp_notif asked;
    for (;;) {
        memset(&asked, 0, sizeof asked);
        if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &asked)) { if (errno == EINTR) continue; break; }
        struct seccomp_notif_resp answer = {.id = asked.id};
        if (asked.data.nr == SYS_getppid) answer.val = 4242;
        else if (!strcmp(mode, "refuse")) answer.error = -EACCES;
        else answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        if (ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &answer) && errno != ENOENT) break;
    }
    return 0;
}

static int work(void) {
    int sum = 0;
    for (volatile long i = 0; i < 20000000; i++) {}
    for (int i = 0; i < 20; i++) sum += (int)syscall(SYS_getppid);
    int fd = open("/dev/null", O_RDONLY);
    dprintf(1, "sum %d, %s\n", sum, fd < 0 ? strerror(errno) : "opened");
    return 9;
}

static void *worker(void *listener) {
    *(volatile int *)listener = install();
    while (*(volatile int *)listener != -2) {}
    return (void *)(long)work();
}

int main(int argc, char **argv) {
    mode = argc > 1 ? argv[1] : "plain";
    if (!strcmp(mode, "thread")) {
        volatile int listener = -1;
        pthread_t of_worker, of_supervisor;
        void *result;
        pthread_create(&of_worker, 0, worker, (void *)&listener);
        while (listener == -1) {}
        pthread_create(&of_supervisor, 0, supervise, (void *)(long)listener);
        listener = -2;
        pthread_join(of_worker, &result);
        return (int)(long)result;
    }
    int ends[2], status;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) return 2;
    pid_t child = fork();
    if (!child) {
        int listener = install();
        if (listener < 0) _exit(3);
        struct iovec one = {"x", 1};
        union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr header; } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
        memcpy(CMSG_DATA(&control.header), &listener, sizeof listener);
        struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes};
        if (sendmsg(ends[1], &message, 0) != 1) _exit(4);
        _exit(work());
    }
    char byte;
    int listener = -1;
    struct iovec one = {&byte, 1};
    union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr header; } control;
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes};
    if (recvmsg(ends[0], &message, 0) != 1) return 2;
    memcpy(&listener, CMSG_DATA(&control.header), sizeof listener);
    pthread_t of_supervisor;
    pthread_create(&of_supervisor, 0, supervise, (void *)(long)listener);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
