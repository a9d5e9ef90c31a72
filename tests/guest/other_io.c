/* Calls that move bytes without read and write: other_io MODE DIRECTORY. Prints the mode and the bytes. */
#define _GNU_SOURCE
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SIZE = 1000000 };
static char bytes[SIZE];

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const char *mode = argv[1];
    char path[4096];
    snprintf(path, sizeof path, "%s/in", argv[2]);
    int in = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (ftruncate(in, SIZE)) return 2;
    snprintf(path, sizeof path, "%s/out", argv[2]);
    int out = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    int ends[2];
    if (in < 0 || out < 0 || pipe(ends)) return 2;
    long total = 0, n;
    if (!strcmp(mode, "sendfile")) while ((n = sendfile(out, in, 0, 1 << 18)) > 0) total += n;
    if (!strcmp(mode, "copy_file_range")) while ((n = copy_file_range(in, 0, out, 0, 1 << 18, 0)) > 0) total += n;
    if (!strcmp(mode, "splice"))
        while ((n = splice(in, 0, ends[1], 0, 65536, 0)) > 0) total += splice(ends[0], 0, out, 0, n, 0);
    if (!strcmp(mode, "tee")) {
        int others[2];
        if (pipe(others)) return 2;
        for (int i = 0; i < 10; i++) {
            n = write(ends[1], bytes, 4000);
            total += tee(ends[0], others[1], n, 0);
            n = read(ends[0], bytes, 4000) + read(others[0], bytes, 4000);
        }
    }
    if (!strcmp(mode, "vmsplice"))
        for (int i = 0; i < 20; i++) {
            struct iovec v = {bytes, 50000};
            n = vmsplice(ends[1], &v, 1, 0);
            total += splice(ends[0], 0, out, 0, n, 0);
        }
    if (!strcmp(mode, "vectors")) {
        struct iovec v[2] = {{bytes, SIZE / 2}, {bytes + SIZE / 2, SIZE / 2}};
        total += readv(in, v, 2);
        total += preadv(in, v, 2, 0) + preadv2(in, v, 2, 0, 0);
        total += pwritev2(out, v, 2, 0, 0) + pwritev(out, v, 2, 0) + writev(out, v, 2);
    }
    if (!strcmp(mode, "mmap")) {
        char *from = mmap(0, SIZE, PROT_READ, MAP_SHARED, in, 0);
        if (ftruncate(out, SIZE)) return 2;
        char *to = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, out, 0);
        memcpy(to, from, SIZE);
        total = SIZE;
    }
    if (!strcmp(mode, "posixaio")) {
        struct aiocb a = {.aio_fildes = in, .aio_buf = bytes, .aio_nbytes = SIZE};
        aio_read(&a);
        while (aio_error(&a) == EINPROGRESS) usleep(1000);
        total = aio_return(&a);
    }
    if (!strncmp(mode, "libaio", 6)) {
        aio_context_t context = 0;
        if (syscall(SYS_io_setup, 8, &context)) return 2;
        int is_write = !strcmp(mode, "libaio-write");
        for (int i = 0; i < 4; i++) {
            struct iovec v = {bytes, SIZE / 4};
            struct iocb c = {.aio_fildes = is_write ? out : in, .aio_buf = (unsigned long)bytes, .aio_nbytes = SIZE / 4, .aio_offset = i * SIZE / 4};
            c.aio_lio_opcode = is_write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
            if (!strcmp(mode, "libaio-vectors")) { c.aio_lio_opcode = IOCB_CMD_PREADV; c.aio_buf = (unsigned long)&v; c.aio_nbytes = 1; }
            struct iocb *list[] = {&c};
            syscall(SYS_io_submit, context, 1, list);
            struct io_event event;
            syscall(SYS_io_getevents, context, 1, 1, &event, 0);
            total += event.res;
        }
    }
    if (!strcmp(mode, "messages")) {
        int sockets[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets)) return 2;
        for (int i = 0; i < 50; i++) {
            struct iovec v[2] = {{bytes, 5000}, {bytes, 5000}};
            struct mmsghdr h[2];
            memset(h, 0, sizeof h);
            for (int k = 0; k < 2; k++) { h[k].msg_hdr.msg_iov = v + k; h[k].msg_hdr.msg_iovlen = 1; }
            total += sendmmsg(sockets[0], h, 2, 0) * 5000;
            n = recvmmsg(sockets[1], h, 2, 0, 0);
        }
    }
    if (!strcmp(mode, "process_vm")) {
        struct iovec to = {bytes, SIZE / 2}, from = {bytes + SIZE / 2, SIZE / 2};
        total = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
    }
    printf("%s %ld\n", mode, total);
    return 0;
}
