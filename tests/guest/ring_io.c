/* Reads and writes of a file by an io_uring: ring_io FILE MODE prints the bytes moved. MODE: plain, polled (a kernel thread submits), vectors,
 * fixed (registered buffers), linked, threads (one waits, one submits), socket (send and recv), none (the ring is made, nothing is done). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SIZE = 65536, TIMES = 16 };
static int ring;
static unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask, *sq_flags;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static char bytes[SIZE];
static int is_polled;

static int make(unsigned flags) {
    struct io_uring_params p = {.flags = flags, .sq_thread_idle = 50};
    ring = (int)syscall(SYS_io_uring_setup, 16, &p);
    if (ring < 0) return errno;
    char *sq = mmap(0, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    char *cq = mmap(0, p.cq_off.cqes + p.cq_entries * sizeof *cqes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
    sqes = mmap(0, p.sq_entries * sizeof *sqes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    sq_tail = (unsigned *)(sq + p.sq_off.tail);
    sq_mask = (unsigned *)(sq + p.sq_off.ring_mask);
    sq_array = (unsigned *)(sq + p.sq_off.array);
    sq_flags = (unsigned *)(sq + p.sq_off.flags);
    cq_head = (unsigned *)(cq + p.cq_off.head);
    cq_tail = (unsigned *)(cq + p.cq_off.tail);
    cq_mask = (unsigned *)(cq + p.cq_off.ring_mask);
    cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
    return 0;
}

static void put(int op, int fd, const void *address, unsigned length, long offset, unsigned flags) {
    unsigned tail = *sq_tail, at = tail & *sq_mask;
    struct io_uring_sqe *s = &sqes[at];
    memset(s, 0, sizeof *s);
    s->opcode = op;
    s->fd = fd;
    s->addr = (unsigned long)address;
    s->len = length;
    s->off = offset;
    s->flags = flags;
    sq_array[at] = at;
    atomic_store_explicit((_Atomic unsigned *)sq_tail, tail + 1, memory_order_release);
}

static int enter(unsigned submit, unsigned wait) {
    if (!is_polled) return (int)syscall(SYS_io_uring_enter, ring, submit, wait, wait ? IORING_ENTER_GETEVENTS : 0, 0, 0);
    if (atomic_load((_Atomic unsigned *)sq_flags) & IORING_SQ_NEED_WAKEUP) syscall(SYS_io_uring_enter, ring, 0, 0, IORING_ENTER_SQ_WAKEUP, 0, 0);
    return 0;
}

/* The next completion's result; waits by looking where a kernel thread works. */
static long next(void) {
    while (*cq_head == atomic_load((_Atomic unsigned *)cq_tail)) { if (is_polled) usleep(100); else enter(0, 1); }
    long result = cqes[*cq_head & *cq_mask].res;
    atomic_store_explicit((_Atomic unsigned *)cq_head, *cq_head + 1, memory_order_release);
    return result;
}

static void *submits(void *unused) {
    usleep(200000);
    put(IORING_OP_NOP, -1, 0, 0, 0, 0);
    enter(1, 0);
    return unused;
}

int main(int argc, char **argv) {
    const char *mode = argc > 2 ? argv[2] : "plain";
    long total = 0;
    is_polled = !strcmp(mode, "polled");
    int error = make(is_polled ? IORING_SETUP_SQPOLL : 0);
    if (error) { printf("no ring: %s\n", strerror(error)); return 3; }
    int fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    memset(bytes, 'x', sizeof bytes);
    if (!strcmp(mode, "none")) { printf("bytes 0\n"); return 0; }
    if (!strcmp(mode, "threads")) {
        pthread_t thread;
        pthread_create(&thread, 0, submits, 0);
        printf("waited %ld\n", next());
        pthread_join(thread, 0);
    }
    if (!strcmp(mode, "socket")) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) return 2;
        for (int i = 0; i < TIMES; i++) {
            put(IORING_OP_SEND, ends[0], bytes, 4096, 0, 0);
            put(IORING_OP_RECV, ends[1], bytes, 4096, 0, IOSQE_ASYNC);
            enter(2, 2);
            total += next() + next();
        }
        printf("bytes %ld\n", total);
        return 0;
    }
    struct iovec two[2] = {{bytes, SIZE / 2}, {bytes + SIZE / 2, SIZE / 2}}, one = {bytes, SIZE};
    int is_fixed = !strcmp(mode, "fixed");
    if (is_fixed && syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &one, 1)) return 2;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < TIMES; i++) {
            long offset = (long)i * SIZE;
            if (!strcmp(mode, "vectors")) put(k ? IORING_OP_READV : IORING_OP_WRITEV, fd, two, 2, offset, 0);
            else if (is_fixed) put(k ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED, fd, bytes, SIZE, offset, 0);
            else put(k ? IORING_OP_READ : IORING_OP_WRITE, fd, bytes, SIZE, offset, !strcmp(mode, "linked") ? IOSQE_IO_LINK : 0);
            if (!strcmp(mode, "linked")) { put(IORING_OP_FSYNC, fd, 0, 0, 0, 0); enter(2, 2); total += next() + next(); continue; }
            enter(1, 1);
            total += next();
        }
    printf("bytes %ld\n", total);
    return 0;
}
