/* Every hooked function, on every class of descriptor, in a fixed order and without stdio. The expected
   counts stand in tests/tests/shim_counts.rs; the markers are for the comparison with strace. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef __GLIBC__ /* musl 1.2.3 has neither */
#define preadv2(fd, vector, count, offset, flags) preadv(fd, vector, count, offset)
#define pwritev2(fd, vector, count, offset, flags) pwritev(fd, vector, count, offset)
#endif

static void check(int holds, int line) {
    if (!holds) {
        /* The line number as the exit code tells where. */
        _exit(100 + line % 100);
    }
}
#define CHECK(condition) check(condition, __LINE__)

int main(int argc, char **argv) {
    if (argc != 2 || chdir(argv[1]) != 0) return 2;
    access("/marker/begin", F_OK);
    char buffer[100];
    memset(buffer, 'x', sizeof buffer);
    struct iovec two[2] = {{buffer, 10}, {buffer + 10, 20}};

    /* Files: 5 opens of which 1 fails, 4 closes. */
    int file = open("calls.data", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0);
    CHECK(write(file, buffer, 100) == 100);
    CHECK(pwrite(file, buffer, 50, 100) == 50);
    CHECK(writev(file, two, 2) == 30);
    CHECK(pwritev(file, two, 2, 200) == 30);
    CHECK(pwritev2(file, two, 2, 300, 0) == 30);
    CHECK(lseek(file, 0, SEEK_SET) == 0);
    CHECK(read(file, buffer, 40) == 40);
    CHECK(pread(file, buffer, 30, 5) == 30);
    CHECK(readv(file, two, 2) == 30);
    CHECK(preadv(file, two, 2, 0) == 30);
    CHECK(preadv2(file, two, 2, 0, 0) == 30);
    errno = 1234;
    CHECK(read(file, buffer, 1) == 1 && errno == 1234);
    int copy = openat(AT_FDCWD, "calls.copy", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(copy >= 0);
    loff_t from = 0;
    CHECK(copy_file_range(file, &from, copy, NULL, 60, 0) == 60);
    int made = creat("calls.made", 0600);
    CHECK(made >= 0);
    CHECK(open("calls.missing", O_RDONLY) == -1 && errno == ENOENT);
    int null = open("/dev/null", O_RDWR);
    CHECK(null >= 0 && write(null, buffer, 7) == 7 && read(null, buffer, 7) == 0);
    CHECK(read(made, buffer, 1) == -1 && errno == EBADF); /* open for writing only: an error on a file */

    /* Pipes. */
    int ends[2];
    CHECK(pipe(ends) == 0);
    CHECK(write(ends[1], buffer, 12) == 12);
    CHECK(read(ends[0], buffer, 100) == 12);
    from = 0;
    CHECK(splice(file, &from, ends[1], NULL, 25, 0) == 25);
    CHECK(read(ends[0], buffer, 100) == 25);

    /* Sockets. */
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(send(pair[0], buffer, 11, 0) == 11);
    CHECK(sendto(pair[0], buffer, 12, 0, NULL, 0) == 12);
    struct msghdr message = {.msg_iov = two, .msg_iovlen = 2};
    CHECK(sendmsg(pair[0], &message, 0) == 30);
    struct mmsghdr messages[3] = {{message, 0}, {message, 0}, {message, 0}};
    CHECK(sendmmsg(pair[0], messages, 2, 0) == 2);
    CHECK(write(pair[0], buffer, 5) == 5);
    CHECK(recv(pair[1], buffer, 11, 0) == 11);
    CHECK(recvfrom(pair[1], buffer, 12, 0, NULL, NULL) == 12);
    CHECK(recvmsg(pair[1], &message, 0) == 30);
    CHECK(recvmmsg(pair[1], messages, 2, 0, NULL) == 2);
    CHECK(read(pair[1], buffer, 100) == 5);
    CHECK(recv(pair[1], buffer, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    off_t start = 0;
    CHECK(sendfile(pair[0], file, &start, 33) == 33);
    CHECK(read(pair[1], buffer, 100) == 33);

    /* Duplicated descriptors keep their class; a number that is used again has its new one. */
    int again = dup(ends[0]);
    CHECK(write(ends[1], buffer, 3) == 3 && read(again, buffer, 3) == 3);
    CHECK(dup2(pair[1], again) == again);
    CHECK(write(pair[0], buffer, 4) == 4 && read(again, buffer, 4) == 4);

    /* Others. */
    int event = eventfd(0, 0);
    unsigned long long one = 1;
    CHECK(write(event, &one, 8) == 8 && read(event, &one, 8) == 8);
    int epoll = epoll_create1(0);
    CHECK(read(999, buffer, 1) == -1 && errno == EBADF);
    CHECK(close(999) == -1 && errno == EBADF);

    int all[] = {file, copy, made, null, ends[0], ends[1], pair[0], pair[1], again, event, epoll};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) CHECK(close(all[i]) == 0);
    access("/marker/end", F_OK);
    return 0;
}
